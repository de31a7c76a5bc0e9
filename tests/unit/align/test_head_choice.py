"""Heads are chosen by what their weights hold, in whatever axes these stand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.graphs import GraphBuilder, save

HIDDEN, HEADS, HEAD_DIM = 16, 4, 4
SIZES = {"m": HIDDEN, "h": HEADS, "d": HEAD_DIM}


def _projection(b: GraphBuilder, x: str, form: str, rng: np.random.Generator) -> str:
    """``[batch, sequence, heads, head_dim]`` of a weight in axes of ``form``, or of a matrix where that is empty."""
    weight = _weight(b, "mhd", form, rng)
    if form:
        return b.op("Einsum", x, weight, equation=f"bsm,{form}->bshd")
    return b.op("Reshape", b.op("MatMul", x, weight), b.ints(0, 0, HEADS, HEAD_DIM))


def _weight(b: GraphBuilder, letters: str, form: str, rng: np.random.Generator) -> str:
    """The same numbers in every form: axes in another order, or heads and head_dim as one axis."""
    drawn = (rng.standard_normal([SIZES[letter] for letter in letters]) * 0.3).astype(np.float32)
    if form:
        return b.constant(np.ascontiguousarray(np.transpose(drawn, [letters.index(letter) for letter in form])))
    return b.constant(drawn.reshape((HIDDEN, -1) if letters[0] == "m" else (-1, HIDDEN)))


def _packed(b: GraphBuilder, x: str, form: str, rng: np.random.Generator) -> list[str]:
    """Queries, keys and values of one weight."""
    drawn = (rng.standard_normal((HIDDEN, 3, HEADS, HEAD_DIM)) * 0.3).astype(np.float32)
    if form:
        made = b.op("Einsum", x, b.constant(drawn), equation="bsm,mthd->tbshd")
        return [b.op("Gather", made, b.constant(np.array(place, np.int64)), axis=0) for place in range(3)]
    parts = b.op("Split", b.op("MatMul", x, b.constant(drawn.reshape(HIDDEN, -1))), outputs=3, axis=-1)
    names = (parts, f"{parts}.1", f"{parts}.2")
    return [b.op("Reshape", part, b.ints(0, 0, HEADS, HEAD_DIM)) for part in names]


def attention(made: str, read: str, *, packed: bool) -> onnx.ModelProto:
    """Three layers without a norm; ``made`` and ``read`` are the axes of the heads' weights, empty for matrices."""
    b, rng = GraphBuilder(), np.random.default_rng(1)
    x = b.op("MatMul", "x", b.weight(3, HIDDEN))
    for _ in range(3):
        q, k, v = _packed(b, x, made, rng) if packed else [_projection(b, x, made, rng) for _ in range(3)]
        score = b.op("Einsum", q, k, equation="bqhd,bkhd->bhqk")
        score = b.op("Mul", score, b.constant(np.array(HEAD_DIM**-0.5, np.float32)))
        found = b.op("Einsum", b.op("Softmax", score, axis=-1), v, equation="bhqk,bkhd->bqhd")
        weight = _weight(b, "hdm", read, rng)
        if read:
            written = b.op("Einsum", found, weight, equation=f"bshd,{read}->bsm")
        else:
            written = b.op("MatMul", b.op("Reshape", found, b.ints(0, 0, HEADS * HEAD_DIM)), weight)
        x = b.op("Add", x, written)
    return b.model([("x", ["batch", "sequence", 3])], [b.op("MatMul", x, b.weight(HIDDEN, 5))], rank=3)


def halved(made: str, read: str, folder: Path, *, packed: bool) -> NDArray[np.float32]:
    """What the network computes when half of its heads are chosen."""
    source, out = save(attention(made, read, packed=packed), folder), folder / "half.onnx"
    plan = bot_onnx.resize(source, {"heads": HEADS // 2}, out, align="select").plan
    assert not any("chosen" in note for note in plan.notes)
    x = np.random.default_rng(0).standard_normal((2, 7, 3)).astype(np.float32)
    return np.asarray(session(str(out)).run(None, {"x": x})[0])


@cache
def _of_matrices(*, packed: bool) -> NDArray[np.float32]:
    with TemporaryDirectory() as folder:
        return halved("", "", Path(folder), packed=packed)


@pytest.mark.parametrize(
    ("made", "read"), [("mhd", "hdm"), ("hmd", "hmd"), ("dhm", "mhd"), ("hdm", "dmh"), ("mdh", "mdh"), ("", "dhm")]
)
def test_heads_on_an_axis_of_their_own_are_chosen_as_in_matrices(made: str, read: str, tmp_path: Path) -> None:
    np.testing.assert_allclose(
        halved(made, read, tmp_path, packed=False), _of_matrices(packed=False), rtol=1e-4, atol=1e-5
    )


def test_heads_of_packed_weights_are_chosen_by_their_values(tmp_path: Path) -> None:
    np.testing.assert_allclose(
        halved("mthd", "hdm", tmp_path, packed=True), _of_matrices(packed=True), rtol=1e-4, atol=1e-5
    )
