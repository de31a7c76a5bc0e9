"""Biases that are zero: the newer exporter leaves them out of the graph, but they are parameters all the same."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.folded_norms import CLASSES
from bot_onnx._checkpoint.signature import SOURCE_LINE
from bot_onnx._checkpoint.sites import join, module_path


def restore_zero_biases(model: ir.Model) -> list[str]:
    """Give every Gemm and Conv whose source line names a bias of its module that bias again, as zeros.

    Args:
        model: changed in place.

    Returns:
        Names of the biases, which are their keys.
    """
    graph = model.graph
    restored: list[str] = []
    for node in graph:
        path = module_path(node)
        if (
            node.op_type not in ("Gemm", "Conv")
            or path is None
            or (len(node.inputs) > 2 and node.inputs[2] is not None)
        ):
            continue
        name = join(path, "bias")
        mangled = re.sub(r"\W", "_", name)
        line = node.metadata_props.get(SOURCE_LINE, "")
        linear = re.search(r"'aten\.(linear|addmm|conv)[^']*'\]$", node.metadata_props.get(CLASSES, ""))
        named = re.search(rf"%p_{re.escape(mangled)}\b", line, re.IGNORECASE)
        weight = node.inputs[1].const_value if node.inputs[1] is not None else None
        if linear is None or named is None or weight is None or name in graph.initializers:
            continue
        first = node.op_type == "Conv" or bool(node.attributes.get_int("transB", 0))
        zeros = np.zeros(weight.shape.numpy()[0 if first else 1], weight.dtype.numpy())
        tensor = ir.Tensor(zeros, dtype=weight.dtype, name=name)
        value = ir.Value(name=name, shape=ir.Shape(zeros.shape), type=ir.TensorType(weight.dtype), const_value=tensor)
        graph.initializers[name] = value
        node.resize_inputs(3)
        node.replace_input_with(2, value)
        restored.append(name)
    return restored
