"""Whose key and value heads are: of all query heads together (multi-query), or one of each query head's own.

One head for all of them is an axis of size 1 that has no dim.

The one head shows in the weights: what makes keys is as wide as one head, where what makes queries is several heads
wide; in a matrix for all three it is what holds no query heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from bot_onnx._axes.dims import Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._ops import is_linear
from bot_onnx._patterns.attention import Attention, projections, readers

Blocks = tuple[tuple[int, int], ...]  #: (start, length) along an axis


@dataclass(frozen=True, slots=True)
class Share:
    """Where a weight holds the one key head, the one value head, or both.

    Attributes:
        weight: the initializer. axis: one of its axes. dims: what the axis is made of, in order: the one head (True)
            and everything else.
    """

    weight: ir.Value
    axis: int
    dims: tuple[tuple[Dim, bool], ...]


@dataclass(frozen=True, slots=True)
class SharedHead:
    """An attention with one key and value head for all query heads.

    Attributes:
        score: the node that multiplies queries and keys, or is the whole attention. heads: dim of the query heads.
        shares: the weights that make keys and values.
    """

    score: ir.Node
    heads: Dim
    shares: tuple[Share, ...]


def shared_heads(context: AxisFacts, attentions: Sequence[Attention]) -> list[SharedHead]:
    """The attentions of a graph with one key and value head, in graph order."""
    found: list[SharedHead] = []
    table = context.table
    for attention in attentions:
        heads = attention.heads
        if heads is None or table.composite(heads) is not None or not table.is_static(heads):
            continue
        keys = tuple(_shares(context, attention, attention.key_operand, attention.head_dim))
        if not keys:
            continue
        values = tuple(
            share
            for share in _shares(context, attention, attention.value_operand, attention.value_dim)
            if (share.weight, share.axis) not in {(other.weight, other.axis) for other in keys}
        )
        found.append(SharedHead(attention.score, table.find(heads), keys + values))
    return found


def own_heads(context: AxisFacts, attentions: Sequence[Attention]) -> bool:
    """Whether every query head has a key head of its own: whatever makes keys has an index for each of them."""
    table = context.table
    found = [(one, set(table.leaves(one.heads))) for one in attentions if one.heads is not None]
    return bool(found) and all(
        any(_is_made_for(context, heads, one.head_dim, weight) for weight, _ in one.keys) for one, heads in found
    )


def _is_made_for(context: AxisFacts, heads: set[Dim], head_dim: Dim, weight: ir.Value) -> bool:
    """Whether a weight makes the channels of a head, in each part that does so, for all of some heads."""
    table = context.table
    width = set(table.leaves(head_dim))
    held = [dim for dim in context.axes_of(weight) if dim is not None]
    made = [dim for dim in held if width & set(table.leaves(dim))]
    beside = {leaf for dim in held if dim not in made for leaf in table.leaves(dim)}
    parts = [part for dim in made for part in _pieces(context, dim) if width & set(table.leaves(part))]
    return bool(parts) and all(heads <= beside | set(table.leaves(part)) for part in parts)


def _pieces(context: AxisFacts, dim: Dim) -> tuple[Dim, ...]:
    composite = context.table.composite(dim)
    return composite.parts if composite is not None and composite.kind == "concat" else (dim,)


def _shares(context: AxisFacts, attention: Attention, operand: ir.Value | None, width: Dim | None) -> Iterator[Share]:
    if operand is None or width is None:
        return
    heads = attention.heads
    assert heads is not None
    widths = {context.table.find(dim) for dim in (attention.head_dim, attention.value_dim) if dim is not None}
    for weight in dict.fromkeys(value for value, _ in projections(context, operand, [])):
        if not any(map(is_linear, readers(weight))):
            continue
        for axis, dim in enumerate(context.axes_of(weight)):
            parts = [] if dim is None else list(_parts(context, dim, widths, context.table.find(heads)))
            if any(one for _, one in parts) and dim is not None:
                yield Share(weight, axis, tuple(parts))
                break


def _parts(context: AxisFacts, dim: Dim, widths: set[Dim], heads: Dim) -> Iterator[tuple[Dim, bool]]:
    """What an axis is made of: one head (as wide as the score's sum, or as what it weighs), and everything else."""
    table = context.table
    root, composite = table.find(dim), table.composite(dim)
    if root in widths:
        yield root, True
        return
    if composite is not None and composite.kind == "product":
        slow, rest = table.composite(composite.parts[0]), table.product(composite.parts[1:])
        if slow is not None and slow.kind == "concat" and rest is not None and table.find(rest) in widths:
            for part in slow.parts:
                whole = table.product([part, rest])
                if heads in table.leaves(part) and whole is not None:
                    yield whole, False
                else:
                    yield from [(table.find(rest), True)] * table.size(part)[0]
            return
    if composite is not None and composite.kind == "concat":
        for part in composite.parts:
            yield from _parts(context, part, widths, heads)
        return
    yield root, False
