"""Attention, found by structure: a product of two activations that ends in a Softmax.

From it come the roles that no name is needed for: the contracted axis is head_dim, the batch axis beside it the heads,
the weights found walking back carry queries and keys, and the scalars on the way are candidates for 1/sqrt(head_dim).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._axes.facts import AttentionDims, AxisFacts
from bot_onnx._onnxfile.peeking import peeked
from bot_onnx._ops import (
    FORM,
    Calc,
    Move,
    computes,
    is_bounded,
    is_linear,
    is_product,
    is_steady,
    is_sum,
    passes_on,
    record,
    reduces,
)
from bot_onnx._ops.einsum import subscripts
from bot_onnx._ops.nodes import FILL, behind_views, filled_with, number_in
from bot_onnx._ops.walk import backward, forward
from bot_onnx._patterns.fixed_vectors import is_one_number
from bot_onnx._patterns.mixed_heads import mixed_heads
from bot_onnx._patterns.parameters import is_parameter, parameter_behind

_FAR = 64  #: nodes that may lie between a product and its Softmax
#: What may be made of scores on their way to the Softmax, and of its shares on their way to the values.
_SCORED = (Calc.SUM, Calc.DIFFERENCE, Calc.PRODUCT, Calc.QUOTIENT, Calc.EXTREME)
_MOVED = FORM | Move.CHOSEN


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar constant on the path of an attention score: input ``slot`` of ``node``, or its attribute ``slot``."""

    node: ir.Node
    slot: int | str
    value: float


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention.

    Attributes:
        score: the product of queries and keys.
        head_dim: the contracted dim. heads: the static batch dim (None where there is one head).
        queries, keys: (parameter, index of the equal part it is taken from or None) of both sides.
        value_dim: last dim of the product of weights and values.
        key_operand, value_operand: what holds keys and values where they meet queries and weights.
        scalars: scalar factors between the projections and the Softmax.
        mixed: heads that a matrix makes of these, before the Softmax or behind it.
    """

    score: ir.Node
    head_dim: Dim
    heads: MaybeDim
    queries: tuple[tuple[ir.Value, int | None], ...] = ()
    keys: tuple[tuple[ir.Value, int | None], ...] = ()
    value_dim: MaybeDim = None
    key_operand: ir.Value | None = None
    value_operand: ir.Value | None = None
    scalars: tuple[Scalar, ...] = ()
    mixed: tuple[Dim, ...] = ()


def find_attentions(graph: ir.Graph, context: AxisFacts) -> list[Attention]:
    """All attentions of a graph, in graph order."""
    found: list[Attention] = []
    for node in graph:
        if node in context.attentions:
            found.append(_fused(context, node, context.attentions[node]))
            continue
        if not is_product(node) or any(value is None or value.const_value is not None for value in node.inputs):
            continue
        inner = context.contracted.get(node)
        if inner is None or not context.table.is_static(inner) or len(node.inputs) != 2:
            continue
        scalars: list[Scalar] = []
        mixed: list[Dim] = []
        softmax = _softmax_after(context, node, scalars, mixed)
        if softmax is None:
            continue
        queries, keys = (tuple(projections(context, side, scalars)) for side in node.inputs)
        inner, heads = context.table.find(inner), heads_of(context, node, [weight for weight, _ in queries])
        value_dim, value = _values(context, softmax, heads, mixed)
        found.append(
            Attention(node, inner, heads, queries, keys, value_dim, node.inputs[1], value, tuple(scalars), tuple(mixed))
        )
    return found


def _fused(context: AxisFacts, node: ir.Node, dims: AttentionDims) -> Attention:
    """The attention that one op is."""
    held = [node.inputs[slot] if slot < len(node.inputs) else None for slot in (0, 1, 2)]
    scale = node.attributes.get_float("scale", 0.0)
    scalars = [Scalar(node, "scale", scale)] if scale else []
    queries: list[tuple[ir.Value, int | None]] = []
    keys: list[tuple[ir.Value, int | None]] = []
    for values, found in ((dims.queries, queries), (dims.keys, keys)):
        for value, part in values:
            if is_parameter(value):
                found.append((value, part))
            else:
                found.extend(projections(context, value, scalars, part))
    return Attention(
        node,
        context.table.find(dims.head_dim),
        dims.heads,
        tuple(queries),
        tuple(keys),
        dims.value_dim,
        key_operand=held[1] or held[0],
        value_operand=held[2] or held[0],
        scalars=tuple(scalars),
    )


def _softmax_after(context: AxisFacts, node: ir.Node, scalars: list[Scalar], mixed: list[Dim]) -> ir.Node | None:
    """The Softmax that the result of ``node`` runs into.

    Scalar factors on the way are added to ``scalars``, heads that a matrix makes of those of the scores to ``mixed``.
    """
    heads = heads_of(context, node)
    pending = deque([(node, scalar_factors(node))])
    seen = {node}
    while pending and len(seen) < _FAR:
        current, factors = pending.popleft()
        for scores, following in ((output, usage.node) for output in current.outputs for usage in output.uses()):
            softmax = _softmax_from(following)
            if softmax is not None:
                scalars.extend(factors)
                return softmax
            if following in seen:
                continue
            made = mixed_heads(context, following, scores, mixed[-1] if mixed else heads)
            mixed += [made] if made is not None else []
            if made is not None or keeps_scores(following) or _adds_keys(context, following):
                seen.add(following)
                pending.append((following, factors + _factors(context, following)))
    return None


def _softmax_from(node: ir.Node) -> ir.Node | None:
    """The node that gives the Softmax of what ``node`` is given: itself, or the last one of those it is written with.

    These are ``exp(x) / sum(exp(x))`` and ``exp(log_softmax(x))``.
    """
    if record(node).distribution:
        return node
    if node.op_type not in ("Exp", "LogSoftmax"):
        return None
    readers = [usage.node for usage in node.outputs[0].uses()]
    if node.op_type == "LogSoftmax":
        return next((reader for reader in readers if reader.op_type == "Exp"), None)
    sums = [reader.outputs[0] for reader in readers if reduces(reader, "sum")]
    inverse = [u.node.outputs[0] for total in sums for u in total.uses() if computes(u.node, Calc.RECIPROCAL)]
    ends = (
        (reader, inverse if computes(reader, Calc.PRODUCT) else sums)
        for reader in readers
        if computes(reader, Calc.QUOTIENT, Calc.PRODUCT)
    )
    return next((reader for reader, totals in ends if any(value in totals for value in reader.inputs)), None)


def keeps_scores(node: ir.Node) -> bool:
    """Whether what a node makes of scores are scores: scaled, masked, within bounds, in another form."""
    return passes_on(node, _MOVED) or computes(node, *_SCORED) or (is_steady(node) and is_bounded(node))


def _adds_keys(context: AxisFacts, node: ir.Node) -> bool:
    """Whether scores of other keys are put beside those that come in (sinks, which take weight and bring no value)."""
    rank = len(context.axes_of(node.outputs[0]))
    return node.op_type == "Concat" and node.attributes.get_int("axis", 0) in (-1, rank - 1)


def scalar_factors(node: ir.Node) -> list[Scalar]:
    """Scalar constants that a node multiplies with or divides by: inputs, or the ``alpha`` of a product."""
    if is_product(node) and node.attributes.get_float("alpha", 1.0) != 1.0:
        return [Scalar(node, "alpha", node.attributes.get_float("alpha", 1.0))]
    if not computes(node, Calc.PRODUCT, Calc.QUOTIENT):
        return []
    found = ((slot, number_at(node, slot)) for slot in range(len(node.inputs)))
    return [Scalar(node, slot, held.value) for slot, held in found if held is not None]


def _factors(context: AxisFacts, node: ir.Node) -> list[Scalar]:
    return scalar_factors(node) or uniform_factors(context, node)


def uniform_factors(context: AxisFacts, node: ir.Node) -> list[Scalar]:
    """Like :func:`scalar_factors`, of numbers that the file holds once for each channel of what they scale."""
    if not computes(node, Calc.PRODUCT, Calc.QUOTIENT) or len(node.inputs) != 2:
        return []
    shape = context.sizes(node.outputs[0])
    others = (node.inputs[1], node.inputs[0])
    slots = [slot for slot, other in enumerate(others) if other is not None and context.sizes(other) == shape]
    return [held for held in (uniform_at(node, slot) for slot in slots) if held is not None]


def uniform_at(node: ir.Node, slot: int) -> Scalar | None:
    """The one number that all elements of an input are, where that is a tensor of several."""
    value = node.inputs[slot]
    if value is None or not is_one_number(value):
        return None
    tensor = value.const_value
    assert tensor is not None
    return Scalar(node, slot, float(np.asarray(peeked(tensor).reshape(-1)[:1])[0]))


def held_number(node: ir.Node, slot: int) -> Scalar | None:
    """The number that an input is, as one element (:func:`number_at`) or several (:func:`uniform_at`)."""
    return number_at(node, slot) or uniform_at(node, slot)


def number_at(node: ir.Node, slot: int) -> Scalar | None:
    """Where the one floating-point number stands that an input is, or is another form of (repeated, in another type).

    Returns:
        The node that reads it as a constant: ``node`` itself, or a view; or the one that fills a tensor with it, for
        nobody else. None: the input is no such number.
    """
    value = node.inputs[slot]
    while value is not None and value.const_value is None:
        maker = value.producer()
        filled = None if maker is None or len(value.uses()) > 1 else filled_with(maker)
        if maker is not None and filled is not None:
            return Scalar(maker, FILL, filled)
        if maker is None or not passes_on(maker, FORM):
            return None
        node, slot, value = maker, 0, maker.inputs[0]
    number = number_in(value)
    return None if number is None else Scalar(node, slot, number)


def heads_of(context: AxisFacts, node: ir.Node, queries: Sequence[ir.Value] = ()) -> MaybeDim:
    """Static part of the batch dims of a score that are heads.

    These are the one next to the two last axes, or those that both operands of an Einsum have; and others that weights
    of queries make: where query heads are grouped by the key heads that they share, an axis for these and one for each.

    Args:
        context: the axes. node: the product that makes scores.
        queries: weights (and what is added to them) that make the first operand.
    """
    table, dims = context.table, context.axes_of(node.outputs[0])
    if node.op_type == "Einsum":
        sure, others = (_einsum_axes(context, node, 0, both=both) for both in (True, False))
    else:
        sure, others = list(dims[-3:-2]), list(dims[:-3])
    maps = [context.axes_of(weight) for weight in queries if any(map(is_linear, readers(weight)))]
    made = {leaf for held in maps for dim in held if dim is not None for leaf in table.leaves(dim)}
    parts: list[Dim] = []
    for dim in dims:
        if dim is None or dim not in (*sure, *others):
            continue
        composite = table.composite(dim)
        pieces = composite.parts if composite is not None and composite.kind == "product" else (table.find(dim),)
        static = [part for part in pieces if table.is_static(part)]
        parts += static if dim in sure else [part for part in static if made.issuperset(table.leaves(part))]
    return table.product(parts) if parts else None


def readers(weight: ir.Value) -> Iterator[ir.Node]:
    """What reads a weight or a view of it, views too."""
    views = forward(weight, lambda node, _: any(behind_views(output) is weight for output in node.outputs))
    return (node for view in views for node, _ in view.uses())


def _is_static(context: AxisFacts, dim: MaybeDim) -> bool:
    return dim is not None and context.table.is_static(dim)


def _einsum_axes(context: AxisFacts, node: ir.Node, slot: int, *, both: bool) -> list[MaybeDim]:
    """Dims of an Einsum's result that both of its operands have, or the one in ``slot`` alone."""
    terms, outcome = subscripts(node, [len(context.axes_of(value)) for value in node.inputs])
    dims = zip(outcome or (), context.axes_of(node.outputs[0]), strict=True)
    return [dim for letter, dim in dims if letter in terms[slot] and (letter in terms[1 - slot]) == both]


