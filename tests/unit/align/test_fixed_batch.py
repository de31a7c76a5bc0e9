"""Graphs that take a fixed number of samples at a time: all samples count, as if the number were left open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import bot_onnx
from bot_onnx.errors import DataError
from tests.graphs import GraphBuilder, save

Array = NDArray[Any]
CHUNK, HIDDEN, HEADS, HEAD_DIM, INNER, POSITIONS = 4, 12, 4, 3, 10, 5
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "activation": ({"intermediate": 4, "heads": 2, "keep": "activation"}, {}),
    "wanda": ({"intermediate": 4, "heads": 2, "keep": "wanda"}, {}),
    "bias": ({"intermediate": 4, "keep": "wanda", "refit": "bias"}, {}),
    "readers": ({"intermediate": 4, "keep": "wanda", "refit": "readers"}, {}),
    "rotate": ({"hidden": 8, "heads": HEADS, "head_dim": HEAD_DIM, "intermediate": INNER}, {"align": "rotate"}),
    "influence": ({"layers": 2, "layers_by": "influence"}, {}),
    "taylor": ({"intermediate": 4, "keep": "taylor"}, {}),
}


def norm(b: GraphBuilder, x: str) -> str:
    return b.op("LayerNormalization", x, b.constant(np.ones(HIDDEN, np.float32)), b.weight(HIDDEN))


def attention(b: GraphBuilder, x: str) -> str:
    sides = [
        b.op("Reshape", b.op("MatMul", x, b.weight(HIDDEN, HEADS * HEAD_DIM)), b.ints(0, 0, HEADS, HEAD_DIM))
        for _ in range(3)
    ]
    q, k, v = (b.op("Transpose", side, perm=[0, 2, 1, 3]) for side in sides)
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.op("Softmax", b.op("Mul", scores, b.constant(np.float32(HEAD_DIM**-0.5))), axis=-1)
    flat = b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    return b.op("MatMul", b.op("Reshape", flat, b.ints(0, 0, HEADS * HEAD_DIM)), b.weight(HEADS * HEAD_DIM, HIDDEN))


def encoder(batch: int | str, *, samples_axis: int = 0, seed: int = 1) -> onnx.ModelProto:
    """Three layers of attention and neurons; with ``samples_axis`` 1 what has the fixed length are positions."""
    b = GraphBuilder(seed)
    x = b.op("Transpose", "x", perm=[1, 0, 2]) if samples_axis else "x"
    x = b.op("MatMul", x, b.weight(4, HIDDEN))
    for layer in range(3):
        x = b.op("Add", x, attention(b, norm(b, x)))
        inside = b.op("Sigmoid", b.op("Add", b.op("MatMul", norm(b, x), b.weight(HIDDEN, INNER)), b.weight(INNER)))
        down = b.op("MatMul", inside, b.weight(INNER, HIDDEN, name=f"{layer}.down"))
        x = b.op("Add", x, b.op("Add", down, b.weight(HIDDEN)))
    pooled = b.op("ReduceMean", norm(b, x), axes=[1], keepdims=0)
    b.op("MatMul", pooled, b.weight(HIDDEN, 3))
    return b.model([("x", [batch, "sequence", 4])], [b.nodes[-1].output[0]], rank=2)


def samples(folder: Path, count: int, name: str = "samples") -> Path:
    """Samples of very different sizes."""
    rng, path = np.random.default_rng(7), folder / f"{name}.npz"
    x = rng.standard_normal((count, POSITIONS, 4)) * np.exp(rng.standard_normal((count, 1, 1)))
    np.savez(path, x=x.astype(np.float32))
    return path


def made(model: onnx.ModelProto, folder: Path, way: str, given: Path) -> tuple[dict[str, Array], list[str]]:
    spec, options = WAYS[way]
    out = folder / "out.onnx"
    result = bot_onnx.resize(save(model, folder), spec, out, calibration=given, force=True, **options)
    weights = {one.name: numpy_helper.to_array(one) for one in onnx.load(out).graph.initializer}
    return weights, [note for note in result.plan.notes if "samples" in note]


@pytest.mark.parametrize("count", [2, 8, 10])
@pytest.mark.parametrize("way", [*list(WAYS)[:-1], pytest.param("taylor", marks=pytest.mark.exporter)])
def test_all_samples_count(way: str, count: int, tmp_path: Path) -> None:
    given = samples(tmp_path, count)
    (fixed, told), (free, free_told) = (made(encoder(batch), tmp_path, way, given) for batch in (CHUNK, "batch"))
    assert told == free_told
    assert way == "influence" or any(f"{count} samples" in note for note in told)
    weights = [name for name, array in free.items() if array.dtype == np.float32]
    assert weights
    for name in weights:
        np.testing.assert_allclose(fixed[name], free[name], rtol=1e-3, atol=1e-4)


def test_a_fixed_length_that_is_none_of_samples(tmp_path: Path) -> None:
    """Positions lie along the first axis, so a run is the mean over all of it; a part of one cannot be filled up."""
    model = encoder(CHUNK, samples_axis=1)
    whole, _ = made(model, tmp_path, "activation", samples(tmp_path, 2 * CHUNK))
    assert whole
    for way in ("activation", "wanda", "influence"):
        with pytest.raises(DataError, match=f"does not keep them apart.* a multiple of {CHUNK}, not 10"):
            made(model, tmp_path, way, samples(tmp_path, 10))


@pytest.mark.parametrize("way", ["activation", "wanda", "readers", "rotate", "influence"])
def test_no_samples_are_refused(way: str, tmp_path: Path) -> None:
    for batch in (CHUNK, "batch"):
        with pytest.raises(DataError, match="holds no samples"):
            made(encoder(batch), tmp_path, way, samples(tmp_path, 0))
