"""Models that only the report needs: large Llamas (random, or without bytes on disk), and a DenseNet of any depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.memory import Sizes, write_llama

#: The widths of TinyLlama-1.1B: 1.03 B parameters with a tied head.
TINY_LLAMA = Sizes(hidden=2048, heads=32, kv_heads=4, head_dim=64, intermediate=5632, vocab=32000)
_GROWTH, _BOTTLENECK, _SIDE = 8, 2, 8


def llama_float32(path: Path) -> None:
    """22 layers of 2,048 in float32: 4.1 GB of random weights."""
    write_llama(path, 22, sizes=TINY_LLAMA)


def llama_holes(path: Path) -> None:
    """The same without bytes: a sparse file, where the file system has them."""
    write_llama(path, 22, sizes=TINY_LLAMA, sparse=True)


def llama_float16(path: Path) -> None:
    """The same in float16: 2.1 GB."""
    write_llama(path, 22, sizes=TINY_LLAMA, half=True)


def densenet(path: Path, layers: int) -> int:
    """Write one dense block (Huang et al. 2017): every layer reads all those before it. Give the number of its nodes.

    Nodes are norm, Relu, 1 x 1, norm, Relu, 3 x 3 and Concat per layer, as PyTorch's exporter writes them.
    """
    rng = np.random.default_rng(0)
    nodes, weights = [], []

    def weight(name: str, *shape: int) -> str:
        values = np.abs(rng.standard_normal(shape)).astype(np.float32) + 0.1
        weights.append(numpy_helper.from_array(values, name))
        return name

    def convolved(scope: str, x: str, into: int, out: int, kernel: int) -> str:
        statistics = [weight(f"{scope}.norm.{part}", into) for part in ("weight", "bias", "mean", "var")]
        nodes.append(helper.make_node("BatchNormalization", [x, *statistics], [f"{scope}.normed"], f"{scope}/norm"))
        nodes.append(helper.make_node("Relu", [f"{scope}.normed"], [f"{scope}.active"], f"{scope}/relu"))
        kernels = weight(f"{scope}.conv.weight", out, into, kernel, kernel)
        pads = [kernel // 2] * 4
        nodes.append(
            helper.make_node("Conv", [f"{scope}.active", kernels], [f"{scope}.out"], f"{scope}/conv", pads=pads)
        )
        return f"{scope}.out"

    features, width = ["image"], 2 * _GROWTH
    joined = "image"
    for index in range(layers):
        scope = f"/layer{index}"
        inner = convolved(f"{scope}/1", joined, width, _BOTTLENECK * _GROWTH, 1)
        features.append(convolved(f"{scope}/2", inner, _BOTTLENECK * _GROWTH, _GROWTH, 3))
        width += _GROWTH
        joined = f"{scope}.features"
        nodes.append(helper.make_node("Concat", features, [joined], f"{scope}/concat", axis=1))
    nodes.append(helper.make_node("GlobalAveragePool", [joined], ["pooled"], "/pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"], "/flat"))
    nodes.append(helper.make_node("Gemm", ["flat", weight("head.weight", 10, width)], ["logits"], "/head", transB=1))
    graph = helper.make_graph(
        nodes, "dense",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 2 * _GROWTH, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])], weights,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return len(nodes)


def densenet_200(path: Path) -> None:
    """200 layers: 1,403 nodes, for a profile."""
    densenet(path, 200)
