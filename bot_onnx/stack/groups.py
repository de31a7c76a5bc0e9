"""Query heads as key and value heads x group, where the former grow by what the latter lose: the query heads stay.

With a heads of keys, b = r·a of them in the target, and groups of g query heads, copies of a key head stand side by
side and take over its group part by part. So the axis of the query heads reads as a x r x (g / r): only the last part
can change. Where there is one key head (a = 1), any part of the group can be anybody's, and the axis is a leaf.
"""

from __future__ import annotations

from dataclasses import replace

from bot_onnx.stack.types import Axis


def regrouped(axis: Axis) -> Axis:
    """A product of key and value heads and a group, both of which change, read as above; others as they are."""
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
    """Whether the number of key and value heads grows by what their groups lose; (source, target) of both."""
    (a, b), (g, h) = heads, group
    if not (b > a and h < g and b * h >= a * g):
        return False
    return a == 1 or (b % a == 0 and g % (b // a) == 0)


def _merged(heads: Axis, group: Axis) -> list[Axis] | None:
    if heads.role != "kv_heads" or group.role != "group" or heads.parts or group.parts:
        return None
    if not hands_over((heads.source, heads.target), (group.source, group.target)):
        return None
    if heads.source == 1:
        return [Axis("leaf", group.source, heads.target * group.target, "heads", dim=f"{heads.dim}*{group.dim}")]
    times = heads.target // heads.source
    return [
        replace(heads, target=heads.source),
        Axis("leaf", times, times, "group", dim=f"{group.dim}/{times}"),
        replace(group, source=group.source // times),
    ]
