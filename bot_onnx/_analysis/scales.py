"""Scalar factors of attention scores, of the residual stream and of other sums, with the formulas that explain them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import onnx_ir as ir

from bot_onnx._analysis.facts import Scale
from bot_onnx._axes.dims import Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._ops import FORM, is_product, measures, passes_on, record
from bot_onnx._patterns.attention import Attention, Scalar, keeps_scores, scalar_factors, uniform_at, uniform_factors
from bot_onnx._patterns.closed_forms import match_scale
from bot_onnx._patterns.counts import Count
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import parameter_behind

_FEWEST = 5  #: elements of a sum whose root tells something: 2 and 4 give √½ and ½


def score_scales(context: AxisFacts, attentions: Sequence[Attention], uniform: Collection[str]) -> list[Scale]:
    """Factors of attention scores: all but 1 and -1, explained or not.

    Of numbers that the file holds several times over (``uniform``: the names of such tensors) only those that a formula
    explains: a network may learn a factor for every head, and begin with one for all.
    """
    scales: list[Scale] = []
    seen: set[tuple[ir.Node, int | str]] = set()
    for attention in attentions:
        size = context.table.size(attention.head_dim)[0]
        for scalar in attention.scalars:
            if (scalar.node, scalar.slot) in seen or scalar.value in (1.0, 0.0, -1.0):
                continue
            seen.add((scalar.node, scalar.slot))
            formula = match_scale(scalar.value, size)
            if _is_single(scalar) or (formula is not None and _name(scalar) in uniform):
                scales.append(Scale(scalar, context.table.find(attention.head_dim), formula))
    return scales


def learned_factors(context: AxisFacts, attentions: Sequence[Attention]) -> set[str]:
    """Names of the tensors that scale scores by one number for every head or channel which no formula explains."""
    return {
        _name(scalar)
        for attention in attentions
        for scalar in attention.scalars
        if not _is_single(scalar) and match_scale(scalar.value, context.table.size(attention.head_dim)[0]) is None
    }


def _is_single(scalar: Scalar) -> bool:
    """Whether a factor stands in the file once, not for every channel."""
    return isinstance(scalar.slot, str) or uniform_at(scalar.node, scalar.slot) is None


def _name(scalar: Scalar) -> str:
    value = None if isinstance(scalar.slot, str) else scalar.node.inputs[scalar.slot]
    return "" if value is None else value.name or ""


def stream_scales(
    graph: ir.Graph, context: AxisFacts, chains: Sequence[LayerChain], hidden: set[Dim], uniform: Collection[str]
) -> list[Scale]:
    """Factors of the embeddings and of what enters the head that are a root of hidden, or of one over hidden.

    Only outside the layers, and only these two formulas: there is nothing on this path that demands a factor, so one
    that no formula explains is taken for a constant. ``uniform``: see :func:`score_scales`.
    """
    inside = {node for chain in chains for layer in chain.layers for node in layer.nodes}
    inside |= {node for chain in chains if chain.leading is not None for node in chain.leading.nodes}
    scales: list[Scale] = []
    for node in graph:
        dims = context.axes_of(node.outputs[0]) if node not in inside else ()
        last = context.table.find(dims[-1]) if dims and dims[-1] is not None else None
        if last not in hidden:
            continue
        repeated = [scalar for scalar in uniform_factors(context, node) if _name(scalar) in uniform]
        for scalar in (*scalar_factors(node), *repeated):
            formula = match_scale(scalar.value, context.table.size(last)[0], ("sqrt(n)", "1/sqrt(n)"))
            if formula is not None and last is not None:
                scales.append(Scale(scalar, last, formula, stream=True))
    return scales


def sum_scales(graph: ir.Graph, context: AxisFacts, attentions: Sequence[Attention]) -> list[Scale]:
    """Factors 1/√n, or divisors √n, beside products that sum over n elements and are no scores of an attention.

    Of two activations (attention without a Softmax, a delta rule), on an operand or behind; of an activation and
    weights where nothing but a Softmax or an output of the graph comes behind (learned queries, logits). Elsewhere, and
    where n is so small that its root is in every activation function, such a number is taken for a constant.
    """
    scores = {attention.score for attention in attentions}
    scales: dict[tuple[ir.Node, int | str], Scale] = {}
    for node in graph:
        dim = context.contracted.get(node) if is_product(node) and node not in scores else None
        if dim is None or not context.table.is_static(dim) or context.table.size(dim)[0] < _FEWEST:
            continue
        operands = [value for value in node.inputs if value is not None]
        activations = [value for value in operands if parameter_behind(value) is None]
        own = len(activations) == len(operands)
        found, ends = _behind(node, scored=not own)
        before = [scalar for value in activations for scalar in _on(value)] if own else []
        for scalar in (*before, *(found if own or ends else ())):
            formula = match_scale(scalar.value, context.table.size(dim)[0], ("1/sqrt(n)", "sqrt(n)"))
            if formula is not None:
                scales.setdefault(
                    (scalar.node, scalar.slot), Scale(scalar, context.table.find(dim), formula, sums=True)
                )
    return list(scales.values())


def _behind(node: ir.Node, *, scored: bool) -> tuple[list[Scalar], bool]:
    """Factors of what a product makes, and whether all ways behind them end in a Softmax or in an output.

    Args:
        node: the product. scored: a bias, a mask and the like may stand between as well.
    """
    factors: list[Scalar] = []
    pending, seen, ends = [node.outputs[0]], {node}, True
    while pending:
        value = pending.pop()
        ends &= value.is_graph_output() or bool(value.uses())
        for user in dict.fromkeys(usage.node for usage in value.uses()):
            if user in seen or measures(user) or record(user).distribution:
                continue
            own = scalar_factors(user)
            if own or passes_on(user, FORM) or (scored and keeps_scores(user)):
                seen.add(user)
                factors += own
                pending.extend(user.outputs)
            else:
                ends = False
    return factors, ends


def _on(value: ir.Value) -> Iterator[Scalar]:
    """Factors of an operand, between it and what computes something."""
    made = value.producer()
    while made is not None:
        factors = scalar_factors(made)
        if not factors and not passes_on(made, FORM):
            return
        yield from factors
        value_before = next((v for v in made.inputs if v is not None and v.const_value is None), None)
        made = None if value_before is None else value_before.producer()


def count_scales(counts: Sequence[Count]) -> list[Scale]:
    """Constants that are how many numbers a mean is over, or one less."""
    return [Scale(one.scalar, one.dim, one.written, counts=True) for one in counts if one.scalar is not None]
