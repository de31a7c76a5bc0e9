"""Builds BERT-like ONNX graphs of any depth and width with random weights: no torch, no download.

The graphs follow what PyTorch's TorchScript exporter writes for a BERT encoder at opset 17, node by node: constants
in Constant nodes, every Reshape's shape put together at run time from Shape / Gather / Unsqueeze / Concat, matrices
that lost their names (``onnx::MatMul_123``) while biases and nodes keep their scopes, GELU as a chain around Erf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

#: Goes into the names of cached files; raise it whenever the graphs or the weights change.
GENERATOR_VERSION = 1

EMBEDDINGS = "/embeddings"


@dataclass(frozen=True, slots=True)
class BertConfig:
    """Sizes of the network; ``hidden`` must be a multiple of ``heads``. Weights are Normal(0, ``std``)."""

    layers: int = 12
    hidden: int = 768
    heads: int = 12
    intermediate: int = 3072
    vocab: int = 30522
    positions: int = 512
    token_types: int = 2
    std: float = 0.02
    seed: int = 0

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads

    @property
    def name(self) -> str:
        """File name without suffix that tells apart any two configurations."""
        sizes = f"{self.layers}x{self.hidden}-h{self.heads}-f{self.intermediate}-v{self.vocab}-p{self.positions}"
        return f"bert-{sizes}-t{self.token_types}-std{self.std:g}-seed{self.seed}-g{GENERATOR_VERSION}"


BERT_BASE = BertConfig()

#: Sizes for timing graph analysis, which reads no weights: depth makes the nodes, narrow layers keep the file small.
NARROW = BertConfig(layers=1, hidden=64, heads=4, intermediate=256, vocab=512, positions=128)


class _Builder:
    """Collects nodes and initializers; every method that adds one returns the name of its value."""

    def __init__(self, config: BertConfig) -> None:
        self.config = config
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(config.seed)
        self._used: Counter[str] = Counter()

    def op(self, scope: str, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node named after its scope, e.g. ``/encoder/layer.0/output/dense/MatMul``."""
        name = self._unique(f"{scope}/{kind}")
        output = f"{name}_output_0"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def constant(self, scope: str, value: float | int | Sequence[int]) -> str:
        """Adds a Constant node: float32 for a float, int64 for whole numbers."""
        dtype = np.float32 if isinstance(value, float) else np.int64
        tensor = numpy_helper.from_array(np.array(value, dtype=dtype))
        return self.op(scope, "Constant", value=tensor)

    def matrix(self, *shape: int) -> str:
        """Adds a random matrix under a number, as an exporter that folds a transpose names it."""
        return self._initializer(f"onnx::MatMul_{len(self.nodes)}", self._normal(shape))

    def random(self, name: str, *shape: int) -> str:
        """Adds a random tensor under its own name."""
        return self._initializer(name, self._normal(shape))

    def norm(self, scope: str, x: str, name: str) -> str:
        """Adds a LayerNormalization over hidden, scale near 1."""
        hidden = self.config.hidden
        scale = self._initializer(f"{name}.weight", 1 + self._normal((hidden,)))
        bias = self.random(f"{name}.bias", hidden)
        return self.op(scope, "LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)

    def linear(self, scope: str, x: str, name: str, source: int, target: int) -> str:
        """Adds x W + b for W (source, target), the bias first as PyTorch's exporter orders it."""
        product = self.op(scope, "MatMul", x, self.matrix(source, target))
        return self.op(scope, "Add", self.random(f"{name}.bias", target), product)

    def size(self, scope: str, x: str, axis: int) -> str:
        """Adds the size of one axis as int64 (1,): Shape, Gather by a scalar, Unsqueeze."""
        shape = self.op(scope, "Shape", x)
        scalar = self.op(scope, "Gather", shape, self.constant(scope, axis), axis=0)
        return self.op(scope, "Unsqueeze", scalar, self.constant(scope, [0]))

    def reshape(self, scope: str, x: str, *tail: int) -> str:
        """Adds a Reshape of x (batch, sequence, …) to (batch, sequence, *tail) with a shape computed at run time."""
        sizes = [self.size(scope, x, axis) for axis in (0, 1)]
        sizes += [self.constant(scope, [size]) for size in tail]
        return self.op(scope, "Reshape", x, self.op(scope, "Concat", *sizes, axis=0))

    def integers(self, name: str, value: NDArray[np.int64]) -> str:
        """Adds an int64 initializer."""
        return self._initializer(name, value)

    def _normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        values = self._random.standard_normal(shape, dtype=np.float32)
        values *= np.float32(self.config.std)
        return values

    def _initializer(self, name: str, value: NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def _unique(self, name: str) -> str:
        """``name`` itself the first time, then ``name_1``, ``name_2`` and so on."""
        number = self._used[name]
        self._used[name] += 1
        return f"{name}_{number}" if number else name


def bert(config: BertConfig) -> onnx.ModelProto:
    """Builds the model: three integer inputs (batch, sequence), hidden states and pooled first token as outputs.

    Raises:
        ValueError: ``hidden`` is not a multiple of ``heads``.
    """
    if config.hidden % config.heads:
        raise ValueError(f"hidden {config.hidden} is not a multiple of heads {config.heads}: change one of them")
    builder = _Builder(config)
    mask = _attention_mask(builder)
    x = _embed(builder)
    for index in range(config.layers):
        x = _layer(builder, x, mask, f"encoder.layer.{index}")
    pooled = _pool(builder, x)
    builder.nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"], name="/Identity"))
    builder.nodes.append(helper.make_node("Identity", [pooled], ["pooler_output"], name="/Identity_1"))
    return _model(builder)


def with_nodes(target: int, base: BertConfig = NARROW) -> onnx.ModelProto:
    """Builds the model whose depth brings its node count nearest to ``target``."""
    counts = [len(bert(replace(base, layers=layers)).graph.node) for layers in (1, 2)]
    per_layer = counts[1] - counts[0]
    return bert(replace(base, layers=max(1, 1 + round((target - counts[0]) / per_layer))))


def cached(config: BertConfig, folder: Path) -> Path:
    """Path of the model in ``folder``, built and written on the first call only.

    It appears under its name when it is whole, so an interrupted run leaves no half file to be measured later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{config.name}.onnx"
    if not path.exists():
        unfinished = path.with_suffix(".tmp")
        onnx.save(bert(config), unfinished)
        unfinished.replace(path)
    return path


def _attention_mask(b: _Builder) -> str:
    """The additive mask (batch, 1, 1, sequence): 0 where the mask is 1, the lowest float32 where it is 0."""
    rows = b.op("", "Unsqueeze", "attention_mask", b.constant("", [1]))
    mask = b.op("", "Unsqueeze", rows, b.constant("", [2]))
    hidden = b.op("", "Sub", b.constant("", 1.0), b.op("", "Cast", mask, to=TensorProto.FLOAT))
    return b.op("", "Mul", hidden, b.constant("", float(np.finfo(np.float32).min)))


def _embed(b: _Builder) -> str:
    """Words, token types and positions (the first ``sequence`` rows of a table) added and normalised."""
    config, scope = b.config, EMBEDDINGS
    ids = b.integers("embeddings.position_ids", np.arange(config.positions)[np.newaxis])
    end = b.size(scope, "input_ids", 1)
    bounds = [b.constant(scope, [0]), end, b.constant(scope, [1]), b.constant(scope, [1])]
    ids = b.op(scope, "Slice", ids, *bounds)

    def gather(table: str, rows: int, indices: str) -> str:
        weight = b.random(f"embeddings.{table}.weight", rows, config.hidden)
        return b.op(f"{scope}/{table}", "Gather", weight, indices)

    words = gather("word_embeddings", config.vocab, "input_ids")
    types = gather("token_type_embeddings", config.token_types, "token_type_ids")
    total = b.op(scope, "Add", words, types)
    total = b.op(scope, "Add", total, gather("position_embeddings", config.positions, ids))
    return b.norm(f"{scope}/LayerNorm", total, "embeddings.LayerNorm")


def _layer(b: _Builder, x: str, mask: str, name: str) -> str:
    """One post-norm layer (Devlin et al. 2019): norm(x + attention(x)), then norm(x + mlp(x))."""
    hidden, intermediate = b.config.hidden, b.config.intermediate
    scope = "/" + name.replace(".layer", "/layer")
    attended = b.linear(
        f"{scope}/attention/output/dense", _attend(b, x, mask, name), f"{name}.attention.output.dense", hidden, hidden
    )
    total = b.op(f"{scope}/attention/output", "Add", attended, x)
    x = b.norm(f"{scope}/attention/output/LayerNorm", total, f"{name}.attention.output.LayerNorm")
    expanded = b.linear(f"{scope}/intermediate/dense", x, f"{name}.intermediate.dense", hidden, intermediate)
    active = _gelu(b, f"{scope}/intermediate/intermediate_act_fn", expanded)
    contracted = b.linear(f"{scope}/output/dense", active, f"{name}.output.dense", intermediate, hidden)
    total = b.op(f"{scope}/output", "Add", contracted, x)
    return b.norm(f"{scope}/output/LayerNorm", total, f"{name}.output.LayerNorm")


def _attend(b: _Builder, x: str, mask: str, name: str) -> str:
    """Self-attention (batch, sequence, hidden) up to the merged heads, before the output map."""
    config = b.config
    scope = "/" + name.replace(".layer", "/layer") + "/attention/self"

    def project(part: str) -> str:
        full = f"{name}.attention.self.{part}"
        return b.linear(f"{scope}/{part}", x, full, config.hidden, config.hidden)

    def split(value: str, *order: int) -> str:
        return b.op(scope, "Transpose", b.reshape(scope, value, config.heads, config.head_dim), perm=list(order))

    query = project("query")
    key = split(project("key"), 0, 2, 3, 1)
    value = split(project("value"), 0, 2, 1, 3)
    scores = b.op(scope, "MatMul", split(query, 0, 2, 1, 3), key)
    scores = b.op(scope, "Div", scores, b.constant(scope, float(config.head_dim) ** 0.5))
    weights = b.op(scope, "Softmax", b.op(scope, "Add", scores, mask), axis=-1)
    mixed = b.op(scope, "Transpose", b.op(scope, "MatMul", weights, value), perm=[0, 2, 1, 3])
    return b.reshape(scope, mixed, config.hidden)


def _gelu(b: _Builder, scope: str, x: str) -> str:
    """GELU (Hendrycks and Gimpel 2016): x (1 + erf(x / √2)) / 2."""
    error = b.op(scope, "Erf", b.op(scope, "Div", x, b.constant(scope, float(np.sqrt(2.0)))))
    factor = b.op(scope, "Add", error, b.constant(scope, 1.0))
    return b.op(scope, "Mul", b.op(scope, "Mul", x, factor), b.constant(scope, 0.5))


def _pool(b: _Builder, x: str) -> str:
    """The first token through a linear map and tanh, the map as a Gemm with the weight (out, in) as stored."""
    hidden, scope = b.config.hidden, "/pooler"
    first = b.op(scope, "Gather", x, b.constant(scope, 0), axis=1)
    weight, bias = b.random("pooler.dense.weight", hidden, hidden), b.random("pooler.dense.bias", hidden)
    return b.op(f"{scope}/activation", "Tanh", b.op(f"{scope}/dense", "Gemm", first, weight, bias, transB=1))


def _model(b: _Builder) -> onnx.ModelProto:
    tokens, hidden = ["batch", "sequence"], b.config.hidden
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in names]
    outputs = [
        helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*tokens, hidden]),
        helper.make_tensor_value_info("pooler_output", TensorProto.FLOAT, ["batch", hidden]),
    ]
    graph = helper.make_graph(b.nodes, "main_graph", inputs, outputs, b.initializers)
    imports = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION, producer_name="bot-onnx synthetic")
