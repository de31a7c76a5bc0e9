"""What a model is run on: sizes that weights demand, arrays and shapes that a caller gives."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from bot_onnx import api
from bot_onnx._cli.app import cli
from bot_onnx._runs.demanded_sizes import demanded_sizes
from bot_onnx._runs.inputs import feeds, input_specs, open_sizes
from bot_onnx._runs.read_overrides import read_given
from bot_onnx.errors import DataError, GraphError
from tests.graphs import GraphBuilder


def features(first: str) -> onnx.ModelProto:
    """A network of 37 features behind an op or two, every axis of whose input is open."""
    b = GraphBuilder()
    shape: list[int | str] = ["n", "features"]
    x = "x"
    if first == "gemm":
        x = b.op("Gemm", x, b.weight(64, 37), b.weight(64), transB=1)
    elif first == "conv":
        shape = ["n", "c", "h", "w"]
        x = b.op("Conv", x, b.weight(64, 37, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = b.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    elif first == "scaled":
        x = b.op("MatMul", b.op("Sub", x, b.weight(37)), b.weight(37, 64))
    elif first == "lstm":
        shape = ["t", "n", "features"]
        x = b.op("LSTM", x, b.weight(1, 64, 37), b.weight(1, 64, 16), hidden_size=16, outputs=2)
        x = b.op("MatMul", b.op("Squeeze", b.nodes[-1].output[0], b.ints(1)), b.weight(16, 64))
    elif first == "turned":
        shape = ["n", "features", "t"]
        x = b.op("MatMul", b.op("Transpose", x, perm=[0, 2, 1]), b.weight(37, 64))
    else:
        x = b.op("MatMul", b.op("Cast", x, to=1), b.weight(37, 64))
    x = b.op("MatMul", b.op("Relu", x), b.weight(64, 5))
    return b.model([("x", shape)], [x], rank=3 if first in ("lstm", "turned") else 2)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("first", ["matmul", "gemm", "conv", "scaled", "lstm", "turned"])
def test_weights_say_how_many_features_there_are(tmp_path: Path, first: str) -> None:
    model = features(first)
    assert list(demanded_sizes(model.graph).values()) == [37]
    result = api.resize(saved(tmp_path, model), {"width": 0.5}, tmp_path / "half.onnx")
    assert result.report.passed
    written = onnx.load(result.output).graph
    kept = [dim.dim_param for dim in written.input[0].type.tensor_type.shape.dim]
    assert all(kept)  # the file's own words stay


def test_axes_without_a_name_may_differ_between_inputs(tmp_path: Path) -> None:
    b = GraphBuilder()
    total = b.op("Add", b.op("MatMul", "x", b.weight(37, 64)), b.op("MatMul", "z", b.weight(11, 64)))
    model = b.model([("x", [0, 0]), ("z", [0, 0])], [b.op("MatMul", total, b.weight(64, 5))])
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()
    assert demanded_sizes(model.graph) == {("x", 1): 37, ("z", 1): 11}
    api.resize(saved(tmp_path, model), {"width": 0.5}, tmp_path / "half.onnx")


def stubborn() -> onnx.ModelProto:
    """A network that runs with 23 steps of 3 numbers alone, which nothing in it says."""
    b = GraphBuilder()
    hidden = b.op("MatMul", b.op("Reshape", "x", b.ints(0, -1)), b.weight(69, 64))
    return b.model([("x", ["n", "steps", "numbers"])], [b.op("MatMul", hidden, b.weight(64, 5))])


def test_shapes_that_cannot_be_guessed_are_given(tmp_path: Path) -> None:
    path = saved(tmp_path, stubborn())
    with pytest.raises(GraphError, match="--input-shape"):
        api.inspect(path)
    shape = {"x": (2, 23, 3)}
    assert api.inspect(path, input_shapes=shape).structure.parameters == 69 * 64 + 64 * 5
    arrays = {"x": np.random.default_rng(0).standard_normal((4, 23, 3)).astype(np.float32)}
    api.plan(path, {"width": 0.5}, inputs=arrays)
    result = api.resize(path, {"width": 0.5}, tmp_path / "half.onnx", inputs=arrays)
    assert any("4x23x3" in check.detail for check in result.report.checks if check.name == "run")
    assert api.verify(tmp_path / "half.onnx", against=path, input_shapes=shape).passed


def test_options_of_the_commands(tmp_path: Path) -> None:
    path, samples = saved(tmp_path, stubborn()), tmp_path / "samples.npz"
    np.savez(samples, x=np.ones((4, 23, 3), np.float32))
    out = str(tmp_path / "half.onnx")
    run = CliRunner().invoke
    for options in (["--inputs", str(samples)], ["--input-shape", "x=2x23x3"]):
        assert run(cli, ["inspect", str(path), *options]).exit_code == 0
        assert run(cli, ["resize", str(path), "--width", "0.5", "-o", out, "--force", *options]).exit_code == 0
        assert run(cli, ["verify", out, "--against", str(path), *options]).exit_code == 0


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"inputs": {"z": np.ones(3)}}, "no input 'z'"),
        ({"input_shapes": {"x": (2, 23)}}, "given as"),
        ({"inputs": {"x": np.ones((1, 23, 3), np.complex64)}}, "complex64"),
    ],
)
def test_what_the_model_does_not_take_is_refused(tmp_path: Path, given: dict[str, object], match: str) -> None:
    with pytest.raises(DataError, match=match):
        api.inspect(saved(tmp_path, stubborn()), **given)  # type: ignore[arg-type]


def test_what_is_no_file_of_arrays_and_no_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz")
    (tmp_path / "empty.npz").touch()
    np.savez(tmp_path / "nobody.npz", x=np.zeros((0, 3)), y=np.zeros((0, 2)))
    for path in ("none.npz", "empty.npz", "gone.npz", "nobody.npz holds no samples"):
        with pytest.raises(DataError, match=path):
            read_given(tmp_path / path.split()[0])
    for text in ("x", "x=", "=2x3", "x=2xx3", "x=-1", "x=2x9999999999"):
        with pytest.raises(DataError, match="no shape of an input"):
            read_given(None, [text])
    assert read_given(None, ["a=b=2x3", "c=7"]).shapes == {"a=b": (2, 3), "c": (7,)}


def test_formulas_that_blow_up_are_names(tmp_path: Path) -> None:
    b = GraphBuilder()
    model = b.model([("x", ["n", "*".join(["a"] * 90), "+".join(["a"] * 5000)])], [b.op("Relu", "x")], rank=3)
    specs = input_specs(model.graph)
    started = time.perf_counter()
    for sizes in next(open_sizes(specs)):
        with pytest.raises(GraphError, match="too large"):
            feeds(specs, sizes)
    assert time.perf_counter() - started < 1
