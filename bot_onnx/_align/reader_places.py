"""Where a weight that reads chosen units stands: what it reads, and what takes a constant that is added to its result.

A weight can make up for what it no longer reads if it is one matrix (of a MatMul, a Gemm), or the kernel of a
convolution, a matrix per tap, that reads one value, once, and if what stays of that value does not depend on what
goes: no op between the units and the weight may normalise over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from bot_onnx._align.axes import leaves_of
from bot_onnx._align.stream_labels import bias_of
from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops import Axes, linear_of, passes_on, record, works_place_by_place
from bot_onnx._patterns.parameters import Parameter
from bot_onnx._runs.watched import hidden_in_bodies
from bot_onnx._structure import Stack


@dataclass(frozen=True, slots=True)
class Taker:
    """A tensor that takes a constant: a bias, or (with sign -1) the mean that a batch normalisation takes off."""

    name: str
    sign: float = 1.0


@dataclass(frozen=True, slots=True)
class ReaderPlace:
    """One weight and what it reads.

    Attributes:
        weight: its name. inner, outer: its axes that are contracted, and that it makes.
        value: what it reads. axis: of the value, along which the units lie. dim: id of the dim there.
        strides: of a convolution, along the axes behind the channels: the positions that are read.
        taker: takes a constant added to the result; None: nothing does, or it is none at the border, where zeros are
            read in the place of what stays and of what goes.
    """

    weight: str
    inner: int
    outer: int
    value: str
    axis: int
    dim: str
    strides: tuple[int, ...] = ()
    taker: Taker | None = None


class Unsuited(Exception):
    """A weight that is left as it is; the message says why, behind a name."""


def reader_place(
    analysis: Analysis, parameter: Parameter, stack: Stack, inner: int, scaling: str | None
) -> ReaderPlace:
    """What a weight reads, and how.

    Args:
        analysis: of the source, before a resize changes its graph.
        parameter: the weight. stack: its own. inner: the axis that is contracted.
        scaling: name of the mean of the batch normalisation that alone reads its result, or None.

    Raises:
        Unsuited: it cannot make up for anything.
    """
    outer = _other_axis(stack, inner)
    if len(parameter.uses) != 1:
        raise Unsuited("is used more than once")
    node, slot = parameter.uses[0]
    linear = linear_of(node)
    if linear is None or linear.form not in ("product", "kernel") or slot > 1 or (linear.form == "kernel" and not slot):
        raise Unsuited(f"is read by {node.op_type}, which is not looked into")
    kernel = linear.form == "kernel"
    if kernel and (linear.contracted != 1 or node.attributes.get_int("group", 1) != 1):
        raise Unsuited("is a transposed or a grouped convolution")
    value = node.inputs[1 - slot]
    axes = [] if value is None else _axes(analysis, value, stack.axes[inner] or "")
    if value is None or len(axes) != 1:
        raise Unsuited("reads what cannot be told apart")
    name = value.name or ""
    if hidden_in_bodies(analysis.model.graph, [name]) is not None:
        raise Unsuited("lies in a branch or a loop")
    behind = kernel or slot == 1  # else what it makes does not lie along the last axis
    constant = behind and not (kernel and _reads_beyond(node))
    taker = _taker(analysis, node, stack.axes[outer] or "", scaling) if constant else None
    strides = _strides(node, stack) if kernel else ()
    return ReaderPlace(parameter.name, inner, outer, name, axes[0], stack.axes[inner] or "", strides, taker)


def _other_axis(stack: Stack, inner: int) -> int:
    outer = [axis for axis, size in enumerate(stack.shape) if size > 1 and stack.directions[axis] == "out"]
    others = [axis for axis, size in enumerate(stack.shape) if size > 1 and axis not in (inner, *outer)]
    if len(outer) != 1 or not set(others) <= set(_taps(stack)):
        raise Unsuited("makes a single channel" if stack.kind == "kernel" else "is no single matrix")
    return outer[0]


def _taps(stack: Stack) -> list[int]:
    return [axis for axis, way in enumerate(stack.directions) if way == "none" and stack.kind == "kernel"]


def _reads_beyond(node: ir.Node) -> bool:
    pads = node.attributes.get("pads")
    padded = node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return padded or (pads is not None and any(pads.as_ints()))


def _strides(node: ir.Node, stack: Stack) -> tuple[int, ...]:
    """Strides of a convolution of a single tap; several taps read what lies between as well."""
    strides = node.attributes.get("strides")
    single = all(stack.shape[axis] == 1 for axis in _taps(stack))
    return tuple(strides.as_ints()) if single and strides is not None else ()


def _axes(analysis: Analysis, value: ir.Value, wanted: str) -> list[int]:
    table = analysis.context.table
    dims = analysis.context.axes_of(value)
    return [axis for axis, dim in enumerate(dims) if dim is not None and analysis.ids.get(table.find(dim)) == wanted]


def _taker(analysis: Analysis, node: ir.Node, dim: str, scaling: str | None) -> Taker | None:
    """What takes a constant along what the weight makes, if it is that weight's alone."""
    if any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    bias = bias_of(node)
    name, sign = (bias, 1.0) if bias is not None else (scaling, -1.0)
    value = analysis.model.graph.initializers.get(name or "")
    if name is None or value is None or not _lies_along(analysis, value, dim):
        return None
    return Taker(name, sign) if len(tuple(value.uses())) == 1 else None


