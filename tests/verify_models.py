"""Small models for the tests of ``verify``: a BERT that can be resized, and graphs whose outputs are known by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from benchmarks.synthetic import BertConfig, bert
from bot_onnx._surgery.planner import Prepared, prepare
from bot_onnx._surgery.proven import Promise

BERT = BertConfig(layers=4, hidden=32, heads=4, intermediate=96, vocab=61, positions=24, std=0.2)


def promising(promise: Promise) -> Callable[..., Prepared]:
    """``prepare`` with another promise than the one that was settled."""
    return lambda analysis, spec, settled, *rest, **more: prepare(
        analysis, spec, replace(settled, promise=promise), *rest, **more
    )


def save_bert(path: Path, config: BertConfig = BERT) -> Path:
    """Write a BERT with hidden states and the pooled token as outputs."""
    onnx.save(bert(config), path)
    return path


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    initializers: dict[str, ArrayLike],
    inputs: dict[str, Sequence[int | str]],
    outputs: dict[str, Sequence[int | str | None]],
    *,
    integers: Sequence[str] = (),
    domains: Sequence[str] = (),
) -> Path:
    """Write a graph; inputs and outputs are float32 but for those named in ``integers``."""
    tensors = []
    for name, value in initializers.items():
        array = np.asarray(value)
        tensors.append(numpy_helper.from_array(array.astype(np.float32) if array.dtype.kind == "f" else array, name))
    graph = helper.make_graph(
        list(nodes),
        "main_graph",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if name in integers else TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        tensors,
    )
    imports = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path


def save_constant(path: Path, row: Sequence[float], *, last: str | None = None) -> Path:
    """Write a classifier that answers ``row`` to anything: logits = x 0 + row, then ``last`` if it is given."""
    width = len(row)
    nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["raw" if last else "logits"])]
    if last:
        nodes.append(helper.make_node(last, ["raw"], ["logits"]))
    weights = {"weight": np.zeros((3, width)), "bias": np.array(row, np.float64)}
    return save(path, nodes, weights, {"x": ["batch", 3]}, {"logits": ["batch", width]})


def save_linear(path: Path, weight: ArrayLike) -> Path:
    """Write y = x W for W (3, n)."""
    array = np.asarray(weight, np.float64)
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    return save(path, [node], {"weight": array}, {"x": ["batch", array.shape[0]]}, {"y": ["batch", array.shape[1]]})


def save_lookup(path: Path, table: ArrayLike, head: ArrayLike) -> Path:
    """Write logits = table[ids] W, hidden only inside: table (vocab, h), W (h, n)."""
    rows, weight = np.asarray(table, np.float64), np.asarray(head, np.float64)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "head"], ["logits"]),
    ]
    return save(
        path,
        nodes,
        {"table": rows, "head": weight},
        {"ids": ["batch", "sequence"]},
        {"logits": ["batch", "sequence", weight.shape[1]]},
        integers=["ids"],
    )


def change(path: Path, name: str, array: ArrayLike) -> None:
    """Replace an initializer of a written model; declared shapes stay as they were."""
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(array, np.float32), name))
    onnx.save(model, path)


Told = dict[str, Any]


def leaf(source: int, target: int, role: str = "free", dim: str = "d0") -> Told:
    """A leaf axis as files tell of it."""
    return {"kind": "leaf", "role": role, "dim": dim, "source": source, "target": target}


def composite(kind: str, *parts: Told | None) -> Told:
    """A product or concat of axes as files tell of it; None: a part that is set at run time."""
    runtime = leaf(0, 0, "runtime", "")
    return {"kind": kind, "role": "free", "dim": "d9", "parts": [runtime if part is None else part for part in parts]}


def say_made_from(
    path: Path,
    source: Path,
    *,
    kept: bool | None = True,
    why: str = "",
    factors: Mapping[str, float] | None = None,
    tolerance: float = 1e-4,
    **told: Any,
) -> Path:
    """Write into a file that it was resized from ``source``, and what is promised of its outputs."""
    promise = {"kept": kept, "why": why, "factors": list((factors or {}).items()), "tolerance": tolerance}
    entries = {
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "method": "bot",
        "options": {},
        "seed": 0,
        "align": "none",
        "promise": {**promise, "quantised": False},
        "inputs": {},
        "outputs": {},
        "partners": {},
        "sizes": {},
        "layers": [],
        **told,
    }
    model = onnx.load(path)
    del model.metadata_props[:]
    model.metadata_props.append(onnx.StringStringEntryProto(key="bot_onnx", value=json.dumps(entries)))
    onnx.save(model, path)
    return path
