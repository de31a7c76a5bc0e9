"""One form for looking up rows of a table: exporters write ``table[ids]`` as Gather, or as GatherND."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._canonical.spelling import forget_spelling
from bot_onnx._ops.nodes import fresh_name, names_in


def gather_rows(graph: ir.Graph) -> None:
    """Turn every GatherND that looks up along the first axis alone into the Gather that does the same, in place."""
    found = [n for n in graph if n.op_type == "GatherND" and n.attributes.get_int("batch_dims", 0) == 0]
    taken = names_in(graph) if found else set()
    for node in found:
        rows = _single_index(graph, node.inputs[1], taken)
        if rows is None:
            continue
        forget_spelling(node)
        node.op_type = "Gather"
        node.attributes.pop("batch_dims", None)
        node.attributes["axis"] = ir.AttrInt64("axis", 0)
        node.replace_input_with(1, rows)


def _single_index(graph: ir.Graph, indices: ir.Value | None, taken: set[str]) -> ir.Value | None:
    """Row numbers, where ``indices`` holds one number a place in an axis of its own at the end."""
    if indices is None:
        return None
    if indices.const_value is not None:
        content = indices.const_value.numpy()
        if content.ndim == 0 or content.shape[-1] != 1:
            return None
        name = fresh_name(f"{indices.name}__rows", taken)
        rows = ir.Value(name=name, const_value=ir.Tensor(content[..., 0], name=name))
        rows.shape, rows.dtype = ir.Shape(content.shape[:-1]), indices.const_value.dtype
        graph.register_initializer(rows)
        return rows
    producer = indices.producer()
    if producer is None or producer.op_type != "Unsqueeze" or len(producer.inputs) != 2 or producer.inputs[1] is None:
        return None
    axes = producer.inputs[1].const_value
    return producer.inputs[0] if axes is not None and axes.numpy().reshape(-1).tolist() == [-1] else None
