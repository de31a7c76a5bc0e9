"""An axis of a work order as learned operators see it: at the source's sizes, and what of it is not learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from bot_onnx._resample.axes import FIXED_ROLES, LOOKED_UP_ROLES
from bot_onnx._stack.types import Axis
from bot_onnx._structure import Role

#: What is looked up by its number, or is a number of things, is never mixed: the method alone says what becomes of it.
UNMIXED = FIXED_ROLES | LOOKED_UP_ROLES | {Role.TOKENS, Role.EXPERTS, Role.CONV_GROUPS, Role.OUT}


def mapped(axis: Axis, change: Callable[[Axis], Axis]) -> Axis:
    """The axis with its leaves changed; sizes of what they make up follow."""
    if not axis.parts:
        return change(axis)
    parts = tuple(mapped(part, change) for part in axis.parts)
    combine = prod if axis.kind == "product" else sum
    return replace(
        axis, parts=parts, source=combine(part.source for part in parts), target=combine(part.target for part in parts)
    )


def is_learned(leaf: Axis) -> bool:
    """Whether a leaf that changes has an operator that is trained."""
    return leaf.source != leaf.target and leaf.role not in UNMIXED


def unmixed(axis: Axis) -> Axis:
    """The axis as what is not mixed changes: all else stays at its source's size."""
    return mapped(axis, lambda leaf: leaf if leaf.role in UNMIXED else replace(leaf, target=leaf.source))


def mixed(axis: Axis) -> Axis:
    """The axis as the rest of it changes afterwards."""
    return mapped(axis, lambda leaf: replace(leaf, source=leaf.target) if leaf.role in UNMIXED else leaf)
