"""Layers that are named, or chosen by what they do: which weights stand where, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import bot_onnx
from bot_onnx._analysis.passes import analyse
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._runs.runtime import session
from bot_onnx._surgery.kept_layers import moved_values, refuse_two_ways
from bot_onnx._target import Solution, TargetSpec
from bot_onnx.errors import BotError, DataError, SpecError
from tests.graphs import GraphBuilder, residual_mlp_model, save
from tests.spec_structures import structure as structure_of
from tests.system.oracle.sequence.graphs import (
    cached_decoder,
    first_without_norm,
    scaled_branches,
    taking_turns,
    two_towers,
)

Array = NDArray[Any]


def weights(path: Path) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def matrices(path: Path, shape: tuple[int, ...]) -> list[Array]:
    """Initializers of a shape in the order of the layers."""
    return [array for array in weights(path).values() if array.shape == shape]


@pytest.mark.parametrize("method", ["bot", "ws", "front", "scratch"])
def test_kept_layers_are_taken_as_they_are(method: str, tmp_path: Path) -> None:
    source, out = save(residual_mlp_model(layers=6), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"layers": {"keep": [0, 2, 3, 5]}}, out, method=method)
    assert result.plan.layers[0].kept == (0, 2, 3, 5)
    ups, kept = matrices(source, (8, 16)), matrices(out, (8, 16))
    assert len(kept) == 4
    if method != "scratch":  # which reads none
        for layer, array in zip((0, 2, 3, 5), kept, strict=True):
            np.testing.assert_array_equal(array, ups[layer])


def test_runs_that_come_again_repeat_their_layers(tmp_path: Path) -> None:
    source, out = save(residual_mlp_model(layers=6), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"layers": {"repeat": [[0, 4], [2, 6]]}}, out)
    assert (result.plan.layers[0].target, result.plan.layers[0].kept) == (8, (0, 1, 2, 3, 2, 3, 4, 5))
    assert result.plan.promise.kept is False
    ups = matrices(source, (8, 16))
    for layer, array in zip(result.plan.layers[0].kept, matrices(out, (8, 16)), strict=True):
        np.testing.assert_array_equal(array, ups[layer])


def test_other_dims_are_resampled_as_the_method_says(tmp_path: Path) -> None:
    source = save(residual_mlp_model(layers=4), tmp_path)
    thin, both = tmp_path / "thin.onnx", tmp_path / "both.onnx"
    bot_onnx.resize(source, {"intermediate": 4}, thin, align="none")
    bot_onnx.resize(source, {"intermediate": 4, "layers": {"keep": [1, 3]}}, both, align="none")
    whole, kept = matrices(thin, (8, 4)), matrices(both, (8, 4))
    assert (len(whole), len(kept)) == (4, 2)
    for layer, array in zip((1, 3), kept, strict=True):
        np.testing.assert_array_equal(array, whole[layer])


def test_layers_without_effect_may_go(tmp_path: Path) -> None:
    """Layers 1 and 3 add nothing: named, or found by their influence, the others are the whole network."""
    source = save(idle(5, {1, 3}), tmp_path)
    given, x = samples(tmp_path), np.random.default_rng(5).standard_normal((7, 4)).astype(np.float32)
    wanted = session(str(source)).run(None, {"x": x})[0]
    named, found = tmp_path / "named.onnx", tmp_path / "found.onnx"
    bot_onnx.resize(source, {"layers": {"keep": [0, 2, 4]}}, named)
    result = bot_onnx.resize(source, {"layers": 3, "layers_by": "influence"}, found, calibration=given)
    assert result.plan.layers[0].kept == (0, 2, 4)
    for path in (named, found):
        np.testing.assert_allclose(session(str(path)).run(None, {"x": x})[0], wanted, rtol=1e-5, atol=1e-6)
    evenly = bot_onnx.resize(source, {"layers": 3, "layers_by": "even"}, tmp_path / "even.onnx")
    assert evenly.plan.layers[0].kept == (0, 1, 3)


def test_influence_is_one_less_the_cosine(tmp_path: Path) -> None:
    """Against the stream as numpy computes it, layer by layer."""
    source, given = save(residual_mlp_model(layers=6), tmp_path), samples(tmp_path)
    arrays = list(weights(source).values())
    with np.load(given) as archive:
        stream = archive["x"].astype(np.float64) @ arrays[0]
    influence = []
    for layer in range(6):
        scale, shift, up, up_bias, down, down_bias = arrays[1 + 6 * layer : 7 + 6 * layer]
        centred = stream - stream.mean(axis=1, keepdims=True)
        normed = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * scale + shift
        after = stream + np.maximum(normed @ up + up_bias, 0) @ down + down_bias
        lengths = np.linalg.norm(stream, axis=1) * np.linalg.norm(after, axis=1)
        influence.append(1 - ((stream * after).sum(axis=1) / lengths).mean())
        stream = after
    for target in (1, 3, 5):
        plan = bot_onnx.plan(source, {"layers": target, "layers_by": "influence"}, calibration=given)
        assert plan.layers[0].kept == tuple(sorted(np.argsort(influence)[::-1][:target]))


def test_layers_that_take_turns_keep_them(tmp_path: Path) -> None:
    source = save(taking_turns([0, 1] * 3), tmp_path)
    with pytest.raises(SpecError, match=r"layer 3 of chain 'layers' cannot be layer 2: it reads .* There: 0, 2, 4"):
        bot_onnx.plan(source, {"layers": {"keep": [0, 1, 3, 4]}})
    with pytest.raises(SpecError, match=r"layer 0 of chain 'layers' cannot be layer 3"):
        bot_onnx.plan(source, {"layers": {"repeat": [[0, 3], [0, 6]]}})
    assert bot_onnx.plan(source, {"layers": {"keep": [0, 3, 4, 5]}}).layers[0].kept == (0, 3, 4, 5)
    assert bot_onnx.plan(source, {"layers": {"repeat": [[0, 4], [2, 6]]}}).layers[0].target == 8


def test_influence_chooses_among_the_choices_that_keep_turns(tmp_path: Path) -> None:
    model = taking_turns([0, 1] * 3)
    source, rng = save(model, tmp_path), np.random.default_rng(0)
    given = tmp_path / "samples.npz"
    np.savez(given, x=rng.standard_normal((9, 4)).astype(np.float32), g=rng.standard_normal((9, 1)).astype(np.float32))
    found = bot_onnx.plan(source, {"layers": 4, "layers_by": "influence"}, calibration=given).layers[0].kept
    joints = [node.output[0] for node in model.graph.node if node.op_type in ("MatMul", "Add")]
    stream = [joints[0], *(node.output[0] for node in model.graph.node if node.op_type == "Add")]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in stream)
    with np.load(given) as archive:
        values = session(model.SerializeToString()).run(None, dict(archive))[1:]
    cosines = [
        ((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()
        for a, b in pairwise(values)
    ]
    fitting = [one for one in combinations(range(6), 4) if all(layer % 2 == k % 2 for k, layer in enumerate(one))]
    assert found == max(fitting, key=lambda one: sum(1 - cosines[layer] for layer in one))


def test_a_number_that_follows_the_place_does_not_move(tmp_path: Path) -> None:
    """What a layer's place is scaled by stands in the graph: another layer's weights would get it."""
    model = scaled_branches()
    scalars = [tensor for tensor in model.graph.initializer if not tensor.dims]
    for place, tensor in enumerate(scalars):
        tensor.CopyFrom(numpy_helper.from_array(np.float32(0.5 / (place + 1)), tensor.name))
    source = save(model, tmp_path)
    with pytest.raises(SpecError, match=r"layer 2 of chain 'layers' cannot be layer 1: it holds another number"):
        bot_onnx.plan(source, {"layers": {"keep": [0, 2]}})
    assert bot_onnx.plan(source, {"layers": {"keep": [0, 1]}}).layers[0].kept == (0, 1)


def test_ports_of_layers_are_renumbered_and_their_layers_known(tmp_path: Path) -> None:
    source, out = save(cached_decoder(5), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"layers": {"keep": [0, 2, 4]}}, out)
    model = onnx.load(out)
    names = [port.name for port in model.graph.input if port.name.startswith("past")]
    assert names == [f"past.{layer}.{part}" for layer in range(3) for part in ("key", "value")]
    told = "".join(entry.value for entry in model.metadata_props)
    assert '"past.1.key": "past.2.key"' in told and '"present.2.value": "present.4.value"' in told
    square = matrices(source, (64, 32))
    for layer, array in zip((0, 2, 4), matrices(out, (64, 32))[::3], strict=True):
        np.testing.assert_array_equal(array, square[3 * layer])


def test_a_first_layer_unlike_the_others_stays_first(tmp_path: Path) -> None:
    source, out = save(first_without_norm(), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"layers": {"keep": [0, 2, 4]}}, out)
    ups = matrices(source, (8, 16))
    for layer, array in zip((0, 2, 4), matrices(out, (8, 16)), strict=True):
        np.testing.assert_array_equal(array, ups[layer])
    with pytest.raises(SpecError, match=r"first layer of chain .* is unlike the others"):
        bot_onnx.plan(source, {"layers": {"keep": [1, 2, 4]}})


def test_chains_by_name(tmp_path: Path) -> None:
    source = save(two_towers(), tmp_path)
    plan = bot_onnx.plan(source, {"layers": {"left": {"keep": [0, 2]}, "right": 3}})
    assert [layer.kept for layer in plan.layers] == [(0, 2), ()]
    with pytest.raises(SpecError, match=r"could be those of any chain of left \(3\), right \(3\)"):
        bot_onnx.plan(source, {"layers": {"keep": [0, 2]}})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"layers": {"keep": [2, 1]}}, "ascending order"),
        ({"layers": {"keep": []}}, "at least one layer stays"),
        ({"layers": {"keep": [0, True]}}, "lists layers by number"),
        ({"layers": {"keep": [0], "repeat": [[0, 1]]}}, "one of 'keep' and 'repeat'"),
        ({"layers": {"repeat": [[3, 3]]}}, "holds no layers"),
        ({"layers": {"repeat": [3]}}, "runs of two numbers"),
        ({"layers": {"repeat": [[0, 2000], [0, 2000]]}}, "the ceiling for layers"),
        ({"layers": {"keep": [0, 6]}}, "has no layer 6"),
        ({"layers": {"keep": [0, 1]}, "layers_by": "even"}, "nothing to choose"),
        ({"hidden": 8, "layers_by": "influence"}, "none does"),
        ({"layers": 8, "layers_by": "even"}, "none does"),
    ],
)
def test_what_cannot_be_is_refused(spec: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = save(residual_mlp_model(layers=6), tmp_path)
    with pytest.raises(SpecError, match=message):
        bot_onnx.plan(source, spec)


@pytest.mark.parametrize(
    ("spec", "method", "axis", "message"),
    [
        ({"layers": 3, "layers_by": "even"}, "bot", "haar", "'layers_by' .* by 'even', so option layer_axis 'haar'"),
        ({"layers": 3, "layers_by": "even"}, "bot", "first", "option layer_axis 'first'"),
        ({"layers": 3, "layers_by": "even"}, "ws", "first", "option layer_axis 'first'"),
        ({"layers": 3, "layers_by": "influence"}, "bot", "even", "'layers_by' .* by 'influence', so .* 'even'"),
        ({"layers": {"keep": [0, 2, 5]}}, "bot", "haar", "'layers' names the layers, so option layer_axis 'haar'"),
        ({"layers": {"repeat": [[0, 4], [2, 6]]}}, "bot", "identity", "'layers' names .* option layer_axis 'identity'"),
    ],
)
def test_two_ways_to_say_which_layers_stay(
    spec: dict[str, Any], method: str, axis: str, message: str, tmp_path: Path
) -> None:
    source, given = save(residual_mlp_model(layers=6), tmp_path), samples(tmp_path)
    with pytest.raises(SpecError, match=message):
        bot_onnx.plan(source, spec, method=method, options={"layer_axis": axis}, calibration=given)


def test_two_ways_that_say_the_same(tmp_path: Path) -> None:
    source = save(residual_mlp_model(layers=6), tmp_path)
    for method, axis in (("bot", "even"), ("bot", "auto"), ("ws", "even")):
        plan = bot_onnx.plan(source, {"layers": 3, "layers_by": "even"}, method=method, options={"layer_axis": axis})
        assert plan.layers[0].kept == (0, 2, 4) and plan.options["layer_axis"] == axis
    by_spec = bot_onnx.plan(source, {"layers": 3, "layers_by": "even"}, method="ws")
    assert by_spec.layers[0].kept == (0, 2, 4) and by_spec.options["layer_axis"] is None


def test_an_axis_for_the_chains_that_the_spec_leaves_to_it() -> None:
    towers = structure_of([("a", "hidden", 8), ("b", "hidden", 8)], [("text", ["a"]), ("image", ["b"])])
    named = Solution({}, {"text": 6, "image": 24}, picks={"text": tuple(range(6))})
    refuse_two_ways(towers, named, None, "haar")
    refuse_two_ways(towers, replace(named, picks={}), "even", "interleave")
    with pytest.raises(SpecError, match="drop one of the two"):
        refuse_two_ways(towers, replace(named, layers={"text": 6, "image": 12}), None, "haar")
    with pytest.raises(SpecError, match="drop one of the two"):
        refuse_two_ways(towers, replace(named, layers={"text": 6, "image": 6}), "even", "haar")


def test_influence_needs_samples(tmp_path: Path) -> None:
    source = save(residual_mlp_model(layers=6), tmp_path)
    with pytest.raises(DataError, match="--calibration"):
        bot_onnx.plan(source, {"layers": 3, "layers_by": "influence"})
    nothing = tmp_path / "nothing.npz"
    np.savez(nothing, x=np.zeros((0, 4), np.float32))
    with pytest.raises(BotError, match="holds no samples"):
        bot_onnx.plan(source, {"layers": 3, "layers_by": "influence"}, calibration=nothing)


def test_a_spec_keeps_its_lists_when_flags_are_put_over_it() -> None:
    spec = TargetSpec.parse({"layers": {"encoder": {"repeat": [[0, 8], [4, 12]]}, "decoder": 3}})
    merged = spec.merge({"hidden": 64})
    assert merged.layers == spec.layers
    assert TargetSpec.parse({"layers": {"keep": 3}}).layers == {"keep": 3}  # a chain of this name


def idle(layers: int, without: set[int]) -> onnx.ModelProto:
    """Residual layers, some of which write nothing."""
    b, rng = GraphBuilder(), np.random.default_rng(2)
    x = b.op("MatMul", "x", b.weight(4, 8))
    for layer in range(layers):
        inside = b.op("Relu", b.op("MatMul", x, b.weight(8, 16)))
        writer = np.zeros((16, 8)) if layer in without else rng.standard_normal((16, 8)) * 0.3
        x = b.op("Add", x, b.op("MatMul", inside, b.constant(writer.astype(np.float32))))
    b.op("MatMul", x, b.weight(8, 3))
    return b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])


def samples(folder: Path) -> Path:
    path = folder / "samples.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((21, 4)).astype(np.float32))
    return path


def test_scales_of_a_layer_do_not_serve_another(tmp_path: Path) -> None:
    """What was measured where layer 2 stands is not what layer 3 computes there."""
    with open_model(save(residual_mlp_model(layers=4), tmp_path)) as opened:
        analysis = analyse(opened.model())
        name = analysis.structure.chains[0].name
        moved = moved_values(analysis, {name: (0, 1, 3)})
        layers = analysis.chains[0].layers
        assert moved == {value for node in layers[2].nodes for value in node.outputs}
        assert not moved_values(analysis, {})
