"""One form for looking up rows of a table: exporters write ``table[ids]`` as Gather, or as GatherND."""

from __future__ import annotations

import onnx_ir as ir


def gather_rows(graph: ir.Graph) -> None:
    """Turn every GatherND that looks up along the first axis alone into the Gather that does the same, in place."""
    for node in graph:
        if node.op_type != "GatherND" or node.attributes.get_int("batch_dims", 0) != 0:
            continue
        rows = _single_index(node.inputs[1])
        if rows is None:
            continue
        node.op_type = "Gather"
        node.attributes.pop("batch_dims", None)
        node.attributes["axis"] = ir.AttrInt64("axis", 0)
        node.replace_input_with(1, rows)


def _single_index(indices: ir.Value | None) -> ir.Value | None:
    """Row numbers, where ``indices`` holds one number a place in an axis of its own at the end."""
    producer = indices.producer() if indices is not None else None
    if producer is None or producer.op_type != "Unsqueeze" or len(producer.inputs) != 2 or producer.inputs[1] is None:
        return None
    axes = producer.inputs[1].const_value
    return producer.inputs[0] if axes is not None and axes.numpy().reshape(-1).tolist() == [-1] else None
