"""Scalar factors of attention scores and of the residual stream, with the formulas that explain them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from bot_onnx._analysis.facts import Scale
from bot_onnx._axes.dims import Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._patterns.attention import Attention, Scalar, scalar_factors, uniform_at, uniform_factors
from bot_onnx._patterns.closed_forms import match_scale
from bot_onnx._patterns.counts import Count
from bot_onnx._patterns.layers import LayerChain


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


def count_scales(counts: Sequence[Count]) -> list[Scale]:
    """Constants that are how many numbers a mean is over, or one less."""
    return [Scale(one.scalar, one.dim, one.written, counts=True) for one in counts if one.scalar is not None]
