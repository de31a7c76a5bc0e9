"""Repetitions written as a Gather by constant indices: 0, 0, 1, 1 (each in a row) or 0, 1, 0, 1 (all of them in turn).

The indices name no size that could follow a dim. Written as Expand and Reshape, or as Tile, the numbers do: so key and
value heads that are repeated for their query heads grow and shrink as they do in the other spellings.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.decompose.builder import Site
from bot_onnx._canonical.spelling.seen import Pair, Seen, numbers
from bot_onnx._canonical.spelling.source_spelling import reads_as
from bot_onnx._ops.nodes import names_in

_EXPAND, _UNSQUEEZE_BY_INPUT = 8, 13  #: opsets from which on Expand is there, and Unsqueeze is given its axes


def spell_repeats(graph: ir.Graph, seen: Seen) -> bool:
    """Write every Gather that repeats all of a static axis alike as Expand and Reshape, or as Tile, in place.

    Returns:
        Whether there was one.
    """
    if graph.opset_imports.get("", _EXPAND) < _EXPAND:
        return False
    found = [(node, write) for node in graph if (write := _repetition(node, seen)) is not None]
    taken = names_in(graph) if found else set()
    for node, write in found:
        site, shape = Site(graph, node, taken), seen.shape(node.outputs[0])
        result = write(site)
        site.replace(result)
        if shape is not None:
            seen.shapes[result.name or ""] = shape
    return bool(found)


def _repetition(node: ir.Node, seen: Seen) -> Callable[[Site], ir.Value] | None:
    """How a node that repeats an axis is written; None: it does something else, or there is no saying it."""
    value = node.inputs[0] if node.op_type == "Gather" and node.domain in ("", "ai.onnx") else None
    shape = None if value is None or value.const_value is not None else seen.shape(value)
    indices = numbers(node, 1) if shape else None
    if value is None or not shape or indices is None or indices.ndim != 1 or node.outputs[0].name in seen.arithmetic:
        return None
    axis = node.attributes.get_int("axis", 0) % len(shape)
    size, other = shape[axis]
    if size != other or size < 1 or len(indices) % size or len(indices) <= size:
        return None
    order, count, every = indices % size, len(indices) // size, np.arange(size)
    if size > 1 and np.array_equal(order, np.tile(every, count)):
        return lambda site: _tiled(site, value, axis, len(shape), count)
    if np.array_equal(order, np.repeat(every, count)):
        target = _merged(shape, axis, count)
        return None if target is None else lambda site: _in_a_row(site, value, shape, axis, target, seen)
    return None


def _merged(shape: tuple[Pair, ...], axis: int, count: int) -> NDArray[np.int64] | None:
    """The shape with the axis and its copies as one; None where several sizes behind it are set at run time."""
    behind = [first if first == second else -1 for first, second in shape[axis + 1 :]]
    if behind.count(-1) > 1 or 0 in behind:
        return None
    return np.array([*[0] * axis, shape[axis][0] * count, *behind], np.int64)


def _tiled(site: Site, value: ir.Value, axis: int, rank: int, count: int) -> ir.Value:
    repeats = np.where(np.arange(rank) == axis, count, 1).astype(np.int64)
    made = site.op("Tile", value, site.constant(repeats, "repeats"))
    return _spelled_as_before(site, made, made)


def _in_a_row(
    site: Site, value: ir.Value, shape: tuple[Pair, ...], axis: int, target: NDArray[np.int64], seen: Seen
) -> ir.Value:
    """One index is repeated where it stands, each of several along an axis of its own."""
    count = int(target[axis]) // shape[axis][0]
    if shape[axis][0] == 1:
        repeats = np.where(np.arange(len(shape)) == axis, count, 1).astype(np.int64)
        made = site.op("Expand", value, site.constant(repeats, "group"))
        return _spelled_as_before(site, made, made)
    if site.opset < _UNSQUEEZE_BY_INPUT:
        apart = site.op("Unsqueeze", value, attributes={"axes": [axis + 1]})
    else:
        apart = site.op("Unsqueeze", value, site.constant(np.array([axis + 1], np.int64), "axes"))
    repeats = np.where(np.arange(len(shape) + 1) == axis + 1, count, 1).astype(np.int64)
    wide = site.op("Expand", apart, site.constant(repeats, "group"))
    for made, number in ((apart, 1), (wide, count)):
        seen.shapes[made.name or ""] = (*shape[: axis + 1], (number, number), *shape[axis + 1 :])
    return _spelled_as_before(site, apart, site.op("Reshape", wide, site.constant(target, "shape")))


def _spelled_as_before(site: Site, first: ir.Value, last: ir.Value) -> ir.Value:
    """The new nodes have the type of the node's result, and read what it read in the source's spelling."""
    maker = first.producer()
    assert maker is not None
    reads_as(maker, site.node)
    first.type = last.type = site.node.outputs[0].type
    return last
