"""What every parameter does: which op uses it, along which axis it is contracted, what kind of tensor that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._ops import (
    IN_ORDER,
    VIEW,
    Calc,
    Move,
    Slot,
    carries,
    computes,
    is_linear,
    is_sum,
    linear_of,
    passes_on,
    record,
    reduces,
    slot_of,
)
from bot_onnx._ops.einsum import summed_axes
from bot_onnx._ops.nodes import FLOATS, behind_views, number_in
from bot_onnx._ops.walk import behind, producer_chain, uses
from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Direction, TensorKind

#: What kind of tensor an input holds, by what it is for.
_KINDS: dict[Slot | None, TensorKind] = {
    Slot.WEIGHT: "matrix", Slot.BIAS: "bias", Slot.SCALE: "norm_scale", Slot.SHIFT: "norm_bias",
    Slot.MEAN: "norm_bias", Slot.VARIANCE: "norm_scale", Slot.STATE: "bias", Slot.GATES: "scale",
    Slot.TABLE: "embedding",
}  # fmt: skip
_REARRANGED = Move.CUT | Move.JOINED
_SETTINGS = (Slot.SETTING, Slot.SIZES)
#: What settings are put together by.
_OF_SETTINGS = (Calc.PRODUCT, Calc.QUOTIENT, Calc.SUM, Calc.DIFFERENCE, Calc.ROUNDING)
_INVERSES = (Calc.RECIPROCAL, Calc.QUOTIENT, Calc.POWER)
#: What a standard deviation is made by, of a mean of squares.
_OF_SPREADS = (
    Calc.ROOT, Calc.RECIPROCAL, Calc.POWER, Calc.SUM, Calc.QUOTIENT, Calc.DIFFERENCE, Calc.EXTREME,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parameter:
    """One float initializer and how it is used.

    Attributes:
        value: the initializer.
        uses: (node, input slot) of every op that computes with it, views skipped.
        kind, directions: see :class:`bot_onnx._structure.Stack`.
    """

    value: ir.Value
    uses: tuple[tuple[ir.Node, int], ...]
    kind: TensorKind = "other"
    directions: tuple[Direction, ...] = ()

    @property
    def name(self) -> str:
        """Name of the initializer."""
        return self.value.name or ""


def find_parameters(graph: ir.Graph, context: AxisFacts) -> dict[str, Parameter]:
    """Every float initializer with more than one element, by name, in graph order of first use."""
    found: dict[str, Parameter] = {}
    for node in graph:
        for value in node.inputs:
            if value is None or value.name in found or not is_parameter(value):
                continue
            parameter = _described(Parameter(value, tuple(_uses(value))), context)
            found[parameter.name] = parameter
    _freeze_features(found, context)
    return found


def _freeze_features(parameters: Mapping[str, Parameter], context: AxisFacts) -> None:
    """Freeze what only a constant operand brings along: the features of a table, such as its two coordinates."""
    table = context.table
    features: dict[Dim, str] = {}
    elsewhere: set[Dim] = set()
    for parameter in parameters.values():
        operand = any(_is_operand(node, slot) for node, slot in parameter.uses if is_linear(node))
        for dim, direction in zip(context.axes_of(parameter.value), parameter.directions, strict=True):
            for leaf in table.leaves(dim) if dim is not None else ():
                if operand:
                    features.setdefault(leaf, parameter.name)
                elif direction != "in":
                    elsewhere.add(leaf)
    for leaf, name in features.items():
        if leaf not in elsewhere:
            table.freeze(leaf, Reason.of(Why.FEATURES, name))


def is_positive(node: ir.Node, slot: int) -> bool:
    """Whether an input has no numbers below zero: variances of a batch normalisation, norms kept from being zero.

    An exporter works out the norm of a matrix that is normalised as the network runs, and leaves the bound behind it.
    """
    if slot_of(node, slot) is Slot.VARIANCE:
        return True
    bounds = [number_in(other) for index, other in enumerate(node.inputs) if index != slot]
    least = node.attributes.get_float("min", 0.0) if len(bounds) == 0 else bounds[0]
    return computes(node, Calc.EXTREME) and node.op_type != "Min" and least is not None and least > 0


def is_parameter(value: ir.Value) -> bool:
    """Whether a value is a float initializer with more than one element that some op computes with."""
    tensor = value.const_value
    if tensor is None or tensor.dtype not in FLOATS or tensor.size < 2:
        return False
    return not all(slot_of(usage.node, usage.idx) in _SETTINGS for usage in value.uses()) or not value.uses()


def is_setting(value: ir.Value, depth: int = 8) -> bool:
    """Whether ops read a value, or what is made of it, as a setting alone: the scales of a Resize, and their like."""
    uses = tuple(value.uses())
    if not uses or depth == 0 or value.is_graph_output():
        return False
    return all(
        slot_of(usage.node, usage.idx) in _SETTINGS
        or (
            (passes_on(usage.node) or computes(usage.node, *_OF_SETTINGS))
            and all(is_setting(o, depth - 1) for o in usage.node.outputs)
        )
        for usage in uses
    )


def parameter_behind(value: ir.Value | None) -> ir.Value | None:
    """The parameter that an operand is, or is another form of."""
    found = behind_views(value)
    return found if found is not None and is_parameter(found) else None


def offset_of(value: ir.Value) -> float:
    """The number that every op adds to a weight before its use (norms that scale by 1 + w); 0: there is none."""
    found: set[float] = set()
    for node, slot in uses(value, lambda node, slot: carries(node, slot, IN_ORDER)):
        other = node.inputs[1 - slot] if is_sum(node) and len(node.inputs) == 2 else None
        number = number_in(other)
        if number is None:
            return 0.0
        found.add(number)
    return found.pop() if len(found) == 1 else 0.0


def _uses(value: ir.Value) -> list[tuple[ir.Node, int]]:
    def shows(node: ir.Node, slot: int) -> bool:
        return carries(node, slot, VIEW) or _rearranges(node) or _picks_matrices(node, slot)

    return list(uses(value, shows))


def _picks_matrices(node: ir.Node, slot: int) -> bool:
    """Whether a Gather picks whole matrices out of a stack of them (the experts that a router chose)."""
    value = node.inputs[0] if node.inputs else None
    if node.op_type != "Gather" or slot != 0 or value is None or value.shape is None or len(value.shape) < 3:
        return False
    readers = [reader for reader, _ in uses(node.outputs, lambda user, _: passes_on(user, VIEW))]
    return bool(readers) and all(map(is_linear, readers))


def _rearranges(node: ir.Node) -> bool:
    """Whether a node cuts or joins weights alone (gates that an exporter brings into another order)."""
    return passes_on(node, _REARRANGED) and all(map(_is_fixed, node.inputs))


def _is_fixed(value: ir.Value | None) -> bool:
    """Whether a value is made of initializers by views, cuts and joins."""
    if value is None or value.const_value is not None:
        return True
    node = value.producer()
    if node is None or not passes_on(node, VIEW | _REARRANGED):
        return False
    return all(map(_is_fixed, node.inputs))


def _described(parameter: Parameter, context: AxisFacts) -> Parameter:
    """The parameter with what it is for."""
    kinds = [_kind(parameter, node, slot) for node, slot in parameter.uses]
    order: tuple[TensorKind, ...] = (
        "embedding", "kernel", "matrix", "norm_scale", "norm_bias", "table", "bias", "scale", "other",
    )  # fmt: skip
    kind: TensorKind = min(kinds, key=order.index, default="other")
    dims = context.axes_of(parameter.value)
    if any(record(node).gates for node, _ in parameter.uses):
        return replace(parameter, kind=kind, directions=_recurrent_directions(kind, len(dims)))
    contracted = _contracted_axes(parameter, context) if kind in ("matrix", "embedding", "other") else []
    if kind == "other" and contracted:
        kind = "matrix"  # of an op that was seen to sum over it
    directions: list[Direction] = ["out"] * len(dims)
    if kind == "matrix":
        for axis in contracted:
            directions[axis] = "in"
        if _is_experts(parameter):
            directions[0] = "none"
        for usage in parameter.value.uses():
            if _picks_matrices(usage.node, usage.idx):
                directions[usage.node.attributes.get_int("axis", 0)] = "none"
    elif kind == "kernel":
        node = parameter.uses[0][0]
        transposed = (found := linear_of(node)) is not None and found.contracted == 0
        # Where every channel is a group of its own, no channel is summed over.
        alone = transposed and context.sizes(parameter.value)[0][0] == node.attributes.get_int("group", 1)
        directions[0 if transposed else 1] = "out" if alone else "in"
        directions[2:] = ["none"] * (len(dims) - 2)
    elif kind == "embedding" and directions:
        directions[_looked_up(parameter, context)] = "index"
    return replace(parameter, kind=kind, directions=tuple(directions))


def _recurrent_directions(kind: TensorKind, rank: int) -> tuple[Direction, ...]:
    """[directions, gates * hidden, in] for a matrix, [directions, …, gates * hidden] for all else."""
    directions: list[Direction] = ["none"] * rank
    if rank:
        directions[-1] = "out"
    if kind == "matrix" and rank > 1:
        directions[-2:] = ["out", "in"]
    return tuple(directions)


def _looked_up(parameter: Parameter, context: AxisFacts) -> int:
    """The axis of an embedding that indices address."""
    rows = table_rows(parameter, context)
    dims = [None if dim is None else context.table.find(dim) for dim in context.axes_of(parameter.value)]
    return dims.index(context.table.find(rows)) if rows is not None and context.table.find(rows) in dims else 0


def table_rows(parameter: Parameter, context: AxisFacts) -> MaybeDim:
    """The dim that indices address in an embedding, whatever form of it is looked up."""
    node = next(node for node, slot in parameter.uses if node.op_type == "Gather" and slot == 0)
    return context.axes_of(node.inputs[0])[node.attributes.get_int("axis", 0)]


def _is_experts(parameter: Parameter) -> bool:
    """Whether a parameter is matrices of experts, ``[experts, out, in]``, of an op that holds them all."""
    return any(record(node).experts is not None and slot_of(node, slot) is Slot.WEIGHT for node, slot in parameter.uses)


def _contracted_axes(parameter: Parameter, context: AxisFacts) -> list[int]:
    dims = context.axes_of(parameter.value)
    if _is_experts(parameter):
        return [len(dims) - 1]
    inner = {
        context.table.find(dim)
        for node, _ in parameter.uses
        if (dim := context.contracted.get(node)) is not None
    }  # fmt: skip
    for node, slot in parameter.uses:
        if node.op_type == "Einsum" and node.inputs[slot] is parameter.value:
            return summed_axes(node, slot, [len(context.axes_of(value)) for value in node.inputs])
        if node.op_type == "Einsum" and (whole := context.contracted.get(node)) is not None:
            inner.update(context.table.leaves(whole))
    axes = [axis for axis, dim in enumerate(dims) if dim is not None and context.table.find(dim) in inner]
    if len(axes) < 2 or not any(is_linear(node) for node, _ in parameter.uses):
        return axes[:1]
    # A square weight whose two axes are one dim: its use says which of them is contracted.
    return [_slot_axis(parameter, len(dims))]


def _slot_axis(parameter: Parameter, rank: int) -> int:
    """Contracted axis from the way the weight enters its op, seen through transpositions."""
    node, slot = next((n, s) for n, s in parameter.uses if is_linear(n))
    if node.op_type == "Gemm":
        flipped = node.attributes.get_int("transB" if slot == 1 else "transA", 0)
        axis = (1 if flipped else 0) if slot == 1 else (0 if flipped else 1)
    else:
        flipped = node.attributes.get_int("transB" if slot == 1 else "transA", 0)
        axis = rank - 2 if (slot == 1) != bool(flipped) else rank - 1
    for value in producer_chain(node.inputs[slot], lambda _: True):
        producer = value.producer()
        if producer is not None and producer.op_type == "Transpose":
            perm = producer.attributes["perm"].as_ints() if "perm" in producer.attributes else range(rank)[::-1]
            axis = list(perm)[axis]
    return axis


def _kind(parameter: Parameter, node: ir.Node, slot: int) -> TensorKind:
    op, purpose = record(node), slot_of(node, slot)
    spread = sum(size > 1 for size in parameter.value.const_value.shape.numpy())  # type: ignore[union-attr]
    if op.linear is not None and op.linear.form == "kernel":
        return "kernel" if purpose is Slot.WEIGHT else _KINDS.get(purpose, "table")
    if op.linear is not None and not op.attention and purpose is not Slot.BIAS:
        return "table" if _is_operand(node, slot) else "matrix"
    if purpose in _KINDS and (purpose is not Slot.WEIGHT or is_linear(node) or op.gates or op.experts is not None):
        return _KINDS[purpose]
    if op.norm is not None:
        return "norm_bias"
    if op.attention and op.slots:  # others are known by name alone
        return "table" if spread > 1 else "other"
    if computes(node, Calc.PRODUCT, Calc.QUOTIENT):
        other = _other(node, slot)
        normalised = is_normalised(other) or _is_inverse_spread(other)
        return "norm_scale" if spread == 1 and normalised else "scale"
    if computes(node, Calc.SUM, Calc.DIFFERENCE):
        if spread > 1:
            return "table"
        return "norm_bias" if _is_scaled_norm(_other(node, slot)) else "bias"
    return "table" if passes_on(node, Move.JOINED | Move.REPEATED) else "other"


def _is_operand(node: ir.Node, slot: int) -> bool:
    """Whether a linear map is applied to the parameter itself: coordinates, learned queries."""
    found = linear_of(node)
    return found is not None and found.form == "product" and slot == 0 and parameter_behind(node.inputs[1]) is not None


def _other(node: ir.Node, slot: int) -> ir.Value | None:
    return node.inputs[1 - slot] if len(node.inputs) == 2 else None


def is_normalised(value: ir.Value | None) -> bool:
    """Whether a value is ``x / rms(x)`` or ``(x - mean) / std(x)``, written out in ops."""
    node = _producer(value)
    if node is None or not computes(node, Calc.PRODUCT, Calc.QUOTIENT):
        return False
    return any(_is_spread_measure(operand, 6) for operand in node.inputs)


def _is_spread_measure(value: ir.Value | None, depth: int) -> bool:
    node = _producer(value)
    if node is None or depth == 0:
        return False
    if reduces(node, "mean", "squares", "norm"):
        return True
    if computes(node, *_OF_SPREADS):
        return any(_is_spread_measure(operand, depth - 1) for operand in node.inputs)
    return False


def _is_inverse_spread(value: ir.Value | None) -> bool:
    """Whether a value is ``1 / std(x)``: a norm's scale may be multiplied with that first."""
    node = _producer(value)
    return node is not None and computes(node, *_INVERSES) and _is_spread_measure(value, 6)


def _is_scaled_norm(value: ir.Value | None) -> bool:
    """Whether a value is a normalised one times a scale: ``scale * (x / std)`` or ``x * (scale / std)``."""
    node = _producer(value)
    if node is None or not computes(node, Calc.PRODUCT):
        return False
    if any(is_normalised(operand) for operand in node.inputs) and _has_parameter(node):
        return True
    factors = [
        factor for factor in map(_producer, node.inputs) if factor is not None and computes(factor, Calc.PRODUCT)
    ]
    return any(_has_parameter(factor) and any(map(_is_inverse_spread, factor.inputs)) for factor in factors)


def _has_parameter(node: ir.Node) -> bool:
    return any(operand is not None and is_parameter(operand) for operand in node.inputs)


def _producer(value: ir.Value | None) -> ir.Node | None:
    made = behind(value, lambda node: passes_on(node, IN_ORDER))
    return None if made is None else made.producer()
