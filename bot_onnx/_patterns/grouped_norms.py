"""Norms over groups of channels, written out: an axis is split, its parts are normalised, and it is whole again.

The number of groups is a count that stays, as it is where a norm over groups is one op. A norm over the channels of
every head looks alike, but heads go on to meet in scores, or are known as the heads of an attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from bot_onnx._axes.dims import EQUAL_PARTS, Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._axes.rules.elementwise import reduced_axes
from bot_onnx._axes.written_norms import gives_spread, region_of_norm
from bot_onnx._ops import Move, is_layer_norm, is_statistic, norm_of, passes_on, reduces
from bot_onnx._patterns.attention import Attention


def hold_normed_groups(graph: ir.Graph, context: AxisFacts, attentions: Sequence[Attention]) -> None:
    """Freeze the number of groups of every norm over groups that is written out in ops."""
    table = context.table
    heads = {leaf for one in attentions if one.heads is not None for leaf in table.leaves(one.heads)}
    for node in graph:
        for channels in _split(context, node):
            groups = _groups(context, node.outputs[0], channels)
            for leaf in groups if heads.isdisjoint(groups) else ():
                table.freeze(leaf, EQUAL_PARTS)


def _split(context: AxisFacts, node: ir.Node) -> Iterator[frozenset[Dim]]:
    """The leaves of every static axis that a node deals out to several axes."""
    if not passes_on(node, Move.RESHAPED):
        return
    for dim in context.axes_of(node.inputs[0]):
        leaves = frozenset[Dim]() if dim is None else frozenset(context.table.leaves(dim))
        static = dim is not None and context.table.is_static(dim)
        if static and len(leaves) > 1 and not _whole(context, node.outputs[0], leaves):
            yield leaves


def _whole(context: AxisFacts, value: ir.Value, leaves: frozenset[Dim]) -> bool:
    """Whether an axis of a value has all of these leaves."""
    return any(dim is not None and leaves <= set(context.table.leaves(dim)) for dim in context.axes_of(value))


def _groups(context: AxisFacts, start: ir.Value, channels: frozenset[Dim]) -> frozenset[Dim]:
    """The leaves that tell groups apart, where what is made of a value is a norm over each; else none."""
    region = region_of_norm(start, lambda node: _whole(context, node.outputs[0], channels))
    if not any(gives_spread(node) for node in region):
        return frozenset()
    found: set[Dim] = set()
    for node in region:
        if is_statistic(node) or reduces(node, "sum"):
            over = _over(context, node)
            if over & channels and channels - over:
                found |= channels - over
    return frozenset(found)


def _over(context: AxisFacts, node: ir.Node) -> set[Dim]:
    """Leaves along which a node sums up."""
    return {leaf for dim in _summed(context, node) for leaf in context.table.leaves(dim)}


def _summed(context: AxisFacts, node: ir.Node) -> list[Dim]:
    """Dims of the axes that a node sums up."""
    dims = context.axes_of(node.inputs[0])
    if is_layer_norm(node):
        axes = set(range(node.attributes.get_int("axis", -1) % len(dims), len(dims)))
    else:
        axes = reduced_axes(context, node, len(dims))
    return [dim for axis in sorted(axes) if (dim := dims[axis]) is not None]


def note_joint_statistics(graph: ir.Graph, context: AxisFacts) -> None:
    """Note in the table which concats are averaged, or normalised, as one: it weighs the parts by their sizes."""
    table = context.table
    for node in graph:
        if is_layer_norm(node) or (is_statistic(node) and not norm_of(node)) or reduces(node, "sum"):
            for dim in _summed(context, node):
                made = table.composite(dim)
                if made is not None and made.kind == "concat" and table.is_static(dim) and dim not in table.joint:
                    table.joint.append(table.find(dim))
