"""How a second key and value head goes through the ops between its weights and the attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import times
from bot_onnx._ops import keys, works_place_by_place
from bot_onnx._surgery.head_walk import COPIES, IMAGE, UNIT, Doubled, HeadWalk, Misfit, numbers, regrouped, walks


@walks(*keys(works_place_by_place))
def elementwise(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Axes line up from the right; what has no such axis goes to both heads, what has the query heads to groups."""
    out = node.outputs[0]
    rank = len(walk.shape(out))
    if any(label.grouped or label.folded for label in held.values()):
        if any(prod(n for n, _ in walk.shape(v)) > 1 for n, v in enumerate(node.inputs) if v and n not in held):
            raise Misfit("meets heads that have no axis of their own")
        walk.put(out, next(iter(held.values())))
        return
    places = {slot: label.axis - len(walk.shape(node.inputs[slot])) for slot, label in held.items()}
    place = next(iter(places.values()))
    size = walk.shape(out)[place]
    if len(set(places.values())) > 1:
        raise Misfit("meets a head along another axis")
    if all(walk.shape(node.inputs[slot])[place] == UNIT for slot in held) and size != UNIT:
        for slot, label in held.items():
            walk.repeat(node, slot, label, size[0])
        return
    label = next(iter(held.values()))
    moved = replace(label, axis=label.axis - len(walk.shape(node.inputs[next(iter(held))])))
    for slot, value in enumerate(node.inputs):
        sizes = walk.shape(value) if value is not None else ()
        if (value is not None and len(sizes) >= -place and sizes[place] == size and size != UNIT) or slot in held:
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
    given = walk.told(node, 1, "axes")
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
    out = node.outputs[0]
    found = [axis for axis in fresh if axis in (1, 2) and walk.unfolds(out, label, axis)]
    if len(walk.shape(out)) != IMAGE or not found:
        return
    if out.is_graph_output():
        raise Misfit("shows heads that have no axis of their own yet")
    for usage in list(out.uses()):
        walk.unfold(usage.node, usage.idx, found[0])


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
    if _fold(walk, node, label, before, after):
        return
    found = regrouped(before, after, label)
    if found is None or label.folded:
        raise Misfit("regroups the heads in a way that is not followed")
    _grow(before, label)
    fresh = [n for n in range(len(after)) if after[n] == UNIT and n != found.axis]
    grown = list(after)
    _grow(grown, found)
    _give_shape(walk, node, numbers(before, grown))
    walk.put(out, found)
    _give_heads_their_axis(walk, node, found, fresh)


def _fold(
    walk: HeadWalk, node: ir.Node, label: Doubled, before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> bool:
    """Heads join the batch in front of them, or leave it again; computed shapes say so by themselves."""
    out, place = node.outputs[0], label.axis
    if label.folded and after == [*before[: place + 1], UNIT, *before[place + 1 :]]:
        found = Doubled(place + 1)
        after[place + 1] = (COPIES, COPIES)
    elif label == Doubled(1) and before[1] == UNIT and after == [before[0], *before[2:]]:
        found = Doubled(0, folded=True)
    else:
        return False
    if node.op_type != "Reshape" or walk.told(node, 1, "") is not None:
        before[0 if label.folded else 1] = (0, 0)  # none is a size of what comes out
        shape = numbers(before, after) if label.folded else numbers([], after)
        _give_shape(walk, node, [-1, *shape[1:]])
    walk.put(out, found)
    return True


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
    before = [UNIT] * (len(sizes) - len(inner)) + list(inner)
    changed = [n for n, size in enumerate(sizes) if size != before[n]]
    if len(changed) == 1 and len(inner) == len(sizes):  # what grows are heads, or the members of their groups
        for axis in (changed[0] - 1, changed[0]):
            if place != axis and walk.unfolds(value, label, axis):
                label, value = walk.unfold(node, 0, axis), node.inputs[0]
                place = label.axis
                assert value is not None
                break
    if changed == [place]:
        site = walk.opener(node)
        if len(inner) != len(sizes):
            raise Misfit("repeats heads in a way that is not followed")
        site.replace(walk.repeated(site, value, label, sizes[place][0]))
        return
    if changed == [place + 1] and before[place] == before[place + 1] == UNIT and sizes[place + 1][0] % COPIES == 0:
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
        if all(
            value is not None and walk.unfolds(value, held[n], 1) for n, value in enumerate(node.inputs) if n in held
        ):
            for slot in held:
                label = walk.unfold(node, slot, 1)
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
    columns = [walk.told(node, slot, name) for slot, name in enumerate(("starts", "ends", "axes", "steps"), 1)]
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
    indices = walk.told(node, 1, "")
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
