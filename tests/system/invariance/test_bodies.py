"""Neutral nodes around and inside the bodies of control flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import save
from tests.system.invariance.facts import difference, facts, understood
from tests.system.oracle.flow.bodies import branching, looping, scanning

NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "branching": branching,
    "nested": lambda: branching(nested=True),
    "looping": looping,
    "scanning": scanning,
}


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all that lie in it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def dropped_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` with a Dropout behind every linear map, in bodies too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for index, graph in enumerate(graphs(copy.graph)):
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            nodes.append(onnx.NodeProto())
            nodes[-1].CopyFrom(node)
            if node.op_type == "MatMul":
                result = node.output[0]
                nodes[-1].output[0] = f"{result}__inside"
                label = f"drop{index}_{len(nodes)}"
                nodes.append(onnx.helper.make_node("Dropout", [f"{result}__inside"], [result], name=label))
        del graph.node[:]
        graph.node.extend(nodes)
    return copy


def outputs(path: Path) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    runner = session(path.read_bytes())
    feeds: dict[str, np.ndarray] = {}
    for port in runner.get_inputs():
        shape = [size if isinstance(size, int) else 2 for size in port.shape]
        made = rng.standard_normal(shape, np.float32)
        feeds[port.name] = made if "float" in port.type else np.ones(shape, bool if "bool" in port.type else np.int64)
    return list(runner.run(None, feeds))


@pytest.mark.parametrize("name", NETWORKS)
def test_understood_and_resized_alike(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    other = dropped_out(model)
    assert difference(facts(understood(model)), facts(understood(other))) == []
    made = []
    for kind, proto in (("plain", model), ("other", other)):
        out = tmp_path / f"{kind}_out.onnx"
        assert bot_onnx.resize(save(proto, tmp_path, f"{kind}.onnx"), {"width": 2}, out).report.passed
        made.append(outputs(out))
    for ours, theirs in zip(*made, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
