"""Shapes that a file declares for its outputs, held against those that were seen when it ran."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._canonical.spelling.seen import Observation
from bot_onnx._runs.inputs import Pair

#: Outputs named one by one in a note.
_SHOWN = 3


def correct_outputs(graph: ir.Graph, observed: Observation) -> tuple[str, ...]:
    """Give outputs that ran with another shape than they were declared with the shape that ran, in place.

    So do outputs that were declared without a shape. An axis whose size differs between the runs is open, and keeps
    the name it was declared with.

    Returns:
        A note, where there was such an output.
    """
    wrong: list[str] = []
    for value in graph.outputs:
        seen = observed.shapes.get(value.name or "")
        if seen is not None and value.shape is None:
            value.shape = ir.Shape([a if a == b else None for a, b in seen])
        if seen is None or value.shape is None or _fits(value.shape, seen):
            continue
        declared = list(value.shape.dims) if len(value.shape) == len(seen) else [None] * len(seen)
        kept = [dim if isinstance(dim, ir.SymbolicDim) else None for dim in declared]
        told = f"{value.name!r} as {_shown(value.shape)}, which is {_sizes(seen)} when it runs"
        value.shape = ir.Shape([a if a == b else kept[axis] for axis, (a, b) in enumerate(seen)])
        wrong.append(told)
    if not wrong:
        return ()
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return (f"Shapes that are not those of a run were declared: {'; '.join(wrong[:_SHOWN])}{more}. Corrected.",)


def _fits(declared: ir.Shape, seen: tuple[Pair, ...]) -> bool:
    if len(declared) != len(seen):
        return False
    return all(not isinstance(dim, int) or dim == a == b for dim, (a, b) in zip(declared.dims, seen, strict=True))


def _shown(shape: ir.Shape) -> str:
    return "x".join(str(dim) if isinstance(dim, int) else str(dim.value or "?") for dim in shape.dims) or "a scalar"


def _sizes(seen: tuple[Pair, ...]) -> str:
    return "x".join(str(a) if a == b else f"({a} or {b})" for a, b in seen) or "a scalar"
