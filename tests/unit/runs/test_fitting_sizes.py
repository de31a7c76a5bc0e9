"""Sizes of inputs at which a network fits its own weights, where it also runs at others, or at no usual one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from bot_onnx import api
from bot_onnx._runs.inputs import fitting, input_specs
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder, save


def flattened_frames(bins: int = 20, channels: int = 6) -> onnx.ModelProto:
    """Convolutions over ``[frames, bins]``, and a matrix for the channels x bins of every frame."""
    b = GraphBuilder()
    x = b.op("Unsqueeze", b.op("Unsqueeze", "x", b.ints(0)), b.ints(0))
    x = b.op("Relu", b.op("Conv", x, b.weight(channels, 1, 3, 3), b.weight(channels), pads=[1, 1, 1, 1]))
    x = b.op("Transpose", b.op("Squeeze", x, b.ints(0)), perm=[1, 0, 2])
    x = b.op("Reshape", x, b.ints(-1, channels * bins))
    x = b.op("Relu", b.op("MatMul", x, b.weight(channels * bins, 8)))
    return b.model([("x", ["frames", "bins"])], [b.op("MatMul", x, b.weight(8, 3))])


def flattened_image(side: int = 32, channels: int = 8) -> onnx.ModelProto:
    """``view(-1, channels * h * w)`` of an image whose height and width the file calls open."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "x", b.weight(channels, 3, 4, 4), b.weight(channels), strides=[4, 4]))
    rows = channels * (side // 4) ** 2
    x = b.op("Relu", b.op("MatMul", b.op("Reshape", x, b.ints(-1, rows)), b.weight(rows, 8)))
    return b.model([("x", ["n", 3, "h", "w"])], [b.op("MatMul", x, b.weight(8, 3))])


def lined_up() -> onnx.ModelProto:
    """Steps and samples in one line before the last matrix, as recognisers of text have it: any size fits."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("MatMul", "x", b.weight(5, 8)))
    return b.model([("x", ["t", "n", 5])], [b.op("MatMul", b.op("Reshape", x, b.ints(-1, 8)), b.weight(8, 3))])


def deep_frames() -> onnx.ModelProto:
    """Convolutions that use up 28 frames and bins, and a Squeeze that drops what they leave of 29."""
    b = GraphBuilder()
    x = b.op("Unsqueeze", b.op("Unsqueeze", "x", b.ints(0)), b.ints(0))
    x = b.op("Relu", b.op("Conv", x, b.weight(4, 1, 15, 15), b.weight(4)))
    x = b.op("Conv", x, b.weight(5, 4, 50, 50), b.weight(5))
    return b.model([("x", ["frames", "bins"])], [b.op("Squeeze", x)], rank=3)


def run(path: Path, x: np.ndarray) -> np.ndarray:
    [result] = session(str(path)).run(None, {"x": x.astype(np.float32)})
    return result


@pytest.mark.parametrize(
    ("model", "shape"), [(flattened_frames(), (7, 20)), (flattened_image(), (5, 3, 32, 32))], ids=["frames", "image"]
)
def test_rows_of_a_matrix_are_not_read_across_samples(
    model: onnx.ModelProto, shape: tuple[int, ...], tmp_path: Path
) -> None:
    source, out = save(model, tmp_path), tmp_path / "wide.onnx"
    assert api.resize(source, {"width": 2}, out).report.passed
    x = np.random.default_rng(0).standard_normal(shape)
    before, after = run(source, x), run(out, x)
    assert after.shape == before.shape == (shape[0], 3)
    assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()
    assert api.resize(source, {"width": 0.5}, tmp_path / "half.onnx").report.passed
    assert run(tmp_path / "half.onnx", x).shape == before.shape


@pytest.mark.parametrize(("model", "found"), [(flattened_frames(), 20), (flattened_image(), 32)])
def test_the_size_that_fits_comes_before_all_guesses(model: onnx.ModelProto, found: int) -> None:
    [sizes] = list(fitting(model, input_specs(model.graph)).flattened())
    first, *others = sizes.values()
    assert first == (2, 3)
    assert set(others) == {(found, found)}


def test_samples_in_one_line_leave_a_size_open() -> None:
    model = lined_up()
    [sizes] = list(fitting(model, input_specs(model.graph)).flattened())
    assert all(a != b for a, b in sizes.values())


def test_steps_in_time_before_the_bins(tmp_path: Path) -> None:
    source, out = save(deep_frames(), tmp_path), tmp_path / "wide.onnx"
    assert api.resize(source, {"width": 2}, out).report.passed
    x = np.random.default_rng(0).standard_normal((80, 90))
    before, after = run(source, x), run(out, x)
    assert before.shape == after.shape == (5, 17, 27)
    assert np.abs(after - before).max() < 1e-5 * np.abs(before).max()


def beside_tokens(*row: int) -> onnx.ModelProto:
    """States of an open length, beside tokens of another one whose vectors are reshaped to rows."""
    b = GraphBuilder()
    x = b.op("Reshape", b.op("Gather", b.weight(30, 8), "ids"), b.ints(-1, *row))
    x = b.op("ReduceSum", b.op("MatMul", x, b.weight(row[-1], 8)), b.ints(*range(len(row))), keepdims=0)
    x = b.op("MatMul", b.op("Relu", b.op("Add", b.op("MatMul", "x", b.weight(5, 8)), x)), b.weight(8, 3))
    return b.model([("x", ["n", "t", 5]), ("ids", ["n", "s"])], [x], rank=3, integer_inputs=["ids"])


@pytest.mark.parametrize(("row", "most"), [((4,), 1), ((16,), 1), ((1, 1), 0)])
def test_what_no_size_of_an_input_tells_is_asked_once(
    row: tuple[int, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens' length stays unknown whatever the states' is; a row of one element is never read across samples."""
    asked = []
    infer = onnx.shape_inference.infer_shapes

    def counted(*args: object, **named: object) -> onnx.ModelProto:
        asked.append(1)
        return infer(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", counted)
    model = beside_tokens(*row)
    assert list(fitting(model, input_specs(model.graph)).flattened()) == [] and len(asked) <= most
