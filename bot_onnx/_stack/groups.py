"""Query heads as key and value heads x group, where the former grow and the latter shrink.

With a heads of keys, r·a of them in the target, and groups of g and h query heads, the copies of a key head stand side
by side, and share its query heads among them. So the axis of the query heads reads as a x (g -> r·h): within the first
part nothing changes, and the second grows, stays, or shrinks as the number of query heads does.
"""

from __future__ import annotations

from dataclasses import replace

from bot_onnx._stack.types import Axis
from bot_onnx._structure import Role


def regrouped(axis: Axis) -> Axis:
    """A product of key and value heads and a group, of which one grows and one shrinks, read as above."""
    if axis.kind != "product":
        return axis
    parts = list(axis.parts)
    for place in range(len(parts) - 1):
        merged = _merged(parts[place], parts[place + 1])
        if merged is not None:
            parts[place : place + 2] = merged
            return parts[0] if len(parts) == 1 else replace(axis, parts=tuple(parts))
    return axis


def hands_over(heads: tuple[int, int], group: tuple[int, int]) -> bool:
    """Whether groups shrink only because there are more key and value heads; (source, target) of both."""
    return _dealt_out(heads, group) and heads[1] * group[1] >= heads[0] * group[0]


def _dealt_out(heads: tuple[int, int], group: tuple[int, int]) -> bool:
    return heads[1] > heads[0] and heads[1] % heads[0] == 0 and group[1] < group[0]


def _merged(heads: Axis, group: Axis) -> list[Axis] | None:
    if heads.role != Role.KV_HEADS or group.role != Role.GROUP or heads.parts or group.parts:
        return None
    if not _dealt_out((heads.source, heads.target), (group.source, group.target)):
        return None
    times = heads.target // heads.source
    dealt = replace(group, target=times * group.target, dim=f"{heads.dim}*{group.dim}")
    return [dealt] if heads.source == 1 else [replace(heads, target=heads.source), dealt]
