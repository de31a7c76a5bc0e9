"""Weights in Constant nodes, as Paddle writes all of them, are quantised as initializers are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import residual_mlp_model, save


def in_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network, every initializer the value of a Constant node."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    del other.graph.initializer[:], other.graph.node[:]
    other.graph.node.extend(
        helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer
    )
    other.graph.node.extend(model.graph.node)
    return other


@pytest.mark.parametrize(("kind", "calibrated"), [("int8", False), ("int8", True), ("int4", False), ("fp16", False)])
def test_both_forms_become_the_same_network(kind: str, calibrated: bool, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=x)
    model = residual_mlp_model(hidden=32)
    found = []
    for name, form in (("initializers", model), ("nodes", in_nodes(model))):
        folder = tmp_path / name
        folder.mkdir()
        packed = folder / "packed.onnx"
        source = save(form, folder)
        before = source.read_bytes()
        done = bot_onnx.quantize(source, packed, to=kind, calibration=samples if calibrated else None)
        assert done.tensors and source.read_bytes() == before
        assert {path.name for path in folder.iterdir()} == {source.name, packed.name}
        found.append((packed.stat().st_size, session(str(packed)).run(None, {"x": x})[0]))
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-6)
    assert abs(found[1][0] - found[0][0]) < 0.1 * found[0][0]
