"""Two files on the same inputs: how far their outputs are apart, and how long each takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._quantise.types import Closeness, Cost
from bot_onnx._runs.runtime import session
from bot_onnx._verify.feeding import Feeds
from bot_onnx.errors import GraphError, MissingRuntimeError, VerifyError

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


def costs(files: Mapping[str, Path], feeds: Feeds) -> tuple[Cost, ...]:
    """Size and latency of every file: medians of runs in turn, so that all meet the same load."""
    runners: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for what, path in files.items():
        try:
            runners[what] = open_file(path)
            runners[what].run(None, feeds)
        except (VerifyError, GraphError) as error:
            failed[what] = str(error)
        except MissingRuntimeError:
            raise
        except Exception as error:
            failed[what] = f"it does not run on these inputs: {one_line(error)}"
    times: dict[str, list[float]] = {what: [] for what in runners if what not in failed}
    for _ in range(RUNS[1]):
        for what, taken in times.items():
            if len(taken) < RUNS[0] or sum(taken) < SECONDS:
                started = time.perf_counter()
                runners[what].run(None, feeds)
                taken.append(time.perf_counter() - started)
    return tuple(
        Cost(what, length(path), statistics.median(times[what]) if what in times else None, failed.get(what))
        for what, path in files.items()
    )


def length(path: Path) -> int:
    """Bytes of a model and of its data files."""
    return sum(file.stat().st_size for file in (path, *named_files(path)))
