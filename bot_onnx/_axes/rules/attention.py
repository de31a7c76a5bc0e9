"""Ops that are a whole attention, or turn queries and keys: ONNX's own since opset 23, and onnxruntime's.

They name heads by an attribute and keep head_dim implicit. A rule splits the axes that hold heads x head_dim, says
which attribute follows which dim, and leaves for :mod:`bot_onnx._patterns.attention` where queries and keys come in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from bot_onnx._axes.dims import EQUAL_PARTS, MaybeDim
from bot_onnx._axes.rules.base import AttentionDims, Axes, Context, rule
from bot_onnx._ops import Slot, record
from bot_onnx._reasons import Reason, Why

_Parts = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class _Heads:
    """Heads and head_dim of one of query, key, value, and its axes."""

    heads: MaybeDim
    head_dim: MaybeDim
    axes: Axes


def _split(context: Context, node: ir.Node, dim: MaybeDim, heads: int) -> tuple[MaybeDim, MaybeDim]:
    """``dim`` as heads x head_dim; what cannot be split is frozen."""
    size = context.table.size(dim)[0]
    pieces = context.table.split(dim, (size // heads,) * 2) if dim is not None and heads and size % heads == 0 else None
    if pieces is None:
        context.table.freeze(dim, Reason.at(Why.HEADS, node))
        return None, None
    return pieces


def _operand(context: Context, node: ir.Node, slot: int, heads: int) -> _Heads:
    """An operand ``[batch, sequence, heads * head_dim]`` or ``[batch, heads, sequence, head_dim]``."""
    dims = context.axes_of(node.inputs[slot])
    if len(dims) == 4:
        return _Heads(dims[1], dims[3], dims)
    split = _split(context, node, dims[-1], heads)
    return _Heads(*split, dims)


def _input(node: ir.Node, slot: int) -> ir.Value | None:
    return node.inputs[slot] if slot < len(node.inputs) else None


def _follow(context: Context, node: ir.Node, name: str, dim: MaybeDim) -> None:
    """The attribute ``name``, where it is given, is the size of ``dim``."""
    if dim is not None and node.attributes.get_int(name, 0) > 0:
        context.require_attribute(node, name, 0, [dim])


def _group(context: Context, node: ir.Node, heads: MaybeDim, kv_heads: MaybeDim) -> None:
    """Query heads are kv heads x group, where there are fewer kv heads."""
    table = context.table
    if heads is None:
        return
    if table.size(heads) == table.size(kv_heads):
        table.unify(heads, kv_heads)
        return
    group = table.size(heads)[0] // table.size(kv_heads)[0]
    pieces = table.split(heads, (group, group))
    if pieces is None:
        table.freeze(heads, Reason.at(Why.HEADS, node))
    else:
        table.unify(pieces[0], kv_heads)


def _caches(context: Context, node: ir.Node, slots: tuple[int, ...], key: _Heads, value: _Heads) -> None:
    """``past`` inputs ``[batch, heads, length, head_dim]``; keys first, values second."""
    for slot, side in zip(slots, (key, value), strict=True):
        past = context.axes_of(_input(node, slot))
        if len(past) == 4:
            context.table.unify(past[1], side.heads)
            context.table.unify(past[3], side.head_dim)


def _outputs(context: Context, node: ir.Node, query: _Heads, key: _Heads, value: _Heads) -> None:
    """The result like the query, with the values' head_dim; then present keys and values, then the scores."""
    batch = query.axes[0]
    first = node.outputs[0]
    if len(context.sizes(first)) == 4:
        context.set_axes(first, [batch, query.heads, query.axes[2], value.head_dim])
    else:
        context.set_axes(first, [batch, query.axes[1], context.table.product([query.heads, value.head_dim])])
    for output, side in zip(node.outputs[1:3], (key, value), strict=False):
        if output.name:
            length = context.table.leaf(context.sizes(output)[2])
            context.set_axes(output, [batch, side.heads, length, side.head_dim])
    for output in node.outputs[3:]:
        if output.name:
            sizes = context.sizes(output)
            context.set_axes(output, [batch, query.heads, context.table.leaf(sizes[2]), context.table.leaf(sizes[3])])


