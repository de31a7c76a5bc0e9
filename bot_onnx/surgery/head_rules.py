"""How a second key and value head goes through the ops between its weights and the attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from bot_onnx.graph.dims import times
from bot_onnx.surgery.head_walk import COPIES, Doubled, HeadWalk, Misfit, numbers, regrouped, walks

_HUGE = 1 << 30  #: a bound beyond this means "to the end"
_UNIT = (1, 1)
_IMAGE = 4  #: rank of what has an axis for heads


@walks(
    *(
        "Abs Add Cast Clip CastLike Cos Div Dropout Equal Erf Exp Identity Max Min Mul Neg Not Pow Reciprocal Relu "
        "Sigmoid Sin Sqrt Sub Sum Tanh Where"
    ).split()
)
def elementwise(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Axes line up from the right; what has no such axis goes to both heads, what has the query heads to groups."""
    out = node.outputs[0]
    rank = len(walk.shape(out))
    if any(label.grouped for label in held.values()):
        if len([value for value in node.inputs if value is not None]) > 1:
            raise Misfit("meets heads that are about to be repeated")
        walk.put(out, next(iter(held.values())))
        return
    places = {slot: label.axis - len(walk.shape(node.inputs[slot])) for slot, label in held.items()}
    place = next(iter(places.values()))
    size = walk.shape(out)[place]
    if len(set(places.values())) > 1:
        raise Misfit("meets a head along another axis")
    if all(walk.shape(node.inputs[slot])[place] == _UNIT for slot in held) and size != _UNIT:
        for slot, label in held.items():
            value = node.inputs[slot]
            assert value is not None
            node.replace_input_with(slot, walk.repeated(walk.opener(node), value, label, size[0]))
        return
    label = next(iter(held.values()))
    moved = replace(label, axis=label.axis - len(walk.shape(node.inputs[next(iter(held))])))
    for slot, value in enumerate(node.inputs):
        sizes = walk.shape(value) if value is not None else ()
        if (value is not None and len(sizes) >= -place and sizes[place] == size and size != _UNIT) or slot in held:
            assert value is not None
            walk.demand(value, replace(moved, axis=place + len(sizes)))
    walk.put(out, replace(moved, axis=place + rank))


