"""A first layer that is like those after it, but lacks something without weights of two axes: a norm.

Networks that normalise their embeddings have no norm before the first layer's attention. Such a layer is no repeat of
the others, but it is one of the layers all the same: it counts as one, its dims are theirs, and it always stays.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from bot_onnx._patterns.layers import Segment

MISSING = 12  #: nodes that may be missing: a norm that is written out has nine


@dataclass(frozen=True, slots=True)
class LeadingLayer:
    """A first layer apart.

    Attributes:
        joints, nodes: as of any layer.
        twins: pairs of corresponding values: of this layer, and of the first one that is whole.
    """

    joints: list[ir.Node]
    nodes: list[ir.Node]
    twins: list[tuple[ir.Value, ir.Value]]


def leading_layer(before: list[Segment], whole: list[Segment]) -> LeadingLayer | None:
    """The layer that the segments before a chain are, given those of the chain's first layer; None if they are none."""
    twins: list[tuple[ir.Value, ir.Value]] = []
    missing = 0
    for mine, theirs in zip(before, whole, strict=True):
        left, right = _keys(mine), _keys(theirs)
        matched = [
            (mine.nodes[block.a + i], theirs.nodes[block.b + i])
            for block in SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
            for i in range(block.size)
        ]
        missed = set(theirs.nodes) - {node for _, node in matched}
        more = set(mine.nodes) - {node for node, _ in matched}  # such as a mask that no other layer uses
        missing += len(missed)
        if missing > MISSING or any(_weighs(node) for node in (*missed, *more)):
            return None
        for a, b in matched:
            twins += list(zip(a.outputs, b.outputs, strict=True))
            twins += [
                (x, y)
                for x, y in zip(a.inputs, b.inputs, strict=True)
                if x is not None and y is not None and x.const_value is not None and y.const_value is not None
            ]
    if not any(_weighs(node) for segment in before for node in segment.nodes):
        return None
    joints = [before[0].start, *(segment.end for segment in before)]
    return LeadingLayer(joints, [node for segment in before for node in segment.nodes], twins)


def _keys(segment: Segment) -> list[Hashable]:
    """What must be the same in corresponding nodes: op, attributes, number of outputs, shapes of weights."""
    return [
        (
            *description[:4],
            tuple(
                tuple(value.const_value.shape.numpy()) if value is not None and value.const_value is not None else None
                for value in node.inputs
            ),
        )
        for node, description in zip(segment.nodes, segment.signature, strict=True)
    ]


def _weighs(node: ir.Node) -> bool:
    """Whether a node reads a parameter of two or more axes."""
    return any(
        value is not None
        and (tensor := value.const_value) is not None
        and tensor.dtype.is_floating_point()
        and sum(size > 1 for size in tensor.shape.numpy()) > 1
        for value in node.inputs
    )