def _bias(context: Context, value: ir.Value | None, heads: MaybeDim) -> None:
    """What is added to the scores: ``[batch, heads, …]``, where it tells heads apart."""
    dims = context.axes_of(value)
    if len(dims) == 4 and dims[1] is not None:
        context.table.unify(dims[1], heads)


def _record(
    context: Context,
    node: ir.Node,
    query: _Heads,
    value: _Heads,
    parts: tuple[int | None, int | None],
    past: int,
) -> None:
    """Leave for the search for attentions what this one is.

    ``parts``: the parts of a packed operand. ``past``: slot of keys that are given; constant ones are keys like others.
    """
    if query.head_dim is None:
        return
    sources = [_input(node, 0), _input(node, 0 if parts[1] is not None and parts[0] is not None else 1)]
    prefix = _input(node, past)
    before = [(prefix, None)] if prefix is not None and prefix.const_value is not None else []
    context.attentions[node] = AttentionDims(
        head_dim=query.head_dim,
        heads=query.heads,
        value_dim=value.head_dim,
        queries=tuple((v, parts[0]) for v in sources[:1] if v is not None),
        keys=(*((v, parts[1]) for v in sources[1:] if v is not None), *before),
    )


@rule("Attention")
def attention(context: Context, node: ir.Node) -> None:
    """ONNX's attention: 3-D operands with heads in attributes, or 4-D ones."""
    query = _operand(context, node, 0, node.attributes.get_int("q_num_heads", 0))
    kv_heads = node.attributes.get_int("kv_num_heads", 0)
    key, value = (_operand(context, node, slot, kv_heads) for slot in (1, 2))
    context.table.unify(query.head_dim, key.head_dim)
    context.table.unify(key.heads, value.heads)
    _group(context, node, query.heads, key.heads)
    _caches(context, node, (4, 5), key, value)
    _bias(context, _input(node, 3), query.heads)
    _follow(context, node, "q_num_heads", query.heads)
    _follow(context, node, "kv_num_heads", key.heads)
    _outputs(context, node, query, key, value)
    _record(context, node, query, value, (None, None), 4)


@rule("com.microsoft::MultiHeadAttention")
def multi_head_attention(context: Context, node: ir.Node) -> None:
    """Onnxruntime's attention of projected operands, separate or packed as ``[…, heads, 3 or 2, head_dim]``."""
    table = context.table
    heads = node.attributes.get_int("num_heads", 0)
    dims = context.axes_of(node.inputs[0])
    parts: _Parts = (None, None)
    if len(dims) == 5:
        query = key = value = _Heads(dims[2], dims[4], dims)
        table.freeze(dims[3], EQUAL_PARTS)
        parts = (0, 1)
    else:
        query = _operand(context, node, 0, heads)
        packed = context.axes_of(_input(node, 1))
        if len(packed) == 5:
            key = value = _Heads(packed[2], packed[4], packed)
            table.freeze(packed[3], EQUAL_PARTS)
        else:
            key, value = (_operand(context, node, slot, heads) for slot in (1, 2))
    table.unify(query.heads, key.heads)
    table.unify(key.heads, value.heads)
    table.unify(query.head_dim, key.head_dim)
    bias = context.axes_of(_input(node, 3))
    if bias and bias[0] is not None:
        sides = [table.product([side.heads, side.head_dim]) for side in (query, key, value)]
        table.unify(bias[0], table.concat([side for side in sides if side is not None]))
    _bias(context, _input(node, 5), query.heads)
    _caches(context, node, (6, 7), key, value)
    _follow(context, node, "num_heads", query.heads)
    _outputs(context, node, query, key, value)
    _record(context, node, query, value, parts, 6)
    added = _input(node, 3)
    if added is not None and node in context.attentions:
        found = context.attentions[node]
        queries, keys = (*found.queries, (added, 0)), (*found.keys, (added, 1))
        context.attentions[node] = replace(found, queries=queries, keys=keys)