def projections(
    context: AxisFacts, value: ir.Value | None, scalars: list[Scalar], part: int | None = None
) -> list[tuple[ir.Value, int | None]]:
    """Parameters of the projection that a value comes from: the linear map and what is added to it.

    The walk goes back through everything that is not a linear map. Where it crosses a selection from a number of equal
    parts (the 3 of a fused qkv), the index of the part is kept. Scalar factors of the whole of it are added to
    ``scalars``; one of a summand alone (what an adapter adds) is a factor of nothing else.
    """
    found: list[tuple[ir.Value, int | None]] = []
    factors: list[Scalar] = []
    pending: list[tuple[ir.Value, int | None]] = [(value, part)] if value is not None else []
    seen: set[int] = set()
    while pending:
        current, part = pending.pop()
        node = current.producer()
        if node is None or id(current) in seen or not _is_followed(context, current):
            continue
        seen.add(id(current))
        factors += _factors(context, node)
        parameters = [v for v in map(parameter_behind, node.inputs) if v is not None]
        if is_linear(node) and parameters:
            found.extend((parameter, part) for parameter in parameters)
            continue
        if is_sum(node):
            found.extend((parameter, part) for parameter in parameters)
        chosen = _selected_part(context, node, current)
        part = chosen if chosen is not None else part
        pending.extend((v, part) for v in node.inputs if v is not None and v.const_value is None)
    scalars += [
        one for one in dict.fromkeys(factors) if one not in scalars and _is_of_all(context, value, one, factors)
    ]
    return found


