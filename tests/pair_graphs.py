"""Files that are used one after the other, made by hand: encoder and decoder (with a cache), embedder and head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.graphs import GraphBuilder, save

VOCAB = 13


@dataclass(frozen=True)
class Widths:
    """Sizes of both halves."""

    layers: int = 2
    hidden: int = 16
    heads: int = 4
    head_dim: int = 4
    inner: int = 24


def encoder(w: Widths = Widths(), *, output: str = "last_hidden_state") -> onnx.ModelProto:
    """Tokens to the stream behind its last norm."""
    b = GraphBuilder(1)
    x = b.op("Gather", b.weight(VOCAB, w.hidden, name="words"), "input_ids")
    for layer in range(w.layers):
        x = _attended(b, w, x, x, f"encoder.{layer}.self")
        x = _mlp(b, w, x, f"encoder.{layer}")
    b.nodes.append(helper.make_node("LayerNormalization", [x, *_norm(b, w, "encoder.norm")], [output], name="last"))
    return _model(b, [("input_ids", ["batch", "source"])], [(output, ["batch", "source", w.hidden])], ["input_ids"])


def decoder(w: Widths = Widths(), *, past: bool = False, reads: str = "encoder_hidden_states") -> onnx.ModelProto:
    """Tokens and an encoder's states to logits and caches; with ``past`` the caches are read, and no states."""
    b = GraphBuilder(2)
    x = b.op("Gather", b.weight(VOCAB, w.hidden, name="decoder.words"), "input_ids")
    inputs: list[tuple[str, Sequence[int | str]]] = [("input_ids", ["batch", "target"])]
    inputs += [] if past else [(reads, ["batch", "source", w.hidden])]
    outputs: list[tuple[str, Sequence[int | str]]] = [("logits", ["batch", "target", VOCAB])]
    for layer in range(w.layers):
        for kind in ("decoder", "encoder"):
            place, cached = f"decoder.{layer}.{kind}", f"{layer}.{kind}"
            normed = b.op("LayerNormalization", x, *_norm(b, w, f"{place}.norm"))
            query = _split(b, w, normed, f"{place}.q")
            sides = []
            for side in ("key", "value"):
                weight = _weight(b, w.hidden, w.heads * w.head_dim, f"{place}.{side}")
                shape: list[int | str] = ["batch", w.heads, "cached" if kind == "decoder" else "source", w.head_dim]
                before = f"past_key_values.{cached}.{side}"
                if past:
                    inputs.append((before, shape))
                if kind == "encoder" and past:
                    sides.append(before)
                    continue
                made = _heads(b, w, b.op("MatMul", normed if kind == "decoder" else reads, weight))
                name = f"present.{cached}.{side}"
                if past:
                    b.nodes.append(helper.make_node("Concat", [before, made], [name], name=name, axis=2))
                else:
                    b.nodes.append(helper.make_node("Identity", [made], [name], name=name))
                outputs.append((name, ["batch", w.heads, f"all_{kind}", w.head_dim]))
                sides.append(name)
            x = b.op("Add", x, _mixed(b, w, query, *sides, place))
        x = _mlp(b, w, x, f"decoder.{layer}")
    x = b.op("LayerNormalization", x, *_norm(b, w, "decoder.norm"))
    head = _weight(b, w.hidden, VOCAB, "head")
    b.nodes.append(helper.make_node("MatMul", [x, head], ["logits"], name="logits"))
    return _model(b, inputs, outputs, ["input_ids"])


def head(width: int = 16, *, reads: str = "embedding") -> onnx.ModelProto:
    """Two layers on what an embedder gives."""
    b = GraphBuilder(3)
    inside = b.op("Relu", b.op("Add", b.op("MatMul", reads, b.weight(width, 10, name="up")), b.weight(10)))
    b.nodes.append(helper.make_node("MatMul", [inside, b.weight(10, 3, name="down")], ["scores"], name="scores"))
    return _model(b, [(reads, ["batch", width])], [("scores", ["batch", 3])], [])


def embedder(w: Widths = Widths()) -> onnx.ModelProto:
    """Tokens to the mean of the stream."""
    model = encoder(w, output="stream")
    model.graph.node.append(
        helper.make_node("ReduceMean", ["stream", "axes"], ["embedding"], name="mean", keepdims=0)
    )  # fmt: skip
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", w.hidden]))
    return model


def write(folder: Path, **models: onnx.ModelProto) -> list[Path]:
    """Files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    return [save(model, folder, f"{name}.onnx") for name, model in models.items()]


def run(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a file gives."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    taken = {port.name for port in session.get_inputs()}
    return dict(zip(names, session.run(names, {n: a for n, a in feeds.items() if n in taken}), strict=True))


def _model(
    b: GraphBuilder,
    inputs: Sequence[tuple[str, Sequence[int | str]]],
    outputs: Sequence[tuple[str, Sequence[int | str]]],
    integers: Sequence[str],
) -> onnx.ModelProto:
    model = b.model(inputs, [], integer_inputs=integers, opset=18)
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in outputs)
    return model


def _weight(b: GraphBuilder, rows: int, columns: int, name: str) -> str:
    """A matrix that follows from its name, so that two files hold the same one."""
    rng = np.random.default_rng(sum(name.encode()))
    return b.constant((rng.standard_normal((rows, columns)) * 0.2).astype(np.float32), name)


def _norm(b: GraphBuilder, w: Widths, name: str) -> tuple[str, str]:
    rng = np.random.default_rng(sum(name.encode()))
    scale = b.constant((1 + 0.1 * rng.standard_normal(w.hidden)).astype(np.float32), f"{name}.scale")
    return scale, b.constant((0.1 * rng.standard_normal(w.hidden)).astype(np.float32), f"{name}.bias")


def _heads(b: GraphBuilder, w: Widths, value: str) -> str:
    return b.op("Transpose", b.op("Reshape", value, b.ints(0, 0, w.heads, w.head_dim)), perm=[0, 2, 1, 3])


def _split(b: GraphBuilder, w: Widths, value: str, name: str) -> str:
    return _heads(b, w, b.op("MatMul", value, _weight(b, w.hidden, w.heads * w.head_dim, name)))


def _mixed(b: GraphBuilder, w: Widths, query: str, key: str, value: str, place: str) -> str:
    scores = b.op("MatMul", query, b.op("Transpose", key, perm=[0, 1, 3, 2]))
    scores = b.op("Softmax", b.op("Mul", scores, b.constant(np.float32(w.head_dim**-0.5))), axis=-1)
    mixed = b.op("Transpose", b.op("MatMul", scores, value), perm=[0, 2, 1, 3])
    flat = b.op("Reshape", mixed, b.ints(0, 0, w.heads * w.head_dim))
    return b.op("MatMul", flat, _weight(b, w.heads * w.head_dim, w.hidden, f"{place}.out"))


def _attended(b: GraphBuilder, w: Widths, x: str, seen: str, place: str) -> str:
    normed = b.op("LayerNormalization", x, *_norm(b, w, f"{place}.norm"))
    query, key, value = (_split(b, w, normed, f"{place}.{side}") for side in ("q", "key", "value"))
    return b.op("Add", x, _mixed(b, w, query, key, value, place))


def _mlp(b: GraphBuilder, w: Widths, x: str, place: str) -> str:
    normed = b.op("LayerNormalization", x, *_norm(b, w, f"{place}.mlp.norm"))
    inside = b.op("Relu", b.op("MatMul", normed, _weight(b, w.hidden, w.inner, f"{place}.up")))
    return b.op("Add", x, b.op("MatMul", inside, _weight(b, w.inner, w.hidden, f"{place}.down")))
