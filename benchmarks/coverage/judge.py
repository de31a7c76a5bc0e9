"""Judge a case: resize its export to every target, and compare with the network that should have come out."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import bot_onnx
from benchmarks.coverage import oracle
from benchmarks.coverage.case import Case, Row, Target
from benchmarks.coverage.exporting import NotExportable, cached_export, trained_values
from bot_onnx._runs.runtime import session
from bot_onnx._structure import Structure
from bot_onnx.errors import BotError, DimError, VerifyError, said

TOLERANCE = 1e-3

#: Roles of dims that a resize leaves alone: what an input or output brings, a kernel's taps, numbers of things.
_FIXED = ("io", "out", "spatial", "count", "vocab", "positions", "experts", "head_dim", "v_head_dim",
          "half_head_dim", "group")  # fmt: skip


@dataclass(slots=True)
class _Bench:
    """What the targets of one case and exporter share."""

    case: Case
    exporter: str
    cache: Path
    source: Path
    scratch: Path
    export_seconds: float = 0.0
    structures: dict[Path, Structure] = field(default_factory=dict)

    def structure(self, path: Path) -> Structure:
        """Structure of a file that no longer changes, read once."""
        if path not in self.structures:
            self.structures[path] = oracle.analysis_of(path).structure
        return self.structures[path]

    def export(self, target: Target, seed: int = 0) -> Path:
        """The native export of a target; its time is booked apart."""
        assert target.native is not None
        started = time.process_time()
        path = cached_export(target.native, self.exporter, self.cache, seed)
        self.export_seconds += time.process_time() - started
        return path


def judge(case: Case, exporter: str, targets: Sequence[str], cache: Path) -> Iterator[Row]:
    """Yield a row for every target.

    Args:
        case: what to build.
        exporter: one of the case's exporters.
        targets: names of the case's targets.
        cache: folder of the exports.
    """
    rows = {name: Row(case.suite, case.name, exporter, name, "failed") for name in targets}
    started = time.process_time()
    try:
        source = cached_export(case.source, exporter, cache)
    except NotExportable as error:
        for row in rows.values():
            yield replace(row, status="not exportable", detail=str(error))
        return
    exported = time.process_time() - started
    for name, row in rows.items():
        started = time.process_time()
        with tempfile.TemporaryDirectory(prefix="bot-onnx-coverage-") as folder:
            bench = _Bench(case, exporter, cache, source, Path(folder), exported)
            outcome = _outcome(bench, row, case.targets[name])
        seconds = time.process_time() - started - (bench.export_seconds - exported)
        yield replace(outcome, seconds=round(seconds, 2), export_seconds=round(bench.export_seconds, 2))
        exported = 0.0


def _outcome(bench: _Bench, row: Row, target: Target) -> Row:
    """Resize and compare; every error becomes a row."""
    out = bench.scratch / "resized.onnx"
    try:
        plan = bot_onnx.resize(bench.source, _spec(bench.source, target), out).plan
        row = replace(row, proven=plan.proof.status, kept=plan.promise.kept)
    except DimError as error:
        frozen = "frozen" in str(error)
        return replace(row, status="frozen" if frozen else "refused", detail=_short(error))
    except VerifyError as error:
        return replace(row, status="failed", detail=f"verification: {_short(error)}")
    except BotError as error:
        return replace(row, status="refused", detail=_short(error))
    except Exception as error:
        return replace(row, status="failed", detail=_crash(error))
    try:
        return _against_native(bench, row, target, out) if target.native else _by_growth(bench, row, out)
    except NotExportable as error:
        weaker = _by_growth(bench, row, out)
        return replace(weaker, detail=weaker.detail or f"no native export of the target: {str(error)[:120]}")


def _spec(source: Path, target: Target) -> dict[str, Any]:
    """The target's spec; ``"layers": "half"`` halves every chain of the source that can be resized."""
    spec = dict(target.spec)
    if spec.get("layers") == "half":
        del spec["layers"]
        chains = bot_onnx.inspect(source).structure.chains
        halves = {chain.name: (chain.count + 1) // 2 for chain in chains if chain.resizable is None}
        if halves:
            spec["layers"] = halves
    return spec


def _against_native(bench: _Bench, row: Row, target: Target, out: Path) -> Row:
    exported = bench.export(target)
    row = replace(row, proof="native")
    try:
        ours, native = oracle.analysis_of(out), oracle.analysis_of(exported)
        bench.structures |= {out: ours.structure, exported: native.structure}
        trained = trained_values(exported)
        fixed = oracle.untrained_that_differ(ours, native, trained)
        if fixed:
            again = oracle.analysis_of(bench.export(target, seed=1))
            computed = oracle.differs_between_seeds(set(fixed), native, again)
            fixed = {name: mine for name, mine in fixed.items() if name not in computed}
        if fixed:
            name, mine = next(iter(fixed.items()))
            return replace(row, status="wrong", detail=f"table {mine} ({name}) has other values than the native one")
        far = oracle.distance(
            oracle.run_at_two_sizes(out), oracle.run_at_two_sizes(oracle.transplant(ours, native, trained))
        )  # fmt: skip
    except oracle.UnlikeNativeError as error:
        stuck = _stuck(bench.structure(out))
        if stuck:
            return replace(row, status="frozen", detail=stuck)
        # The sweeps' native sizes are guesses: rounding may make them another network. And some exporters write another
        # graph at another size: what they fold depends on the number of elements.
        if bench.case.suite != "listed" or _forms(bench.structure(bench.source)) != _forms(bench.structure(exported)):
            weaker = _by_growth(bench, row, out)
            return replace(
                weaker, detail="; ".join(filter(None, [weaker.detail, f"unlike the native one: {error}"[:200]]))
            )
        return replace(row, status="wrong", detail=str(error)[:300])
    except Exception as error:
        return replace(row, status="wrong", detail=f"cannot be compared: {_crash(error)}")
    if not far <= TOLERANCE:
        return replace(row, status="wrong", distance=far, detail=f"outputs differ by {far:.1e}")
    return replace(row, status="equal", distance=far)


def _forms(structure: Structure) -> list[int]:
    """Rank of the tensors of every stack: the same for two sizes of a network that are exported alike."""
    return [len(stack.shape) for stack in structure.stacks]


def _by_growth(bench: _Bench, row: Row, out: Path) -> Row:
    """Without a native target: what was written has passed its checks; grown without loss, its outputs stay."""
    row = replace(row, proof="growth")
    stuck = _stuck(bench.structure(out))
    try:
        far, kept = _growth(bench, out, _Kept())
        if far > TOLERANCE and kept:
            far, _ = _growth(bench, out, kept)
    except AssertionError as error:
        return replace(row, status="wrong", detail=f"grown by duplication: {error}")
    except BotError as error:
        return replace(row, status="frozen" if stuck else "refused", detail=stuck or f"growing: {_short(error)}")
    except Exception as error:
        return replace(row, status="failed", detail=f"growing: {_crash(error)}")
    if not far <= TOLERANCE:
        return replace(row, status="wrong", distance=far, detail=f"growing by duplication changes outputs by {far:.1e}")
    return replace(row, status="frozen" if stuck else "equal", distance=far, detail=stuck)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What follows the width by a formula, and is right in the larger network, but makes it another function.

    Attributes:
        constants: scalar factors (√hidden on embeddings) by node. tables: names of tables of sines and cosines.
    """

    constants: dict[str, float] = field(default_factory=dict)
    tables: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.constants or self.tables)


def _growth(bench: _Bench, out: Path, kept: _Kept) -> tuple[float, _Kept]:
    """Grow a file by duplication, some of its factors and tables those of the small one.

    Returns:
        How far the outputs move, and what followed the width by a formula.
    """
    grown = bench.scratch / "grown.onnx"
    spec = {"width": 2.0} | ({"constants": kept.constants} if kept.constants else {})
    result = bot_onnx.resize(out, spec, grown, method="net2net", options={"mapping": "cyclic"}, force=True)
    fed = oracle.fed_at_two_sizes(oracle.unsquashed(out))
    large = oracle.unsquashed(grown)
    _tile_tables(large, out, kept.tables)
    before, runner = [outputs for _, outputs in fed], session(large.SerializeToString())
    ports = {port.name: port.shape for port in runner.get_inputs()}
    after = [
        runner.run(None, {name: _repeated(values, ports[name]) for name, values in given.items() if name in ports})
        for given, _ in fed
    ]
    tiled = [[_tiled(a, b) for a, b in zip(*runs, strict=True)] for runs in zip(before, after, strict=True)]
    factors = {
        patch.place.partition(" ")[2]: patch.old for patch in result.plan.constants if "sqrt(hidden" in patch.reason
    }  # fmt: skip
    tables = [stack.targets for stack in result.plan.stacks if (stack.closed_form or "").startswith("sinusoids")]
    return oracle.distance(tiled, after), _Kept(factors, tuple(name for names in tables for name in names))


def _tile_tables(large: onnx.ModelProto, small: Path, names: Sequence[str]) -> None:
    """Put the small file's tables into the large one, repeated like the channels."""
    held = {tensor.name: tensor for tensor in onnx.load(small).graph.initializer}
    for tensor in large.graph.initializer:
        if tensor.name in names:
            tiled = _repeated(numpy_helper.to_array(held[tensor.name]), tensor.dims)
            tensor.CopyFrom(numpy_helper.from_array(tiled, tensor.name))


def _repeated(values: np.ndarray[Any, Any], shape: Sequence[int | str]) -> np.ndarray[Any, Any]:
    """Repeat an array along the axes that have grown (states and caches, as inputs, are as wide as the network)."""
    times = [
        size // have if isinstance(size, int) and have else 1 for size, have in zip(shape, values.shape, strict=True)
    ]
    return np.tile(values, times)


def _tiled(small: np.ndarray[Any, Any], large: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Repeat an output along the axes that have grown, the way a cyclic duplication does.

    An axis that joins some results repeats each of them. Where both files normalise along such an axis (embeddings for
    a cosine), the repeated vectors have length 1 again.
    """
    if small.ndim != large.ndim:
        return small
    times = [max(1, b // max(a, 1)) for a, b in zip(small.shape, large.shape, strict=True)]
    tiled = small
    for axis, many in enumerate(times):
        joined = [count for count in _JOINED if small.shape[axis] % count == 0] if many > 1 else [1]
        ways = [_repeat_parts(tiled, axis, many, count) for count in joined]
        cut = tuple(slice(size) for size in ways[0].shape)
        tiled = min(ways, key=lambda way: _gap(way, large[cut])) if len(ways) > 1 else ways[0]
    for axis, many in enumerate(times):
        if many > 1 and _unit_vectors(small, axis) and _unit_vectors(large, axis):
            tiled = tiled / np.sqrt(many)
    return tiled


_JOINED = (1, 2, 3)  #: numbers of equal results that an output may join along an axis


def _repeat_parts(values: np.ndarray[Any, Any], axis: int, many: int, count: int) -> np.ndarray[Any, Any]:
    """Repeat each of ``count`` equal parts of an axis as a whole."""
    parts = np.split(values, count, axis=axis)
    repeats = [many if place == axis else 1 for place in range(values.ndim)]
    return np.concatenate([np.tile(part, repeats) for part in parts], axis=axis)


def _gap(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """How far two arrays are apart; infinite where they cannot be compared."""
    if a.shape != b.shape or not a.size or a.dtype.kind not in "fiub":
        return float("inf")
    return float(np.nan_to_num(np.abs(a.astype(np.float64) - b.astype(np.float64)), nan=0, posinf=0).mean())


def _unit_vectors(values: np.ndarray[Any, Any], axis: int) -> bool:
    return values.size > 0 and np.allclose(np.linalg.norm(values, axis=axis), 1, atol=1e-4)


def _stuck(structure: Structure) -> str:
    """Frozen channel dims of the weights, with the first reason; empty if there are none."""
    frozen = [
        dim for dim in structure.dims.values()
        if dim.frozen is not None and dim.kind == "leaf" and dim.role not in _FIXED and dim.occurrences
    ]  # fmt: skip
    if not frozen:
        return ""
    names = ", ".join(dim.name for dim in frozen[:4]) + (f" and {len(frozen) - 4} more" if len(frozen) > 4 else "")
    return f"{names}: {said(frozen[0].frozen)}"[:300]


def _short(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error)).strip()[:300]


def _crash(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}: {_short(error)[:200]}{where}"
