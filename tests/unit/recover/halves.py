"""Networks in half precision, as autocast writes them: products in float16, norms in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(model: onnx.ModelProto, path: Path) -> Path:
    """The file."""
    onnx.save(model, path)
    return path


def autocast_network(width: int, layers: int, ports: int = TensorProto.FLOAT, seed: int = 0) -> onnx.ModelProto:
    """``x + back · relu(up · norm(x))`` some times, then a product: ``[batch, tokens, 8]`` to ``[batch, tokens, 3]``.

    Args:
        width: of the stream. layers: their number. ports: type of input and output. seed: of the weights.
    """
    rng, half = np.random.default_rng(seed), TensorProto.FLOAT16
    nodes: list[onnx.NodeProto] = []
    held: list[onnx.TensorProto] = []

    def op(kind: str, *given: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(given), [f"v{len(nodes)}"], f"n{len(nodes)}", **attributes))
        return f"v{len(nodes) - 1}"

    def weight(name: str, *shape: int, dtype: type = np.float16, mean: float = 0.0) -> str:
        values = mean + rng.normal(size=shape) / np.sqrt(shape[0])
        held.append(numpy_helper.from_array(values.astype(dtype), name))
        return name

    x = op("MatMul", "x" if ports == half else op("Cast", "x", to=half), weight("first", 8, width))
    for place in range(layers):
        gain, shift = (
            weight(f"gain{place}", width, dtype=np.float32, mean=1.0),
            weight(f"shift{place}", width, dtype=np.float32),
        )
        wide = op("LayerNormalization", op("Cast", x, to=TensorProto.FLOAT), gain, shift, axis=-1)
        inner = op("Relu", op("MatMul", op("Cast", wide, to=half), weight(f"up{place}", width, 2 * width)))
        x = op("Add", x, op("MatMul", inner, weight(f"back{place}", 2 * width, width)))
    last = op("MatMul", x, weight("last", width, 3))
    nodes.append(
        helper.make_node("Identity", [last], ["y"])
        if ports == half
        else helper.make_node("Cast", [last], ["y"], to=ports)
    )
    graph = helper.make_graph(
        nodes,
        "autocast",
        [helper.make_tensor_value_info("x", ports, ["batch", "tokens", 8])],
        [helper.make_tensor_value_info("y", ports, ["batch", "tokens", 3])],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
