"""Sizes of open input axes that weights leave no choice of: what a matrix contracts, the channels that a filter reads.

Many files call every axis of their inputs open, features too. From such an axis the graph is followed through ops that
keep it, to one that reads it with a weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from bot_onnx._ops import Axes, contraction_of, is_layer_norm, keeps_shape, norm_of, record

Place = tuple[str, int]  #: an input and one of its axes
Shape = tuple[int, ...]


def demanded_sizes(graph: onnx.GraphProto) -> dict[Place, int]:
    """Size of each axis of an input that some weight demands, as far as that can be followed."""
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    axes: dict[str, list[Place | None]] = {}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in shapes or not dims:
            continue
        if all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
        else:
            axes[value.name] = [(value.name, axis) for axis in range(len(dims))]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found: dict[Place, int] = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            shapes[node.output[0]] = tuple(node.attribute[0].t.dims)
            constants[node.output[0]] = node.attribute[0].t
        for place, size in _demands(node, axes, shapes):
            if place is not None:
                found.setdefault(place, size)
        kept = _kept(node, axes, shapes, constants)
        if kept is not None and node.output:
            axes[node.output[0]] = kept
    return found


def _demands(
    node: onnx.NodeProto, axes: dict[str, list[Place | None]], shapes: dict[str, Shape]
) -> Iterator[tuple[Place | None, int]]:
    """Axes that a node reads with a weight, and the weight's size there."""
    own = axes.get(node.input[0]) if node.input else None
    weight = shapes.get(node.input[1]) if len(node.input) > 1 else None
    op, found = record(node), contraction_of(node)
    if found is not None and found.form == "product" and found.flips is None and len(node.input) > 1:
        left, right = shapes.get(node.input[0]), axes.get(node.input[1])
        if own and weight:
            yield own[-1], weight[-2] if len(weight) > 1 else weight[0]
        elif right and left:
            yield right[-2] if len(right) > 1 else right[0], left[-1]
    elif found is not None and found.form == "product" and own and weight and len(own) == len(weight) == 2:
        yield own[0 if _attribute(node, "transA", 0) else 1], weight[1 if _attribute(node, "transB", 0) else 0]
    elif found is not None and found.form == "kernel" and own and weight and len(own) > 2 and len(weight) > 1:
        yield own[1], weight[0] if found.contracted == 0 else weight[1] * int(_attribute(node, "group", 1))
    elif op.gates and own and weight and len(own) == len(weight) == 3:
        yield own[2], weight[2]
    elif _is_per_channel(node) and own and weight and len(own) > 1:
        yield own[1], weight[0]
    elif is_layer_norm(node) and own and weight and len(weight) == 1:
        yield own[-1], weight[0]
    elif op.axes is Axes.BROADCAST and len(node.input) > 1:
        yield from _broadcast(node, axes, shapes)


def _is_per_channel(node: onnx.NodeProto) -> bool:
    found = norm_of(node)
    return found is not None and found.over in ("space", "batch")


def _broadcast(
    node: onnx.NodeProto, axes: dict[str, list[Place | None]], shapes: dict[str, Shape]
) -> Iterator[tuple[Place | None, int]]:
    """Elementwise ops: an axis beside one of a constant that is wider than one."""
    for name in node.input:
        own = axes.get(name)
        for other in node.input:
            sizes = shapes.get(other)
            if own is None or not sizes or len(sizes) > len(own):
                continue
            for place, size in zip(own[::-1], sizes[::-1], strict=False):
                if size > 1:
                    yield place, size


def _kept(
    node: onnx.NodeProto,
    axes: dict[str, list[Place | None]],
    shapes: dict[str, Shape],
    constants: dict[str, onnx.TensorProto],
) -> list[Place | None] | None:
    """Which input axes the axes of a node's first output are; None where nothing is known."""
    own = axes.get(node.input[0]) if node.input else None
    if record(node).axes is Axes.BROADCAST and len(node.input) > 1:
        known = [found for name in node.input if (found := axes.get(name)) is not None]
        ranks = [len(shapes[name]) for name in node.input if name in shapes]
        whole = len(known) == 1 and len(known[0]) >= max(ranks, default=0) and len(ranks) == len(node.input) - 1
        return known[0] if whole else None
    if own is None:
        return None
    if keeps_shape(node, len(node.input)) or norm_of(node) is not None:
        return own
    if node.op_type == "Transpose":
        perm = _attribute(node, "perm", None)
        order = list(range(len(own)))[::-1] if perm is None else list(perm)
        return [own[axis] for axis in order] if sorted(order) == list(range(len(own))) else None
    if node.op_type in ("Squeeze", "Unsqueeze"):
        return _reshaped(node, own, constants)
    product = contraction_of(node)
    plain = product is not None and product.form == "product" and product.flips is None
    if plain and len(node.input) > 1 and len(shapes.get(node.input[1], ())) == 2:
        return [*own[:-1], None]
    return None


def _reshaped(
    node: onnx.NodeProto, own: list[Place | None], constants: dict[str, onnx.TensorProto]
) -> list[Place | None] | None:
    given = _attribute(node, "axes", None)
    if given is None and len(node.input) > 1 and node.input[1] in constants:
        tensor = constants[node.input[1]]
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        given = [int(axis) for axis in onnx.numpy_helper.to_array(tensor).reshape(-1)]
    if given is None:
        return None
    if node.op_type == "Squeeze":
        gone = {axis % len(own) for axis in given}
        return [place for axis, place in enumerate(own) if axis not in gone]
    rank = len(own) + len(given)
    added = {axis % rank for axis in given}
    rest = iter(own)
    return [None if axis in added else next(rest, None) for axis in range(rank)]


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default
