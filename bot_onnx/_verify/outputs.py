"""What the outputs of a run are: which axis means what, are they finite, have they the shapes that were inferred."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops import (
    FORM,
    IN_ORDER,
    MARKS,
    Calc,
    Move,
    computes,
    data_slots,
    function_of,
    is_bounded,
    passes_on,
    record,
    reduces,
)
from bot_onnx._ops.walk import backward
from bot_onnx._structure import Role
from bot_onnx._verify.feeding import Feeds
from bot_onnx._verify.types import Check
from bot_onnx._verify.validity import Shapes

#: What differences of results near 1 are measured by at least: they are as exact as these (2e-7).
_LEAST_SCALE = 1e-2
_SHOWN = 3
_ALONG_ONE = 13  # opset from which a Softmax is along one axis, the last where none is given


@dataclass(frozen=True, slots=True)
class OutputAxes:
    """What the analysis says of an output.

    Attributes:
        roles: role per axis, None where no weight has the axis (batch, sequence).
        logits: the last axis holds logits: of a ``vocab`` or ``out`` dim, bound by no function and no shares.
        least_scale: what differences are measured by at least; 0: by the largest value, however small it is.
        chances: the last axis holds probabilities of a ``vocab`` or ``out`` dim, which sum to one.
    """

    roles: tuple[str | None, ...]
    logits: bool
    least_scale: float = 0.0
    chances: bool = False


def output_axes(analysis: Analysis) -> dict[str, OutputAxes]:
    """Describe the outputs of an analysed graph, by name."""
    described: dict[str, OutputAxes] = {}
    table, dims = analysis.context.table, analysis.structure.dims
    for value in analysis.model.graph.outputs:
        found = [
            None if axis is None else dims.get(analysis.ids.get(table.find(axis), ""))
            for axis in analysis.context.axes_of(value)
        ]
        roles = tuple(None if dim is None else dim.role for dim in found)
        last = _last_node(value, IN_ORDER)
        bounded = last is not None and is_bounded(last)
        classes = bool(roles) and roles[-1] in (Role.VOCAB, Role.OUT)
        chances = classes and last is not None and _sums_to_one(last, len(roles))
        bounded = bounded or chances
        least = _LEAST_SCALE if _holds_chances(value) else 0.0
        described[value.name or ""] = OutputAxes(roles, classes and not bounded, least, chances)
    return described


def _sums_to_one(last: ir.Node, rank: int) -> bool:
    """Whether ``last`` gives shares along the last of ``rank`` axes: a Softmax, or what one is written with."""
    if record(last).distribution:
        flattens = last.domain == "" and (last.version or _opset(last)) < _ALONG_ONE
        return last.attributes.get_int("axis", 1 if flattens else -1) in (-1, rank - 1)
    given = last.inputs[0].producer() if last.inputs and last.inputs[0] is not None else None
    if given is None:
        return False
    if last.op_type == "Exp":
        return given.op_type == "LogSoftmax" and given.attributes.get_int("axis", -1) in (-1, rank - 1)
    total = last.inputs[1].producer() if computes(last, Calc.QUOTIENT) and last.inputs[1] is not None else None
    if total is None or given.op_type != "Exp" or not reduces(total, "sum") or total.inputs[0] is not last.inputs[0]:
        return False
    return total.attributes.get_int("keepdims", 1) == 1 and _axes(total) in ([-1], [rank - 1])


def _opset(node: ir.Node) -> int:
    graph = node.graph
    return (graph.opset_imports.get("") if isinstance(graph, ir.Graph) else None) or _ALONG_ONE


def _axes(node: ir.Node) -> list[int]:
    """Axes of a reduction, by its input or its attribute."""
    given = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    return list(node.attributes.get_ints("axes", ())) if given is None else given.numpy().reshape(-1).tolist()


def _holds_chances(value: ir.Value) -> bool:
    """Whether a value is results near 1, and maybe constants, moved alone: side by side, chosen by a mask or an If."""
    made = backward(value, _moves, _moved)
    ends = [end.producer() for end in made if end.const_value is None]
    ends = [node for node in ends if node is None or not _moves(node)]
    return bool(ends) and all(map(_lies_near_one, ends))


def _moves(node: ir.Node) -> bool:
    return passes_on(node, FORM | Move.PICKED | Move.CHOSEN | Move.JOINED) or _chooses_branch(node)


def _moved(node: ir.Node) -> list[ir.Value | None]:
    if _chooses_branch(node):  # behind the condition, what both branches give
        return list(node.inputs[1:])
    return [node.inputs[slot] for slot in data_slots(node)]


def _chooses_branch(node: ir.Node) -> bool:
    return node.domain == MARKS and node.op_type == "If"


def _lies_near_one(node: ir.Node | None) -> bool:
    """Whether a node gives half and a bit, or one less a bit, for small numbers: a Sigmoid."""
    function = None if node is None else function_of(node)
    return node is not None and function is not None and not function.zero and is_bounded(node)


def _last_node(value: ir.Value, passed: Move) -> ir.Node | None:
    """The node that computed a value, in whatever form of ``passed`` it is."""
    node = value.producer()
    while node is not None and passes_on(node, passed) and node.inputs and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


def check_outputs(
    feeds: Sequence[Feeds],
    results: Sequence[Mapping[str, Any]],
    inferred: Shapes,
    *,
    allow_nonfinite: bool,
    alike: Container[str] = (),
) -> list[Check]:
    """Two checks: all outputs finite (unless allowed otherwise); shapes as inferred.

    Args:
        feeds, results: of the runs. inferred: shapes by output.
        allow_nonfinite: let NaN and infinities pass.
        alike: outputs that are NaN or infinite where the source's are, on the same inputs: no fault of the file.
    """
    infinite = {
        name: int(array.size - np.isfinite(array).sum())
        for outputs in results
        for name, array in outputs.items()
        if is_float(array) and not np.isfinite(array).all()
    }
    sizes = " and ".join(_shape(next(iter(fed.values())).shape) for fed in feeds if fed) or "no inputs"
    if infinite:
        told = ", ".join(f"{name!r} ({count})" for name, count in list(infinite.items())[:_SHOWN])
        where = f"NaN or infinite values in {told}, at input sizes {sizes}"
        if all(name in alike for name in infinite):
            finite = Check("outputs", "info", f"{where}: the source's outputs have the same")
        else:
            finite = Check("outputs", "skip" if allow_nonfinite else "fail", where)
    else:
        finite = Check("outputs", "pass", f"{len(results[0])} outputs finite at input sizes {sizes}")
    return [finite, _shapes(results, inferred)]


def _shapes(results: Sequence[Mapping[str, Any]], inferred: Shapes) -> Check:
    faults = []
    for name, expected in inferred.items():
        for outputs in results:
            shape = getattr(outputs.get(name), "shape", None)
            if shape is not None and not _fits(shape, expected):
                declared = _shape(["?" if size is None else size for size in expected])
                faults.append(f"{name!r} is {declared} by declaration or inference, but {_shape(shape)} when run")
                break
    if faults:
        return Check("output shapes", "fail", "; ".join(faults[:_SHOWN]))
    told = ", ".join(f"{name} {_shape(array.shape)}" for name, array in _arrays(results[0])[:_SHOWN])
    return Check("output shapes", "pass", told or "no tensors among the outputs")


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))


def _arrays(outputs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, array) for name, array in outputs.items() if isinstance(array, np.ndarray)]


def _shape(shape: Sequence[object]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def is_float(value: Any) -> bool:
    """Whether an output is an array of floating-point numbers."""
    return isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype.name == "bfloat16")
