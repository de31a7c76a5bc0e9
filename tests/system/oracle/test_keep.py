"""From the command line: what does nothing is found, and the network without it computes what it did."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import numpy_helper

import bot_onnx
from bot_onnx._cli.app import cli
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder, save

HIDDEN, INNER = 8, 16


def half_dead(kind: str) -> onnx.ModelProto:
    """Residual layers of which every second neuron never fires, or has no weights."""
    b, rng = GraphBuilder(), np.random.default_rng(3)
    x = b.op("MatMul", "x", b.weight(4, HIDDEN))
    for _ in range(3):
        up, bias, down = rng.standard_normal((HIDDEN, INNER)), np.full(INNER, 0.1), rng.standard_normal((INNER, HIDDEN))
        if kind == "silent":  # large weights, which nothing ever passes
            up[:, ::2], bias[::2], down[::2] = up[:, ::2] * 9, -1e4, down[::2] * 9
        else:
            up[:, ::2], bias[::2], down[::2] = 0, 0, 0
        normed = b.op(
            "LayerNormalization", x, b.constant(np.ones(HIDDEN, np.float32)), b.constant(np.zeros(HIDDEN, np.float32))
        )
        inside = b.op("MatMul", normed, b.constant(up.astype(np.float32)))
        inside = b.op("Relu", b.op("Add", inside, b.constant(bias.astype(np.float32))))
        x = b.op("Add", x, b.op("MatMul", inside, b.constant((down * 0.2).astype(np.float32))))
    b.op("MatMul", x, b.weight(HIDDEN, 3))
    return b.model([("x", ["batch", "sequence", 4])], [b.nodes[-1].output[0]], rank=3)


def outputs(path: Path) -> NDArray[np.float32]:
    x = np.random.default_rng(1).standard_normal((2, 9, 4)).astype(np.float32)
    return np.asarray(session(str(path)).run(None, {"x": x})[0])


def samples(folder: Path) -> Path:
    path = folder / "samples.npz"
    np.savez(path, x=np.random.default_rng(0).standard_normal((6, 7, 4)).astype(np.float32))
    return path


@pytest.mark.parametrize(("kind", "keep"), [("silent", "activation"), ("empty", "activation"), ("empty", "magnitude")])
def test_dead_neurons_go_and_the_function_stays(kind: str, keep: str, tmp_path: Path) -> None:
    source, out = save(half_dead(kind), tmp_path), tmp_path / "out.onnx"
    arguments = ["resize", str(source), "--intermediate", str(INNER // 2), "--keep", keep, "-o", str(out), "--json"]
    given = ["--calibration", str(samples(tmp_path))] if keep == "activation" else []
    result = CliRunner().invoke(cli, [*arguments, *given])
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)["plan"]
    assert plan["align"] == "select" and any(f"chosen by {keep}" in note for note in plan["notes"])
    np.testing.assert_allclose(outputs(out), outputs(source), rtol=1e-5, atol=1e-6)


def test_silent_neurons_have_the_largest_weights(tmp_path: Path) -> None:
    """So that what activations find is no chance: by the weights, these are the ones that stay."""
    source, out = save(half_dead("silent"), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"intermediate": INNER // 2, "keep": "magnitude"}, out)
    assert np.abs(outputs(out) - outputs(source)).max() > 0.1


@pytest.mark.parametrize("keep", ["magnitude", "activation"])
def test_a_turned_stream_and_chosen_neurons(keep: str, tmp_path: Path) -> None:
    """Where hidden shrinks too, auto turns the stream, and neurons are chosen as asked."""
    source, spec = save(half_dead("empty"), tmp_path), {"hidden": HIDDEN - 1, "intermediate": INNER // 2, "keep": keep}
    given = samples(tmp_path) if keep == "activation" else None
    both, turned = tmp_path / "both.onnx", tmp_path / "turned.onnx"
    result = bot_onnx.resize(source, spec, both, calibration=given)
    assert result.plan.align == "rotate"
    bot_onnx.resize(source, {"hidden": HIDDEN - 1, "intermediate": INNER}, turned, calibration=given, align="rotate")
    np.testing.assert_allclose(outputs(both), outputs(turned), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keep", ["magnitude", "activation"])
def test_channels_of_the_stream_that_hold_nothing(keep: str, tmp_path: Path) -> None:
    """A stage of residual convolutions: one choice for all of its blocks."""
    b, rng, dead = GraphBuilder(), np.random.default_rng(5), slice(0, HIDDEN, 2)

    def kernel(out: int, into: int, *, writes: bool, reads: bool) -> str:
        values = rng.standard_normal((out, into, 3, 3)) * 0.2
        values[dead] *= not writes
        values[:, dead] *= not reads
        return b.constant(values.astype(np.float32))

    x = b.op("Relu", b.op("Conv", "x", kernel(HIDDEN, 2, writes=True, reads=False), pads=[1, 1, 1, 1]))
    for _ in range(3):
        inside = b.op("Relu", b.op("Conv", x, kernel(5, HIDDEN, writes=False, reads=True), pads=[1, 1, 1, 1]))
        written = b.op("Conv", inside, kernel(HIDDEN, 5, writes=True, reads=False), pads=[1, 1, 1, 1])
        x = b.op("Relu", b.op("Add", x, written))
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x))
    head = rng.standard_normal((HIDDEN, 3)).astype(np.float32)
    head[dead] = 0
    b.op("MatMul", pooled, b.constant(head))
    source, out = save(b.model([("x", ["batch", 2, 6, 6])], [b.nodes[-1].output[0]]), tmp_path), tmp_path / "out.onnx"
    structure = bot_onnx.inspect(source).structure
    names = {dim.size: dim.name for dim in structure.dims.values()}
    given = tmp_path / "samples.npz"
    np.savez(given, x=rng.standard_normal((5, 2, 6, 6)).astype(np.float32))
    spec = {"dims": {names[HIDDEN]: HIDDEN // 2, names[5]: 5}, "keep": keep}
    bot_onnx.resize(source, spec, out, calibration=given if keep == "activation" else None)
    x0 = rng.standard_normal((3, 2, 6, 6)).astype(np.float32)
    wanted, found = (session(str(path)).run(None, {"x": x0})[0] for path in (source, out))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_the_plan_says_which_layers_stay(tmp_path: Path) -> None:
    source, given = save(half_dead("empty"), tmp_path), samples(tmp_path)
    base = ["resize", str(source), "--dry-run"]
    named = CliRunner().invoke(cli, [*base, "--layers", '{"keep": [0, 2]}', "--json"])
    assert named.exit_code == 0, named.stderr
    assert json.loads(named.stdout)["layers"][0]["kept"] == [0, 2]
    table = CliRunner().invoke(cli, [*base, "--layers", '{"repeat": [[0, 2], [1, 3]]}'])
    assert "(source's 0-1, 1-2)" in " ".join(table.stdout.split())
    missing = CliRunner().invoke(cli, [*base, "--layers", "2", "--layers-by", "influence"])
    assert missing.exit_code != 0 and "--calibration" in missing.stderr
    found = CliRunner().invoke(
        cli, [*base, "--layers", "2", "--layers-by", "influence", "--calibration", str(given), "--json"]
    )
    assert len(json.loads(found.stdout)["layers"][0]["kept"]) == 2
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"layers": 2, "layers_by": "influence"}, out, calibration=given)
    assert any("calibration_sha256" in entry.value for entry in onnx.load(out).metadata_props)
    assert {tensor.name for tensor in onnx.load(out).graph.initializer} < {
        tensor.name for tensor in onnx.load(source).graph.initializer
    }
    assert numpy_helper.to_array(onnx.load(out).graph.initializer[0]).shape == (4, HIDDEN)