def _is_followed(context: AxisFacts, value: ir.Value) -> bool:
    """Whether a value may be made of projections: no number of a shape is, and a state is no linear map of anything."""
    node = value.producer()
    return node is not None and (value.name or "") not in context.observed.values and not record(node).gates


def _is_of_all(context: AxisFacts, value: ir.Value | None, factor: Scalar, factors: Sequence[Scalar]) -> bool:
    """Whether every way from a value back to a linear map goes by a factor, or by one like it in another summand."""
    alike = {one.node for one in factors if (one.node.op_type, one.value) == (factor.node.op_type, factor.value)}

    def maps(node: ir.Node) -> bool:
        return is_linear(node) and any(parameter_behind(operand) is not None for operand in node.inputs)

    def goes_on(node: ir.Node) -> bool:
        return node not in alike and not maps(node) and all(_is_followed(context, output) for output in node.outputs)

    makers = (passed.producer() for passed in backward(value, goes_on))
    return not any(node is not None and node not in alike and maps(node) for node in makers)


def _selected_part(context: AxisFacts, node: ir.Node, output: ir.Value) -> int | None:
    """Index of the part taken, where ``node`` takes one of a number of equal parts."""
    if node.op_type == "Split":
        axis = node.attributes.get_int("axis", 0)
        return output.index() if context.axes_of(output)[axis] is None else None
    if node.op_type == "Gather" and node.inputs[1] is not None and node.inputs[1].const_value is not None:
        content = node.inputs[1].const_value.numpy().reshape(-1)
        return int(content[0]) if content.size == 1 else None
    if node.op_type == "Slice":
        starts, stops = context.numbers(node.inputs[1]), context.numbers(node.inputs[2])
        if starts and stops and len(starts[0]) == 1 and stops[0][0] - starts[0][0] == 1:
            return starts[0][0]
    return None


