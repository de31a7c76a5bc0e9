"""A number that every layer has of its own moves with the layer's weights.

The oracle is the network that is put together of the layers that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from bot_onnx._runs.runtime import session
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, save

Use = Literal["slope", "gate", "scale", "temperature", "shift", "twice"]
NUMBERS = (0.3123, 0.4771, 0.09, -0.2123, 0.77)
LAYERS = len(NUMBERS)


def network(
    use: Use, layers: Sequence[int], shape: tuple[int, ...] = (), numbers: Sequence[float] = NUMBERS
) -> onnx.ModelProto:
    """Pre-norm layers of a trained network of five, each with a number of its own: ``layers`` says which of them."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, 8))
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    for layer in layers:
        of = GraphBuilder(seed=1 + layer)
        up, down = (b.constant(numpy_helper.to_array(of.tensors[-1])) for _ in map(of.weight, (8, 16), (16, 8)))
        number = b.constant(np.full(shape, numbers[layer], np.float32))
        normed = b.op("LayerNormalization", x, b.constant(ones), b.constant(zeros))
        if use == "scale":
            length = b.op("Add", b.op("ReduceL2", x, axes=[-1], keepdims=1), b.constant(np.float32(1e-5)))
            normed = b.op("Mul", b.op("Div", x, length), number)
        inside = b.op("MatMul", normed, up)
        if use == "slope":
            inside = b.op("PRelu", inside, number)
        elif use in ("temperature", "twice"):
            inside = b.op("Mul", inside, b.op("Sigmoid", b.op("Mul", inside, number)))
        else:
            inside = b.op("Relu", b.op("Add", inside, number) if use == "shift" else inside)
        added = b.op("MatMul", inside, down)
        x = b.op("Add", x, b.op("Mul", added, number) if use in ("gate", "twice") else added)
    b.op("MatMul", x, b.weight(8, 3))
    return b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])


def computed(model: Path | onnx.ModelProto) -> np.ndarray:
    given = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    opened = session(str(model) if isinstance(model, Path) else model.SerializeToString())
    return np.asarray(opened.run(None, {"x": given})[0])


USES = ["slope", "gate", "scale", "temperature", "shift", "twice"]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("layers", [{"keep": [0, 3]}, {"keep": [1, 2, 4]}, 2, {"repeat": [[0, 3], [1, 5]]}])
def test_the_number_moves_with_its_layer(use: Use, shape: tuple[int, ...], layers: object, tmp_path: Path) -> None:
    source, out = save(network(use, range(LAYERS), shape), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"layers": layers}, out)
    kept = result.plan.layers[0].kept or (0, 2)  # of a number alone: ⌊k · 5 / 2⌋
    np.testing.assert_allclose(computed(out), computed(network(use, kept, shape)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use", USES)
def test_growing_keeps_the_function(use: Use, tmp_path: Path) -> None:
    source, out = save(network(use, range(LAYERS)), tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"layers": 8, "hidden": 16}, out).plan.promise.kept or use == "scale"
    if use != "scale":
        np.testing.assert_allclose(computed(out), computed(source), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["constant nodes", "shared", "half"])
def test_another_spelling_says_the_same(form: str, tmp_path: Path) -> None:
    model, spelled = network("gate", range(LAYERS)), network("gate", range(LAYERS))
    scalars = [tensor for tensor in spelled.graph.initializer if not tensor.dims]
    if form == "constant nodes":
        for tensor in scalars:
            spelled.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
            spelled.graph.initializer.remove(tensor)
    elif form == "shared":  # two layers happen to have one number, which an exporter wrote once
        numbers = (*NUMBERS[:3], NUMBERS[1], NUMBERS[4])
        model, spelled = (network("gate", range(LAYERS), numbers=numbers) for _ in range(2))
        scalars = [tensor for tensor in spelled.graph.initializer if not tensor.dims]
        for node in spelled.graph.node:
            node.input[:] = [scalars[1].name if name == scalars[3].name else name for name in node.input]
        spelled.graph.initializer.remove(scalars[3])
    else:
        for tensor in scalars:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            spelled.graph.node.insert(0, onnx.helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=1))
            spelled.graph.initializer.append(numpy_helper.from_array(half, f"{tensor.name}.half"))
            spelled.graph.initializer.remove(tensor)
    found = []
    for number, one in enumerate((model, spelled)):
        out = tmp_path / f"out{number}.onnx"
        bot_onnx.resize(save(one, tmp_path, f"in{number}.onnx"), {"layers": {"keep": [0, 3, 4]}}, out)
        found.append(computed(out))
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3 if form == "half" else 1e-7)


def test_a_number_that_follows_the_place_stays(tmp_path: Path) -> None:
    numbers = [1 / (layer + 1) for layer in range(LAYERS)]
    source, out = save(network("gate", range(LAYERS), numbers=numbers), tmp_path), tmp_path / "out.onnx"
    plan = bot_onnx.resize(source, {"layers": 2}, out).plan
    assert [note for note in plan.notes if "follow the place of the layer" in note]
    there = [numpy_helper.to_array(t).item() for t in onnx.load(out).graph.initializer if not t.dims]
    np.testing.assert_allclose(there, numbers[:2])
    with pytest.raises(SpecError, match="it holds another number"):
        bot_onnx.plan(source, {"layers": {"keep": [0, 2]}})


@pytest.mark.parametrize("form", ["initializers", "constant nodes"])
def test_added_layers_go_on_with_the_formula(form: str, tmp_path: Path) -> None:
    numbers = [1 / (layer + 1) for layer in range(LAYERS + 2)]
    model = network("gate", range(LAYERS), numbers=numbers[:LAYERS])
    if form == "constant nodes":
        for tensor in [tensor for tensor in model.graph.initializer if not tensor.dims]:
            model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
            model.graph.initializer.remove(tensor)
    out = tmp_path / "out.onnx"
    plan = bot_onnx.resize(save(model, tmp_path), {"layers": LAYERS + 2}, out).plan
    assert [note for note in plan.notes if "added layers go on with 0.166667, 0.142857." in note]
    there = [numpy_helper.to_array(t).item() for t in onnx.load(out).graph.initializer if not t.dims]
    np.testing.assert_allclose(sorted(there, reverse=True), numbers, rtol=1e-6)
    assert plan.promise.kept
    np.testing.assert_allclose(computed(out), computed(model), rtol=1e-4, atol=1e-5)


def test_a_trained_number_is_not_asked_about(tmp_path: Path) -> None:
    """A factor that stays is told of; one that moves with its layer is a weight like any other."""
    plan = bot_onnx.plan(save(network("gate", range(LAYERS)), tmp_path), {"layers": 2})
    assert not [note for note in plan.notes if "scaled by" in note or "follow the place" in note]


def test_numbers_that_are_none_stay(tmp_path: Path) -> None:
    """What masks are filled with: nothing was trained there, and infinities have no differences."""
    numbers = (np.inf, 1.0, np.inf, 2.0, np.inf)
    bot_onnx.plan(save(network("shift", range(LAYERS), numbers=numbers), tmp_path), {"layers": 2})
