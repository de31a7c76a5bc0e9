"""Batch norms that an exporter multiplied into the linear ops before them."""

from __future__ import annotations

import re

import onnx_ir as ir

from bot_onnx._ops import is_affine

#: Metadata of the newer exporter: the functions that a node comes from.
CLASSES = "pkg.torch.onnx.class_hierarchy"
#: How the older exporter names what it computed: a layer's weight and bias both, where a norm went into them.
_COMPUTED = re.compile(r"onnx::(Conv|ConvTranspose|Gemm)_\d+(__.*)?")


def holds_norm(node: ir.Node) -> bool:
    """Whether the exporter says that a linear op stands where the network had a batch norm."""
    if not is_affine(node):
        return False
    if CLASSES in node.metadata_props:
        return "batch_norm" in node.metadata_props[CLASSES].rpartition("'aten.")[2]
    operands = node.inputs[1:3]
    return len(operands) == 2 and all(
        value is not None and value.const_value is not None and _COMPUTED.fullmatch(value.name or "")
        for value in operands
    )


def folded_note(graph: ir.Graph) -> tuple[str, ...]:
    """A sentence about the norms that a graph has no nodes for, if there are any."""
    count = sum(holds_norm(node) for node in graph)
    if not count:
        return ()
    norms = "1 batch norm is" if count == 1 else f"{count} batch norms are"
    return (
        f"{norms} folded into the weights of the op before: the exporter computed them so. To train on with norms, "
        "export unfolded (training=TrainingMode.PRESERVE); 'bot-onnx export --like' makes identity norms.",
    )
