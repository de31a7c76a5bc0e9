"""Two paths through the same layers: in the branches of an If, or side by side. Both always have the same depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import bot_onnx
from bot_onnx._runs.runtime import session
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, transplant
from tests.system.oracle.flow.bodies import FLOAT, Body, linear

Weights = list[tuple[str, str]]


def weights(b: GraphBuilder, layers: int, hidden: int, inner: int) -> Weights:
    """Both matrices of every layer."""
    return [(b.weight(hidden, inner), b.weight(inner, hidden)) for _ in range(layers)]


def through(b: GraphBuilder, x: str, layers: Weights, activation: str) -> str:
    """The residual layers applied to ``x``."""
    for wide, narrow in layers:
        x = b.op("Add", x, b.op("MatMul", b.op(activation, b.op("MatMul", x, wide)), narrow))
    return x


def merged(layers: int = 3, hidden: int = 8, inner: int = 16) -> onnx.ModelProto:
    """Both branches of an If run the same weights, as decoders merged into one file do."""
    b = GraphBuilder()
    x, shared = linear(b, "x", 4, hidden), weights(b, layers, hidden, inner)
    bodies = []
    for activation in ("Relu", "Tanh"):
        body = Body(b)
        bodies.append(body.graph([(through(body, x, shared, activation), FLOAT)]))
    made = b.op("If", "flag", then_branch=bodies[0], else_branch=bodies[1])
    model = b.model([("x", ["batch", 4]), ("flag", [])], [linear(b, made, hidden, 3)])
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.BOOL
    return model


def siamese(layers: int = 3, hidden: int = 8, inner: int = 16) -> onnx.ModelProto:
    """Two inputs through one network, compared at the end."""
    b = GraphBuilder()
    entry, shared = b.weight(4, hidden), weights(b, layers, hidden, inner)
    ends = [through(b, b.op("MatMul", name, entry), shared, "Relu") for name in ("x", "y")]
    return b.model([("x", ["batch", 4]), ("y", ["batch", 4])], [linear(b, b.op("Sub", *ends), hidden, 3)])


def difference(ours: Path, theirs: Path | onnx.ModelProto) -> float:
    """Largest over both branches, relative to the largest output."""
    runners = [session(str(m) if isinstance(m, Path) else m.SerializeToString()) for m in (ours, theirs)]
    rng = np.random.default_rng(0)
    worst = 0.0
    for flag in (True, False):
        values = {name: rng.standard_normal((5, 4)).astype(np.float32) for name in ("x", "y")}
        feeds = {port.name: values.get(port.name, np.array(flag)) for port in runners[0].get_inputs()}
        a, b = (runner.run(None, feeds)[0] for runner in runners)
        worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst


@pytest.mark.parametrize("make", [merged, siamese])
def test_resized_equals_native(make: Callable[..., onnx.ModelProto], tmp_path: Path) -> None:
    source = save(make(), tmp_path)
    chains = analysis_of(source).structure.chains
    assert [(chain.count, chain.follows) for chain in chains] == [(3, None), (3, chains[0].name)]
    out = tmp_path / "out.onnx"
    for layers, hidden, inner in ((2, 4, 6), (5, 16, 40), (1, 8, 16)):
        spec = {"layers": layers, "hidden": hidden, "intermediate": inner}
        assert bot_onnx.resize(source, spec, out, force=True).report.passed
        native = save(make(layers, hidden, inner), tmp_path, "native.onnx")
        assert difference(out, transplant(analysis_of(out), analysis_of(native))) <= 1e-5


@pytest.mark.parametrize("make", [merged, siamese])
def test_growing_keeps_the_function(make: Callable[..., onnx.ModelProto], tmp_path: Path) -> None:
    source = save(make(), tmp_path)
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"layers": 5, "hidden": 16}, out)
    assert difference(out, source) <= 1e-5


def test_one_depth_for_both(tmp_path: Path) -> None:
    source = save(siamese(), tmp_path)
    first, second = (chain.name for chain in analysis_of(source).structure.chains)
    for name in (first, second):
        plan = bot_onnx.plan(source, {"layers": {name: 2}})
        assert {change.target for change in plan.layers} == {2}
    with pytest.raises(SpecError, match="share their weights"):
        bot_onnx.plan(source, {"layers": {first: 2, second: 4}})