def _values(
    context: AxisFacts, softmax: ir.Node, heads: MaybeDim, mixed: list[Dim]
) -> tuple[MaybeDim, ir.Value | None]:
    """Last dim of the product that the attention weights enter, and what they are multiplied with.

    Heads that a matrix makes of those of the weights are added to ``mixed``.
    """
    pending = [usage for output in softmax.outputs for usage in output.uses()]
    for _ in range(64):
        if not pending:
            return None, None
        usage = pending.pop(0)
        node = usage.node
        made = mixed_heads(context, node, node.inputs[usage.idx], mixed[-1] if mixed else heads)
        if made is not None:
            mixed.append(made)
            pending = [usage for output in node.outputs for usage in output.uses()]
        elif is_product(node):
            dims = context.axes_of(node.outputs[0])[-1:]
            if node.op_type == "Einsum":
                dims = tuple(
                    d for d in _einsum_axes(context, node, 1 - usage.idx, both=False) if _is_static(context, d)
                )
            last = dims[-1] if dims and _is_static(context, dims[-1]) else None
            return last, node.inputs[1 - usage.idx] if usage.idx < 2 else None
        elif passes_on(node, _MOVED) or computes(node, Calc.PRODUCT, *((Calc.SUM,) if mixed else ())):
            pending.extend(usage for output in node.outputs for usage in output.uses())
    return None, None