@rule("com.microsoft::GroupQueryAttention")
def group_query_attention(context: Context, node: ir.Node) -> None:
    """Onnxruntime's attention of decoders: fewer kv heads, a cache, and the rotary embedding inside."""
    table = context.table
    heads, kv_heads = node.attributes.get_int("num_heads", 0), node.attributes.get_int("kv_num_heads", 0)
    dims = context.axes_of(node.inputs[0])
    parts: _Parts = (None, None)
    packed = _input(node, 1) is None
    if packed:
        split = _packed(context, node, dims, heads, kv_heads)
        if split is None:
            return
        query, key, value = split
        parts = (0, 1)
    else:
        query = _operand(context, node, 0, heads)
        key, value = (_operand(context, node, slot, kv_heads) for slot in (1, 2))
    table.unify(query.head_dim, key.head_dim)
    table.unify(key.head_dim, value.head_dim)
    table.unify(key.heads, value.heads)
    _group(context, node, query.heads, key.heads)
    _caches(context, node, (3, 4), key, value)
    if node.attributes.get_int("do_rotary", 0):
        _rotate(
            context,
            node,
            query.head_dim,
            _tables(node),
            node.attributes.get_int("rotary_interleaved", 0),
            0,
        )
    for slot, dim in ((11, query.heads), (14, query.head_dim), (15, key.head_dim)):
        parameter = context.axes_of(_input(node, slot))
        if parameter:
            table.unify(parameter[-1], dim)
    _bias(context, _input(node, 10), query.heads)
    _follow(context, node, "num_heads", query.heads)
    _follow(context, node, "kv_num_heads", key.heads)
    _outputs(context, node, query, key, value)
    _record(context, node, query, value, parts, 3)


def _packed(
    context: Context, node: ir.Node, dims: Axes, heads: int, kv_heads: int
) -> tuple[_Heads, _Heads, _Heads] | None:
    """An operand whose last axis is query heads, key heads and value heads in a row."""
    table = context.table
    size = table.size(dims[-1])[0] // (heads + 2 * kv_heads)
    bounds = [heads * size, (heads + kv_heads) * size]
    pieces = table.cut(dims[-1], bounds) if dims[-1] is not None else None
    if pieces is None or len(pieces) != 3:
        reason = Reason.at(Why.HEADS_PACKED, node)
        table.freeze(dims[-1], reason)
        for output in node.outputs:
            if output.name:
                context.new_axes(output, reason)
        return None
    counts = (heads, kv_heads, kv_heads)
    sides = [_Heads(*_split(context, node, p, n), dims) for p, n in zip(pieces, counts, strict=True)]
    return sides[0], sides[1], sides[2]


