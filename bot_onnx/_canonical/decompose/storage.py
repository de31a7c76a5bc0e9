"""Weights stored in another type or shape than they are used in.

A mixed-precision file keeps weights as float16 or bfloat16 and casts them before use. For the analysis such a weight
is the wide tensor; what is written has the narrow type and the Cast again (:func:`restore_casts`). A weight that lies
flattened gets the axes that it is used with: one axis that is two says too little to resample it.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose.builder import Site
from bot_onnx._canonical.decompose.packed import lazily
from bot_onnx._ops import ONE_TO_ONE, Move, passes_on
from bot_onnx._ops.nodes import cast_target, names_in
from bot_onnx._ops.walk import producer_chain

_STORED = "bot_onnx.stored"
_UNCAST = ONE_TO_ONE & ~Move.CAST  #: another form in the same type
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


def fold_casts(graph: ir.Graph) -> None:
    """Drop Casts of floating-point weights that nothing else reads, in place."""
    for node in list(graph):
        if node.op_type != "Cast" or node.domain or node.outputs[0].is_graph_output():
            continue
        value = _weight(node.inputs[0])
        target = cast_target(node)
        if value is None or value.const_value is None or target is None or target not in _FLOATS:
            continue
        tensor = value.const_value
        if tensor.size > 1 and tensor.dtype != target:
            value.meta[_STORED] = value.meta.get(_STORED, ir.DataType(tensor.dtype))
        wide = _wide(tensor, target)
        wide.name = value.name
        value.const_value, value.type = wide, ir.TensorType(target)
        source = node.inputs[0]
        assert source is not None
        for usage in tuple(node.outputs[0].uses()):
            usage.node.replace_input_with(usage.idx, source)
        graph.remove(node, safe=True)


def fold_reshapes(graph: ir.Graph) -> None:
    """Give flattened weights the shape in which all that reads them wants them, in place."""
    for value in list(graph.initializers.values()):
        tensor, uses = value.const_value, tuple(value.uses())
        if tensor is None or tensor.dtype not in _FLOATS or tensor.size < 2 or not uses or value.is_graph_output():
            continue
        shapes = {_shown_shape(usage.node, usage.idx, tensor.size) for usage in uses}
        if len(shapes) != 1 or None in shapes:
            continue
        (shape,) = shapes
        if shape is None or _wide_axes(shape) <= _wide_axes(tuple(tensor.shape.numpy())):
            continue
        value.const_value = _reshaped(tensor, shape)
        value.const_value.name = value.name
        value.shape = ir.Shape(shape)
        for usage in uses:
            for reader in tuple(usage.node.outputs[0].uses()):
                reader.node.replace_input_with(reader.idx, value)
            graph.remove(usage.node, safe=True)


def _shown_shape(node: ir.Node, slot: int, size: int) -> tuple[int, ...] | None:
    """What a Reshape makes of a tensor of ``size`` elements, where its shape is a constant."""
    given = node.inputs[1] if node.op_type == "Reshape" and slot == 0 and len(node.inputs) > 1 else None
    if given is None or given.const_value is None or node.outputs[0].is_graph_output():
        return None
    shape = [int(number) for number in given.const_value.numpy().reshape(-1)]
    if 0 in shape or shape.count(-1) > 1:
        return None
    if -1 in shape:
        shape[shape.index(-1)] = size // -prod(shape)
    return tuple(shape)


def _wide_axes(shape: tuple[int, ...]) -> int:
    return sum(axis > 1 for axis in shape)


def _reshaped(tensor: ir.TensorProtocol, shape: tuple[int, ...]) -> ir.LazyTensor:
    return lazily(lambda: np.asarray(tensor.numpy()).reshape(shape), ir.DataType(tensor.dtype), shape)


def _weight(value: ir.Value | None) -> ir.Value | None:
    """The float initializer that a value is a view of, if all of them serve this one use."""
    for form in producer_chain(value, lambda node: passes_on(node, _UNCAST)):
        if len(form.uses()) != 1 or form.is_graph_output():
            return None
        if form.const_value is not None:
            return form if form.const_value.dtype in _FLOATS else None
    return None


def _wide(tensor: ir.TensorProtocol, target: ir.DataType) -> ir.LazyTensor:
    shape = tuple(tensor.shape.numpy())
    return lazily(lambda: np.asarray(tensor.numpy()).astype(target.numpy()), target, shape)


def stored_type(value: ir.Value) -> ir.DataType | None:
    """Type in which a weight lies in the file, where that is not the one it is used in."""
    stored: ir.DataType | None = value.meta.get(_STORED)
    return stored


def keep_storage(old: ir.Value, new: ir.Value) -> None:
    """A copy of a weight is stored as the weight is."""
    if _STORED in old.meta:
        new.meta[_STORED] = old.meta[_STORED]


def restore_casts(graph: ir.Graph, names: Collection[str]) -> None:
    """Put the Casts back in front of what reads the weights called ``names``."""
    taken: set[str] = set()
    for value in list(graph.initializers.values()):
        stored, uses = stored_type(value), tuple(value.uses())
        if stored is None or not uses or value.name not in names:
            continue
        taken = taken or names_in(graph)
        wide = ir.DataType(value.dtype or ir.DataType.FLOAT)
        site = Site(graph, graph[0], taken)
        cast = site.op("Cast", value, attributes={"to": int(wide)}, label=f"{value.name}/Cast")
        value.type = ir.TensorType(stored)
        for usage in uses:
            usage.node.replace_input_with(usage.idx, cast)