@walks("Transpose")
def transpose(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Axes are permuted."""
    label = held[0]
    rank = len(walk.shape(node.inputs[0]))
    perm = list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else list(range(rank))[::-1]
    place = perm.index(label.axis)
    if label.grouped and perm[place + 1 : place + 2] != [label.axis + 1]:
        raise Misfit("takes heads from their groups")
    walk.put(node.outputs[0], replace(label, axis=place))


@walks("Unsqueeze", "Squeeze")
def squeeze(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Unit axes come or go; one that comes in front of a head's channels is the axis of the heads."""
    label, out = held[0], node.outputs[0]
    long = max(len(walk.shape(node.inputs[0])), len(walk.shape(out)))
    given = _numbers(walk, node, 1, "axes")
    if given is None or label.grouped:
        raise Misfit("changes axes that are not known")
    axes = sorted(axis % long for axis in given)
    if node.op_type == "Squeeze":
        if label.axis in axes:
            raise Misfit("drops the axis of the heads")
        walk.put(out, replace(label, axis=label.axis - sum(axis < label.axis for axis in axes)))
        return
    place = [axis for axis in range(long) if axis not in axes][label.axis]
    walk.put(out, replace(label, axis=place))
    _give_heads_their_axis(walk, node, replace(label, axis=place), axes)


def _give_heads_their_axis(walk: HeadWalk, node: ir.Node, label: Doubled, fresh: Sequence[int]) -> None:
    """Where activations ``[batch, sequence, channels]`` get one more axis, it is that of the heads."""
    sizes = walk.shape(node.outputs[0])
    value = node.inputs[0]
    computed = value is not None and value.const_value is None and any(first != second for first, second in sizes)
    if computed and len(sizes) == _IMAGE and label.axis == _IMAGE - 1 and sizes[label.axis] != _UNIT:
        found = [axis for axis in fresh if axis in (1, 2) and sizes[axis] == _UNIT]
        if found and label.blocks == ((0, sizes[label.axis][0]),):
            walk.unfolded(node, found[0], label)


@walks("Reshape", "Flatten")
def reshape(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Axes are split and joined; the shape is given anew."""
    label, out = held[0], node.outputs[0]
    before, after = list(walk.shape(node.inputs[0])), list(walk.shape(out))
    if label.grouped:
        lead = times(before[: label.axis])
        joined = [n for n in range(len(after)) if times(after[:n]) == lead and after[n] == before[label.axis + 1]]
        if not joined:
            raise Misfit("takes heads from their groups")
        before[label.axis : label.axis + 2] = [(COPIES, COPIES), (before[label.axis + 1][0] // COPIES,) * 2]
        _give_shape(walk, node, numbers(before, after))
        return
    found = regrouped(before, after, label)
    if found is None:
        raise Misfit("regroups the heads in a way that is not followed")
    _grow(before, label)
    fresh = [n for n in range(len(after)) if after[n] == _UNIT and n != found.axis]
    grown = list(after)
    _grow(grown, found)
    _give_shape(walk, node, numbers(before, grown))
    walk.put(out, found)
    _give_heads_their_axis(walk, node, found, fresh)


def _grow(sizes: list[tuple[int, int]], label: Doubled) -> None:
    size = sizes[label.axis][0] + label.more
    sizes[label.axis] = (size, size)


def _give_shape(walk: HeadWalk, node: ir.Node, shape: Sequence[int]) -> None:
    if node.op_type == "Flatten":
        raise Misfit("flattens the heads")
    node.attributes.pop("allowzero", None)  # zeros are sizes that stay
    walk.ints(node, 1, "shape", shape)


@walks("Expand", "Tile")
def expand(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """The one head is repeated for all query heads, or an axis behind it is; other axes pass."""
    if 0 not in held or held[0].grouped:
        raise Misfit("repeats heads in a way that is not followed")
    label, out, value = held[0], node.outputs[0], node.inputs[0]
    sizes, inner = walk.shape(out), walk.shape(value)
    assert value is not None
    place = label.axis + len(sizes) - len(inner)
    before = [_UNIT] * (len(sizes) - len(inner)) + list(inner)
    changed = [n for n, size in enumerate(sizes) if size != before[n]]
    if changed == [place]:
        site = walk.opener(node)
        if len(inner) != len(sizes):
            raise Misfit("repeats heads in a way that is not followed")
        site.replace(walk.repeated(site, value, label, sizes[place][0]))
        return
    if changed == [place + 1] and before[place] == before[place + 1] == _UNIT and sizes[place + 1][0] % COPIES == 0:
        repeats = [1] * len(sizes)
        repeats[place + 1] = sizes[place + 1][0] // COPIES
        walk.ints(node, 1, "group", repeats)
        walk.put(out, Doubled(place, grouped=True))
        return
    if place in changed or node.op_type == "Expand":
        raise Misfit("repeats heads in a way that is not followed")
    walk.put(out, replace(label, axis=place))


@walks("Concat")
def concat(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Along another axis all parts have two heads (a cache, what is new); along theirs the blocks move on."""
    out = node.outputs[0]
    rank = len(walk.shape(out))
    axis = node.attributes.get_int("axis", 0) % rank
    label = next(iter(held.values()))
    if label.grouped:
        raise Misfit("takes heads from their groups")
    if label.axis != axis:
        for value in node.inputs:
            if value is not None:
                walk.demand(value, label)
        walk.put(out, label)
        return
    start, blocks = 0, []
    for slot, value in enumerate(node.inputs):
        if slot in held and held[slot].axis != axis:
            raise Misfit("joins heads along different axes")
        blocks += [(start + first, length) for first, length in (held[slot].blocks if slot in held else ())]
        start += walk.shape(value)[axis][0]
    walk.put(out, Doubled(axis, tuple(blocks)))


@walks("Split")
def split(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Every part has the blocks that lie in it."""
    label = held[0]
    axis = node.attributes.get_int("axis", 0) % len(walk.shape(node.inputs[0]))
    if label.grouped or label.axis != axis:
        for output in node.outputs:
            walk.put(output, label)
        return
    start, sizes = 0, []
    for output in node.outputs:
        size = walk.shape(output)[axis][0]
        part = label.within(start, start + size)
        sizes.append(size + (part.more if part is not None else 0))
        walk.put(output, part)
        start += size
    if "split" in node.attributes:
        node.attributes["split"] = ir.AttrInt64s("split", sizes)
        return
    made = walk.opener(node).constant(np.array(sizes, np.int64), "split")
    node.attributes.pop("num_outputs", None)
    if len(node.inputs) < 2:
        node.resize_inputs(2)
    node.replace_input_with(1, made)


@walks("Slice")
def slice_(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """A piece of the axis has the blocks that lie in it."""
    label, value, out = held[0], node.inputs[0], node.outputs[0]
    sizes = walk.shape(value)
    if walk.shape(out)[label.axis] == sizes[label.axis]:
        walk.put(out, label)
        return
    columns = [_numbers(walk, node, slot, name) for slot, name in enumerate(("starts", "ends", "axes", "steps"), 1)]
    starts, stops, axes, steps = columns
    if starts is None or stops is None or label.grouped or len(node.inputs) < 3:
        raise Misfit("takes a part of the heads by bounds that are not known")
    axes = list(range(len(starts))) if axes is None else axes
    element = [axis % len(sizes) for axis in axes].index(label.axis)
    size = sizes[label.axis][0]
    if steps is not None and steps[element] != 1:
        raise Misfit("takes some of the heads")
    first, last = (_bound(bounds[element], size) for bounds in (starts, stops))
    part = label.within(first, last)
    starts[element], stops[element] = label.moved(first), label.moved(last)
    walk.ints(node, 1, "starts", starts)
    walk.ints(node, 2, "ends", stops)
    walk.put(out, part)


def _bound(bound: int, size: int) -> int:
    return max(0, min(bound + size if bound < 0 else bound, size))


@walks("Gather")
def gather(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """What is picked of heads becomes two of them; along another axis heads pass."""
    if 0 not in held or held[0].grouped:
        raise Misfit("looks heads up")
    label, out = held[0], node.outputs[0]
    sizes, ranks = walk.shape(node.inputs[0]), len(walk.shape(node.inputs[1]))
    axis = node.attributes.get_int("axis", 0) % len(sizes)
    if axis != label.axis:
        walk.put(out, replace(label, axis=label.axis + (ranks - 1 if axis < label.axis else 0)))
        return
    indices = _numbers(walk, node, 1, "")
    if indices is None or ranks > 1:
        raise Misfit("picks heads by indices that are not known")
    picked: list[int] = []
    blocks: list[tuple[int, int]] = []
    for place, index in enumerate(index % sizes[axis][0] for index in indices):
        doubled = (index, 1) in label.blocks
        if not doubled and any(start <= index < start + length for start, length in label.blocks):
            raise Misfit("picks channels of a head")
        first = label.moved(index)
        picked += [first, first + 1] if doubled else [first]
        blocks += [(place, 1)] if doubled else []
    if not blocks:
        walk.ints(node, 1, "indices", picked) if ranks else _pick(walk, node, picked[0])
        return
    if picked != list(range(picked[0], picked[0] + len(picked))) or (ranks == 0 and len(indices) > 1):
        raise Misfit("picks heads out of order")
    site = walk.opener(node)
    bounds = [site.constant(np.array([n], np.int64), "bound") for n in (picked[0], picked[-1] + 1, axis)]
    both = site.op("Slice", node.inputs[0], *bounds)
    if ranks == 0:
        both = _side_by_side(walk, node, both, axis)
    else:
        walk.take(node, both, walk.shape(out), Doubled(axis, tuple(blocks)))
    site.replace(both)


def _pick(walk: HeadWalk, node: ir.Node, index: int) -> None:
    node.replace_input_with(1, walk.opener(node).constant(np.array(index, np.int64), "index"))


def _side_by_side(walk: HeadWalk, node: ir.Node, both: ir.Value, axis: int) -> ir.Value:
    """A single index drops the axis: two heads then lie side by side in the channels behind it."""
    sizes = list(walk.shape(node.outputs[0]))
    width = sizes[axis][0] if axis < len(sizes) else 0
    if not width or sizes[axis] != (width, width):
        raise Misfit("picks a head that has no channels behind it")
    wide = [*sizes[:axis], (COPIES * width, COPIES * width), *sizes[axis + 1 :]]
    before = [*sizes[:axis], (COPIES, COPIES), *sizes[axis:]]
    result = walk.reshaped(walk.opener(node), both, before, wide)
    walk.take(node, result, sizes, Doubled(axis, ((0, width),)))
    return result


@walks("MatMul", "com.microsoft::FusedMatMul")
def matmul(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """A weight makes both heads; keys and values that meet more query heads are repeated for them."""
    out = node.outputs[0]
    ranks = [len(walk.shape(value)) for value in node.inputs[:2]]
    turned = any(node.attributes.get_int(name, 0) for name in ("transBatchA", "transBatchB"))
    for slot, label in held.items():
        place, other = label.axis - ranks[slot], 1 - slot
        value = node.inputs[slot]
        assert value is not None
        if place >= -2:
            flipped = node.attributes.get_int("transA" if slot == 0 else "transB", 0)
            kept = (-2 if slot == 0 else -1) if not flipped else (-1 if slot == 0 else -2)
            if place != kept or label.grouped:
                raise Misfit("sums over the heads")
            walk.put(out, replace(label, axis=len(walk.shape(out)) + (-2 if slot == 0 else -1)))
            continue
        if turned or label.grouped:
            raise Misfit("multiplies heads in a way that is not followed")
        theirs = walk.shape(node.inputs[other])
        size = theirs[place] if len(theirs) >= -place else _UNIT
        if size == _UNIT:
            walk.put(out, replace(label, axis=len(walk.shape(out)) + place))
        else:
            node.replace_input_with(slot, walk.repeated(walk.opener(node), value, label, size[0]))


@walks("Gemm")
def gemm(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """A weight and its bias make both heads."""
    kept = 0 if node.attributes.get_int("transB", 0) else 1
    if 0 in held or 1 not in held or held[1].axis != kept:
        raise Misfit("sums over the heads")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        rank = len(walk.shape(node.inputs[2]))
        if walk.shape(node.inputs[2])[-1] != _UNIT:
            walk.demand(node.inputs[2], replace(held[1], axis=rank - 1))
    walk.put(node.outputs[0], replace(held[1], axis=1))


@walks(
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare",
    "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Softmax", "LpNormalization",
)  # fmt: skip
def along_others(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Norms and sums over a head's channels work on each head by itself."""
    if set(held) != {0} or held[0].grouped:
        raise Misfit("has a weight for every head")
    label, rank = held[0], len(walk.shape(node.inputs[0]))
    if node.op_type.startswith("Reduce"):
        given = _numbers(walk, node, 1, "axes")
        axes = {axis % rank for axis in given} if given else set(range(rank))
        kept = node.attributes.get_int("keepdims", 1)
        gone = 0 if kept else sum(axis < label.axis for axis in axes)
    else:
        first = node.attributes.get_int("axis", -1) % rank
        axes = set(range(first, rank)) if "Norm" in node.op_type and "Lp" not in node.op_type else {first}
        gone = 0
    if label.axis in axes:
        raise Misfit("sums over the heads")
    for output in node.outputs:
        if output.name:
            walk.put(output, replace(label, axis=label.axis - gone))


@walks("RotaryEmbedding", "com.microsoft::RotaryEmbedding")
def rotary(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Both heads turn alike."""
    if set(held) != {0}:
        raise Misfit("turns heads by a table of heads")
    _whole_heads(walk, node, 0, held[0])
    if len(walk.shape(node.inputs[0])) == 3 and node.attributes.get_int("num_heads", 0):
        node.attributes["num_heads"] = ir.AttrInt64("num_heads", COPIES)
    walk.put(node.outputs[0], held[0])


def _whole_heads(walk: HeadWalk, node: ir.Node, slot: int, label: Doubled) -> None:
    """An operand ``[batch, sequence, head_dim]`` or ``[batch, 1, sequence, head_dim]``."""
    sizes = walk.shape(node.inputs[slot])
    wanted = Doubled(1) if len(sizes) == _IMAGE else Doubled(2, ((0, sizes[-1][0]),))
    if label != wanted:
        raise Misfit("has its heads elsewhere")


@walks("Attention", "com.microsoft::GroupQueryAttention")
def attention(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """An op that is a whole attention is told the number; its caches have as many heads."""
    grouped = node.op_type == "GroupQueryAttention"
    packed = grouped and node.inputs[1] is None
    if not packed:
        if not {1, 2} <= set(held) or 0 in held:
            raise Misfit("would have one head where the others have two")
        for slot in (1, 2):
            _whole_heads(walk, node, slot, held[slot])
    for slot in (3, 4) if grouped else (4, 5):
        past = node.inputs[slot] if slot < len(node.inputs) else None
        if past is not None:
            walk.demand(past, Doubled(1))
    if node.attributes.get_int("kv_num_heads", 0):
        node.attributes["kv_num_heads"] = ir.AttrInt64("kv_num_heads", COPIES)
    for output in node.outputs[1:3]:
        if output.name:
            walk.put(output, Doubled(1))


@walks("Shape", "Size")
def measure(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Numbers have no heads; what is reshaped by them is given its shape anew."""


def _numbers(walk: HeadWalk, node: ir.Node, slot: int, attribute: str) -> list[int] | None:
    """Integers that an op is told, as an input or as an attribute."""
    if attribute in node.attributes:
        return list(node.attributes[attribute].as_ints())
    value = node.inputs[slot] if slot < len(node.inputs) else None
    return None if value is None else walk.integers(value)
