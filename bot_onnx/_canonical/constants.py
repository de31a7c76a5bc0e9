"""Constants as the analysis wants them: initializers, small ones as arrays, and none that unrelated uses share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose import keep_storage
from bot_onnx._ops.nodes import FLOATS, fresh_name, names_in

#: Integer initializers up to this many elements are cloned per use: exporters share equal small tensors (shape
#: constants) between unrelated consumers, and a shared tensor would tie dims that have nothing to do with each other.
SMALL = 64

#: Tensors up to this many elements are held as arrays.
HELD = 1024

_LITERAL = "bot_onnx.literal"
_CLONE = "bot_onnx.clone"


def lift_tensor_constants(graph: ir.Graph) -> None:
    """Make initializers of Constant nodes that hold a tensor; exporters write thousands of them.

    The library's pass does the same at four times the cost, most of a large graph's normalisation.
    """
    lifted: list[ir.Node] = []
    for node in graph:
        held = node.attributes.get("value")
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or held is None:
            continue
        output = node.outputs[0]
        if output.is_graph_output():
            continue
        tensor: ir.TensorProtocol = held.value
        value = ir.Value(
            name=output.name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        value.meta[_LITERAL] = True
        for usage in tuple(output.uses()):
            usage.node.replace_input_with(usage.idx, value)
        graph.initializers[output.name or ""] = value
        lifted.append(node)
    graph.remove(lifted, safe=True)


def is_literal(value: ir.Value) -> bool:
    """Whether the file has the tensor in a Constant node, where exporters write what is no weight."""
    return bool(value.meta.get(_LITERAL))


def is_clone(value: ir.Value) -> bool:
    """Whether a tensor is none of the file's own, but one that :func:`clone_shared_constants` made of such a one."""
    return bool(value.meta.get(_CLONE))


def hold_small(graph: ir.Graph) -> None:
    """Hold small tensors as arrays: the analysis asks for their shapes and values again and again."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.size <= HELD and tensor.dtype != ir.DataType.STRING:
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)


def clone_shared_constants(graph: ir.Graph) -> None:
    """Give every use of a small or constant-valued initializer a tensor of its own."""
    taken = names_in(graph)
    outputs = {id(value) for value in graph.outputs}
    for value in list(graph.initializers.values()):
        uses = list(value.uses())
        if len(uses) < 2 or id(value) in outputs or not clonable(value):
            continue
        for number, usage in enumerate(uses[1:], start=1):
            name = fresh_name(f"{value.name}__use{number}", taken)
            clone = ir.Value(name=name, shape=value.shape, type=value.type, const_value=_renamed(value, name))
            keep_storage(value, clone)
            clone.meta[_LITERAL] = is_literal(value)
            clone.meta[_CLONE] = True
            owner = usage.node.graph
            if isinstance(owner, ir.Graph) and owner is graph:
                graph.initializers[name] = clone
                usage.node.replace_input_with(usage.idx, clone)


def clonable(value: ir.Value) -> bool:
    """Whether an initializer says so little that uses which share it have nothing to do with each other."""
    tensor = value.const_value
    if tensor is None:
        return False
    if tensor.size <= SMALL and tensor.dtype not in FLOATS:
        return True
    # Float tensors are shared for good reason if their values differ; one value throughout (a zero bias, a norm's ones,
    # a scalar) says nothing. Whatever the length: a resized file is to be read as its source was.
    if len(tensor.shape) > 1:
        return tensor.size == 1
    array = tensor.numpy().reshape(-1)
    return bool(np.all(array == array[0])) if array.size else True


def _renamed(value: ir.Value, name: str) -> ir.TensorProtocol:
    assert value.const_value is not None
    tensor = value.const_value
    if tensor.dtype == ir.DataType.STRING:
        return tensor  # its content is never patched, so the clone may share it
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
