"""QuantizeLinear and DequantizeLinear behind activations, by scales that were calibrated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.decompose import Grid
from bot_onnx._ops.nodes import fresh_name, names_in


def put_roundings(graph: ir.Graph, grids: Mapping[str, Grid]) -> None:
    """Round the activations named in ``grids``, in place, for the ops that read them rounded before.

    An output is rounded as well: it keeps its name.
    """
    values = {value.name or "": value for value in graph.inputs}
    values |= {value.name or "": value for node in graph for value in node.outputs}
    taken = names_in(graph)
    for name, grid in grids.items():
        if name in values:
            _round(graph, values[name], grid, taken)


def _round(graph: ir.Graph, value: ir.Value, grid: Grid, taken: set[str]) -> None:
    readers = [usage for usage in value.uses() if usage.node.op_type in grid.readers]
    shown = value.is_graph_output() and value.producer() is not None
    if not readers and not shown:
        return
    name = value.name or ""
    parts = [_constant(graph, f"{name}_{label}", array, taken) for label, array in _numbers(grid)]
    stored = ir.node("QuantizeLinear", [value, *parts], domain=grid.domain, name=fresh_name(f"{name}_Quantize", taken))
    plain = ir.node(
        "DequantizeLinear",
        [stored.outputs[0], *parts],
        domain=grid.domain,
        name=fresh_name(f"{name}_Dequantize", taken),
    )
    stored.outputs[0].name = fresh_name(f"{name}_quantized", taken)
    plain.outputs[0].name = fresh_name(f"{name}_dequantized", taken)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], [stored, plain])
    else:
        graph.insert_after(producer, [stored, plain])
    for usage in readers:
        usage.node.replace_input_with(usage.idx, plain.outputs[0])
    if shown:
        result = plain.outputs[0]
        value.name, result.name = result.name, value.name
        result.shape, result.type = value.shape, value.type
        for index, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[index] = result


def _numbers(grid: Grid) -> tuple[tuple[str, NDArray[np.generic]], ...]:
    return ("scale", grid.scale), ("zero_point", grid.zero)


def _constant(graph: ir.Graph, name: str, array: NDArray[np.generic], taken: set[str]) -> ir.Value:
    name = fresh_name(name, taken)
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers[name] = value
    return value
