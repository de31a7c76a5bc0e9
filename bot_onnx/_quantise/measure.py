"""Two files on the same inputs: how far their outputs are apart, and how long each takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._quantise.types import Closeness, Spent
from bot_onnx._runs.runtime import session
from bot_onnx._runs.timing import median_times
from bot_onnx._verify.feeding import Feeds
from bot_onnx.errors import MissingRuntimeError, VerifyError

RUNS: Final = (5, 31)  #: fewest and most runs of a file that its median is of
SECONDS: Final = 1.0  #: that a file is run for, if it takes no fewer runs than the fewest
_THREADS: Final = 1


@dataclass(slots=True)
class _Sums:
    """Of one output over all batches."""

    difference: float = 0.0
    scale: float = 0.0
    same: int = 0
    rows: int = 0
    ranked: bool = True
    apart: bool = False
    lost: int = field(default=0)  # not finite, where the floats are

    def add(self, plain: NDArray[Any], packed: NDArray[Any]) -> None:
        if plain.shape != packed.shape:
            self.apart = True
            return
        floats = plain.dtype.kind == "f"
        a, b = (array.astype(np.float64) for array in (plain, packed))
        whole = np.isfinite(a)
        self.lost += int((whole & ~np.isfinite(b)).sum())
        both = whole & np.isfinite(b)
        self.difference = max(self.difference, float(np.abs(a - b)[both].max(initial=0.0)) if both.any() else 0.0)
        self.scale = max(self.scale, float(np.abs(a)[whole].max(initial=0.0)))
        if not floats or a.ndim == 0 or a.shape[-1] < 2:
            self.ranked = False
            return
        self.rows += a.size // a.shape[-1]
        self.same += int((a.argmax(axis=-1) == b.argmax(axis=-1)).sum())


def open_file(path: Path) -> Any:
    """A session as its users run it, pinned to one thread.

    Raises:
        VerifyError: onnxruntime refuses the file.
    """
    try:
        return session(str(path), optimise=True, threads=_THREADS)
    except MissingRuntimeError:
        raise
    except Exception as error:  # onnxruntime's errors have no public base class
        raise VerifyError(f"onnxruntime refuses what the quantiser made: {one_line(error)}") from error


def closeness(plain: Any, packed: Any, batches: Iterable[Feeds], kind: str) -> tuple[Closeness, ...]:
    """Compare every output of two sessions on the same inputs.

    Args:
        plain: of the floats. packed: of the quantised file. batches: inputs. kind: of the file, for messages.

    Raises:
        VerifyError: the quantised file does not run, or an output is NaN or infinite where the floats' is not.
    """
    names = [output.name for output in plain.get_outputs()]
    sums = {name: _Sums() for name in names}
    for feeds in batches:
        floats = _run(plain, names, feeds)
        try:
            others = _run(packed, names, feeds)
        except Exception as error:
            raise VerifyError(f"onnxruntime cannot run what the quantiser made: {one_line(error)}") from error
        for name in names:
            a, b = floats[name], others[name]
            if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype.kind in "fiub":
                sums[name].add(a, b)
    for name, found in sums.items():
        if found.lost:
            raise VerifyError(
                f"output {name!r} in {kind} is NaN or infinite at {found.lost} places where the floats are finite: "
                "values between go beyond what it holds; quantise to another type"
            )
    return tuple(_told(name, found) for name, found in sums.items())


def _run(runner: Any, names: Sequence[str], feeds: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(names, runner.run(names, feeds), strict=True))


def _told(name: str, found: _Sums) -> Closeness:
    if found.apart:
        return Closeness(name, None, found.scale, None, None, 0)
    ranked = found.ranked and found.rows > 0
    return Closeness(
        output=name,
        max_difference=found.difference,
        scale=found.scale,
        relative=found.difference / found.scale if found.scale else None,
        agreement=found.same / found.rows if ranked else None,
        rows=found.rows if ranked else 0,
    )


def costs(files: Mapping[str, Path], batches: Sequence[Feeds]) -> tuple[Spent, ...]:
    """Size, latency and agreement of every file: medians of runs in turn, so that all meet the same load.

    Args:
        files: by what they are; the first one is what the others are held against. batches: inputs; the first is timed.
    """
    runners: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for what, path in files.items():
        try:
            runners[what] = open_file(path)
            runners[what].run(None, batches[0])
        except MissingRuntimeError:
            raise
        except Exception as error:  # onnxruntime's errors have no public base class
            failed[what] = one_line(error)
            runners.pop(what, None)
    runs = {what: partial(runner.run, None, batches[0]) for what, runner in runners.items()}
    times = median_times(runs, fewest=RUNS[0], most=RUNS[1], seconds=SECONDS)
    first = next(iter(files))
    made = []
    for what, path in files.items():
        known = what in runners and what != first and first in runners
        same = _agreement(runners[first], runners[what], batches) if known else None
        made.append(Spent(what, length(path), times.get(what), same, failed.get(what)))
    return tuple(made)


def _agreement(first: Any, other: Any, batches: Sequence[Feeds]) -> float | None:
    """Share of rows, over all outputs of one shape, whose largest element is the same."""
    theirs = {output.name for output in other.get_outputs()}
    names = [output.name for output in first.get_outputs() if output.name in theirs]
    sums = _Sums()
    for feeds in batches if names else ():
        for a, b in zip(first.run(names, feeds), other.run(names, feeds), strict=True):
            if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.shape == b.shape:
                sums.add(a, b)
    return sums.same / sums.rows if sums.rows else None


def length(path: Path) -> int:
    """Bytes of a model and of its data files."""
    return sum(file.stat().st_size for file in (path, *named_files(path)))
