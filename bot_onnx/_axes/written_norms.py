"""Norms over groups of channels that are written out: what may stand between where channels are dealt out and joined.

An axis is dealt out to groups, every group is brought to mean 0 and variance 1, and the axis is whole again.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import onnx_ir as ir

from bot_onnx._axes.facts import ValueAxes
from bot_onnx._ops import (
    ONE_TO_ONE,
    Axes,
    Calc,
    Move,
    computes,
    is_layer_norm,
    measures,
    norm_of,
    passes_on,
    record,
    reduces,
    works_place_by_place,
)

_MOST = 64  #: nodes that a norm may be written with


def may_stand_in_norm(node: ir.Node) -> bool:
    """Whether an op is one that a norm may be written with."""
    op = record(node)
    elementwise = works_place_by_place(op) or passes_on(node, ONE_TO_ONE)
    return elementwise or op.axes is Axes.REDUCED or is_layer_norm(node)


def gives_spread(node: ir.Node) -> bool:
    """Whether an op may be the one of a norm that measures how far numbers lie from their mean."""
    return computes(node, Calc.ROOT, Calc.POWER) or reduces(node, "norm") or is_layer_norm(node)


def region_of_norm(
    start: ir.Value, whole: Callable[[ir.Node], bool], stays: Callable[[ir.Node], bool] = may_stand_in_norm
) -> list[ir.Node]:
    """What is computed of a value until its channels are on one axis again; nothing if it goes on in parts.

    Args:
        start: channels that were dealt out.
        whole: whether a node that moves numbers brings them together. stays: whether another may stand in between.
    """
    found: dict[ir.Node, None] = {}
    pending, ends = [start], False
    while pending:
        value = pending.pop()
        for node in dict.fromkeys(usage.node for usage in value.uses()):
            if node in found or measures(node):
                continue
            if passes_on(node, Move.RESHAPED) and whole(node):
                ends = True
            elif stays(node) and len(found) < _MOST:
                found[node] = None
                pending.extend(node.outputs)
            else:
                return []
    return list(found) if ends else []


def is_norm_of_groups(context: ValueAxes, dealt: ir.Node) -> bool:
    """Whether what a Reshape makes is normalised and nothing else, before it has its axes again.

    Then no weight is read along the axes that it makes (but one for each group), and nothing else sees their order.
    """
    given = dealt.inputs[0]
    if given is None:
        return False
    sizes = context.sizes(given)
    region = region_of_norm(
        dealt.outputs[0],
        lambda node: context.sizes(node.outputs[0]) == sizes,
        lambda node: may_stand_in_norm(node) or _normalises_alone(node),
    )
    made = {dealt.outputs[0], *(output for node in region for output in node.outputs)}
    return any(map(_is_spread, region)) and all(_reads_few(context, node, made) for node in region)


def _normalises_alone(node: ir.Node) -> bool:
    known = norm_of(node)
    return known is not None and known.groups is None


def _is_spread(node: ir.Node) -> bool:
    return gives_spread(node) or _normalises_alone(node)


def _reads_few(context: ValueAxes, node: ir.Node, made: set[ir.Value]) -> bool:
    """Whether an op reads, besides what is normalised, single numbers alone, or one for each group."""
    most = context.sizes(node.outputs[0])[1][0] if node.op_type == "InstanceNormalization" else 1
    others = [value for value in node.inputs[1:] if value is not None and value not in made]
    settings = passes_on(node, Move.RESHAPED) or record(node).axes is Axes.REDUCED
    return settings or all(prod(size for size, _ in context.sizes(value)) <= most for value in others)