@rule("com.microsoft::Attention")
def packed_attention(context: Context, node: ir.Node) -> None:
    """Onnxruntime's attention that holds its projection: one weight and one bias for queries, keys and values."""
    table = context.table
    data, weight = context.axes_of(node.inputs[0]), context.axes_of(node.inputs[1])
    context.contracted[node] = table.unify(data[-1], weight[0])
    heads = node.attributes.get_int("num_heads", 0)
    attribute = node.attributes.get("qkv_hidden_sizes")
    sizes = list(attribute.as_ints()) if attribute is not None else []
    total = table.size(weight[1])[0]
    if len(sizes) != 3:
        sizes = [total // 3] * 3
    pieces = table.cut(weight[1], [sizes[0], sizes[0] + sizes[1]]) if weight[1] is not None else None
    if pieces is None or len(pieces) != 3:
        table.freeze(weight[1], Reason.at(Why.HEADS, node))
        for output in node.outputs:
            if output.name:
                context.new_axes(output, Reason.at(Why.HEADS, node))
        return
    query, key, value = (_Heads(*_split(context, node, piece, heads), data) for piece in pieces)
    table.unify(query.heads, key.heads)
    table.unify(key.heads, value.heads)
    table.unify(query.head_dim, key.head_dim)
    added = _input(node, 2)
    if added is not None:
        table.unify(context.axes_of(added)[0], weight[1])
    past = context.axes_of(_input(node, 4))
    if len(past) == 5:
        _half_cache(context, node, past, key)
    _bias(context, _input(node, 5), query.heads)
    _follow(context, node, "num_heads", query.heads)
    if attribute is not None:
        for element, piece in enumerate(pieces):
            context.require_attribute(node, "qkv_hidden_sizes", element, [piece])
    if node.attributes.get_int("do_rotary", 0):
        table.freeze(query.head_dim, Reason.at(Why.OWN_ROTATION, node))
    context.set_axes(node.outputs[0], [data[0], data[1], table.product([query.heads, value.head_dim])])
    if len(node.outputs) > 1 and node.outputs[1].name:
        length = table.leaf(context.sizes(node.outputs[1])[3])
        context.set_axes(node.outputs[1], [_count(context, 2), data[0], key.heads, length, key.head_dim])
    if query.head_dim is not None:
        operands = [v for v in (node.inputs[1], added) if v is not None]
        context.attentions[node] = AttentionDims(
            head_dim=query.head_dim,
            heads=query.heads,
            value_dim=value.head_dim,
            queries=tuple((v, 0) for v in operands),
            keys=tuple((v, 1) for v in operands),
        )


def _half_cache(context: Context, node: ir.Node, past: Axes, key: _Heads) -> None:
    """``[2, batch, heads, length, head_dim]``."""
    context.table.freeze(past[0], Reason(Why.KEYS_AND_VALUES))
    context.table.unify(past[2], key.heads)
    context.table.unify(past[4], key.head_dim)


def _count(context: Context, number: int) -> MaybeDim:
    dim = context.table.leaf((number, number))
    context.table.freeze(dim, EQUAL_PARTS)
    return dim


def _tables(node: ir.Node) -> tuple[int, int]:
    """Input slots of tables of cosines and sines ``[positions or batch, …, half of what turns]``."""
    cosines, sines = record(node).inputs_for(Slot.ROTATION)
    return cosines, sines


@rule("RotaryEmbedding", "com.microsoft::RotaryEmbedding")
def rotary_embedding(context: Context, node: ir.Node) -> None:
    """Pairs of head_dim turn by the angles of a table; heads and the rest of head_dim pass."""
    caches = _tables(node)
    dims = context.axes_of(node.inputs[0])
    heads = node.attributes.get_int("num_heads", 0)
    rotated = node.attributes.get_int("rotary_embedding_dim", 0)
    if len(dims) == 4:
        head_dim = dims[3]
    else:
        width = context.axes_of(_input(node, caches[0]))
        if not heads:
            heads = context.table.size(dims[-1])[0] // (2 * context.table.size(width[-1])[0])
        split = _split(context, node, dims[-1], heads)
        head_dim = split[1]
        _follow(context, node, "num_heads", split[0])
    _rotate(context, node, head_dim, caches, node.attributes.get_int("interleaved", 0), rotated)
    context.set_axes(node.outputs[0], dims)


def _rotate(
    context: Context, node: ir.Node, head_dim: MaybeDim, caches: tuple[int, int], interleaved: int, rotated: int
) -> None:
    """Write the turned part of head_dim as two halves (or as pairs), and tie the halves to the tables' columns."""
    table = context.table
    if head_dim is None:
        return
    size = table.size(head_dim)[0]
    part = head_dim
    if 0 < rotated < size:
        pieces = table.cut(head_dim, [rotated])
        if pieces is None:
            table.freeze(head_dim, Reason.at(Why.TURNS_PART, node))
            return
        part = pieces[0]
    if rotated:
        context.require_attribute(node, "rotary_embedding_dim", 0, [part])
    width = table.size(part)[0] // 2
    if interleaved:
        pairs = table.split(part, (2, 2))
        half = pairs[0] if pairs is not None else None
        if pairs is not None:
            table.freeze(pairs[1], EQUAL_PARTS)
    else:
        halves = table.cut(part, [width])
        half = table.unify(*halves) if halves is not None and len(halves) == 2 else None
    if half is None:
        table.freeze(part, Reason.at(Why.TURNS_PAIRS, node))
        return
    for slot in caches:
        cache = context.axes_of(_input(node, slot))
        if cache:
            table.unify(cache[-1], half)
            if len(cache) == 2:
                table.freeze(cache[0], Reason.at(Why.ROWS_BY_POSITION, node))
