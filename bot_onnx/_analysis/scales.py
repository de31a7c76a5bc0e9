"""Scalar factors of attention scores and of the residual stream, with the formulas that explain them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from bot_onnx._analysis.facts import Scale
from bot_onnx._axes.dims import Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._patterns.attention import Attention, scalar_factors
from bot_onnx._patterns.closed_forms import match_scale
from bot_onnx._patterns.counts import Count
from bot_onnx._patterns.layers import LayerChain


def score_scales(context: AxisFacts, attentions: Sequence[Attention]) -> list[Scale]:
    """Factors of attention scores: all but 1 and -1, explained or not."""
    scales: list[Scale] = []
    seen: set[tuple[ir.Node, int | str]] = set()
    for attention in attentions:
        size = context.table.size(attention.head_dim)[0]
        for scalar in attention.scalars:
            if (scalar.node, scalar.slot) in seen or scalar.value in (1.0, 0.0, -1.0):
                continue
            seen.add((scalar.node, scalar.slot))
            scales.append(Scale(scalar, context.table.find(attention.head_dim), match_scale(scalar.value, size)))
    return scales


def stream_scales(graph: ir.Graph, context: AxisFacts, chains: Sequence[LayerChain], hidden: set[Dim]) -> list[Scale]:
    """Factors of the embeddings and of what enters the head that are a root of hidden, or of one over hidden.

    Only outside the layers, and only these two formulas: there is nothing on this path that demands a factor, so one
    that no formula explains is taken for a constant.
    """
    inside = {node for chain in chains for layer in chain.layers for node in layer.nodes}
    inside |= {node for chain in chains if chain.leading is not None for node in chain.leading.nodes}
    scales: list[Scale] = []
    for node in graph:
        dims = context.axes_of(node.outputs[0]) if node not in inside else ()
        last = context.table.find(dims[-1]) if dims and dims[-1] is not None else None
        if last not in hidden:
            continue
        for scalar in scalar_factors(node):
            formula = match_scale(scalar.value, context.table.size(last)[0], ("sqrt(n)", "1/sqrt(n)"))
            if formula is not None and last is not None:
                scales.append(Scale(scalar, last, formula, stream=True))
    return scales


def count_scales(counts: Sequence[Count]) -> list[Scale]:
    """Constants that are how many numbers a mean is over, or one less."""
    return [Scale(one.scalar, one.dim, one.written, counts=True) for one in counts if one.scalar is not None]
