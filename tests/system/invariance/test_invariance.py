"""What a file says, not how it says it: node order and names change nothing."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest

import bot_onnx
from bot_onnx._structure import Structure
from tests.exports import networks
from tests.zoo.architectures import base_size
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter


def disguise(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same model with anonymous names and its nodes in another valid order."""
    rng = random.Random(seed)
    graph = model.graph
    names = [t.name for t in graph.initializer] + [o for n in graph.node for o in n.output if o]
    keep = {v.name for v in (*graph.input, *graph.output)}
    fresh = {name: f"v{index}" for index, name in enumerate(rng.sample(names, len(names))) if name not in keep}
    del graph.value_info[:]
    for tensor in graph.initializer:
        tensor.name = fresh.get(tensor.name, tensor.name)
    for node in graph.node:
        node.name = f"n{rng.random()}"
        node.input[:] = [fresh.get(name, name) for name in node.input]
        node.output[:] = [fresh.get(name, name) for name in node.output]
    known = {t.name for t in graph.initializer} | {v.name for v in graph.input} | {""}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if all(name in known for name in node.input)]
        chosen = rng.choice(ready)
        waiting.remove(chosen)
        ordered.append(chosen)
        known.update(chosen.output)
    tensors = rng.sample(list(graph.initializer), len(graph.initializer))
    nodes, initializers = [*map(_copy, ordered)], [*map(_copy, tensors)]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    return model


def _copy(message: onnx.NodeProto) -> onnx.NodeProto:
    twin = type(message)()
    twin.CopyFrom(message)
    return twin


def facts(structure: Structure) -> tuple[object, ...]:
    """All of a structure but names."""
    dims = [
        (d.id, d.size, d.kind, d.parts, d.role, d.frozen is None, len(d.occurrences)) for d in structure.dims.values()
    ]
    chains = [(c.count, c.period, c.nodes_per_layer) for c in structure.chains]
    stacks = [
        (
            s.shape,
            len(s.tensors),
            s.axes,
            s.kind,
            s.directions,
            s.writes_residual,
            s.score_parts,
            s.twin_of,
            s.closed_form,
        )
        for s in structure.stacks
    ]
    return dims, chains, stacks, structure.residual


@pytest.mark.parametrize(("arch", "exporter"), networks())
def test_names_and_order_do_not_matter(arch: str, exporter: str, tmp_path: Path) -> None:
    source = cached_export(arch, base_size(arch), exporter)
    disguised = tmp_path / "disguised.onnx"
    onnx.save(disguise(onnx.load(source), seed=7), disguised)
    assert facts(bot_onnx.inspect(disguised).structure) == facts(bot_onnx.inspect(source).structure)


@pytest.mark.parametrize("details", ["zero", "gaussian"])
def test_same_input_same_bytes(details: str, tmp_path: Path) -> None:
    source = cached_export("llama", base_size("llama"), "dynamo18")
    outputs = []
    for name in ("a.onnx", "b.onnx"):
        out = tmp_path / name
        bot_onnx.resize(source, {"layers": 6, "hidden": 128}, out, options={"details": details})
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]