def _lies_along(analysis: Analysis, value: ir.Value, dim: str) -> bool:
    """Whether a tensor has the indices of a dim and no others, in their order, on whatever axes."""
    table, dims = analysis.context.table, analysis.structure.dims
    found: list[str] = []
    for axis in analysis.context.axes_of(value):
        ident = None if axis is None else analysis.ids.get(table.find(axis))
        if ident is not None and dims[ident].size > 1:
            found += leaves_of(analysis.structure, ident)
    size = value.const_value.size if value.const_value is not None else 0
    return bool(found) and found == leaves_of(analysis.structure, dim) and size == dims[dim].size


def normalised(analysis: Analysis) -> dict[str, str]:
    """Leaves along which an op mixes what stays with what goes, and the first such op: norms, means, softmaxes."""
    found: dict[str, str] = {}
    for node in analysis.model.graph:
        for value in node.inputs:
            if value is None or value.const_value is not None:
                continue
            for axis in _mixed(analysis, node, value):
                for leaf in _leaves(analysis, value, axis):
                    found.setdefault(leaf, f"{node.op_type} (node '{node.name}')")
    return found


def _leaves(analysis: Analysis, value: ir.Value, axis: int) -> Iterator[str]:
    dim = analysis.context.axes_of(value)[axis]
    ident = None if dim is None else analysis.ids.get(analysis.context.table.find(dim))
    yield from leaves_of(analysis.structure, ident) if ident is not None else ()


def _mixed(analysis: Analysis, node: ir.Node, value: ir.Value) -> list[int]:
    """Axes of an operand whose elements a result depends on together, but for linear maps."""
    op, dims = record(node), analysis.context.axes_of(value)
    rank = len(dims)
    if op.linear is not None or op.attention or passes_on(node) or works_place_by_place(op) or op.measures:
        return []
    if op.norm is not None:
        first = node.attributes.get_int("axis", -1) % rank if rank else 0
        over = {"trailing": range(first, rank), "groups": range(1, 2), "space": (), "batch": ()}[op.norm.over]
        return [axis for axis in over if axis < rank]
    if op.reduction is not None and (op.reduction.spatial or op.reduction.windows):
        return []
    if op.axes is Axes.REDUCED:
        table = analysis.context.table
        after = {table.find(dim) for dim in analysis.context.axes_of(node.outputs[0]) if dim is not None}
        return [axis for axis, dim in enumerate(dims) if dim is not None and table.find(dim) not in after]
    if op.distribution:
        return [node.attributes.get_int("axis", -1) % rank] if rank else []
    return list(range(rank))
