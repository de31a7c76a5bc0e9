"""Numbers along channels that nobody trained: one number stays that number, a mask or a progression keeps its axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import bot_onnx
from bot_onnx._patterns.fixed_vectors import is_fixed
from bot_onnx._reasons import Why
from tests.graphs import GraphBuilder, save

CHANNELS = 16
Array = NDArray[np.floating]


def read_by(op: str, held: Array, *, embedded: bool = False, dtype: type = np.float32) -> onnx.ModelProto:
    """Channels of an activation (of a table, if ``embedded``) that meet ``held`` before a linear map."""
    b = GraphBuilder()
    x = b.op("Gather", b.weight(20, CHANNELS), "x") if embedded else b.op("MatMul", "x", b.weight(6, CHANNELS))
    x = x if embedded else b.op("Relu", x)
    met = b.op(op, x, b.constant(held.astype(dtype), "held"))
    out = b.op("MatMul", b.op("Relu", met), b.weight(CHANNELS, 5))
    if embedded:
        return b.model([("x", ["batch", "sequence"])], [out], rank=3, integer_inputs=["x"])
    return b.model([("x", ["batch", 6])], [out], rank=2)


def held_in(path: Path) -> dict[str, Array]:
    return {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("width", [0.5, 2.0])
@pytest.mark.parametrize("op", ["Mul", "Div", "Sub", "Max", "Min"])
@pytest.mark.parametrize("number", [0.5, -0.7])
def test_one_number_stays_that_number(op: str, number: float, width: float, tmp_path: Path) -> None:
    source, out = save(read_by(op, np.full(CHANNELS, number)), tmp_path), tmp_path / "out.onnx"
    bot_onnx.resize(source, {"width": width}, out)
    assert np.array_equal(held_in(out)["held"], np.full(int(CHANNELS * width), number, np.float32))


def fixed(count: int = CHANNELS) -> dict[str, Array]:
    index = np.arange(count)
    return {
        "mask": index % 2 * 1.0,
        "signs": index % 2 * 2.0 - 1,
        "linspace": np.linspace(0, 5, count),
        "arange": index / count,
        "decays": 1 - np.exp(np.linspace(np.log(1 / 32), np.log(1 / 512), count)),
        "powers": 2.0**index,
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", list(fixed()))
def test_masks_and_progressions_are_told_by_their_numbers(name: str, dtype: type[np.floating]) -> None:
    """In half precision only where there are numbers enough, or the numbers are not near 1."""
    for count in (4, 8, 16) if dtype is np.float32 or name in ("mask", "signs") else (8, 12):
        held = fixed(count)[name].astype(dtype)
        assert is_fixed(held) or (dtype is np.float16 and name == "decays")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_training_makes_is_none_of_them(dtype: type[np.floating]) -> None:
    rng = np.random.default_rng(0)
    for count in (4, 8, 64):
        drawn = rng.standard_normal((300, count)).astype(dtype)
        assert not any(map(is_fixed, (*drawn, *np.sort(drawn), *(1 + drawn / 1000), *(drawn**2))))


@pytest.mark.parametrize("op", ["Mul", "Sub"])
@pytest.mark.parametrize("name", list(fixed()))
def test_masks_and_progressions_keep_their_axis(name: str, op: str, tmp_path: Path) -> None:
    source = save(read_by(op, fixed()[name]), tmp_path)
    structure = bot_onnx.inspect(source).structure
    identity = next(stack.axes[0] for stack in structure.stacks if stack.tensors == ("held",))
    reason = structure.dims[identity or ""].frozen
    assert reason is not None and reason.kind is Why.NO_FORMULA and reason.name == "held"


def starts(count: int = CHANNELS) -> dict[str, Array]:
    """What networks begin their training with, and what they have behind it."""
    drawn = np.random.default_rng(0).standard_normal(count)
    return {"zeros": np.zeros(count), "ones": np.ones(count), "trained": drawn, "sorted": np.sort(drawn)}


@pytest.mark.parametrize("op", ["Mul", "Add"])
@pytest.mark.parametrize("name", list(starts()))
def test_what_was_trained_is_resampled(name: str, op: str, tmp_path: Path) -> None:
    source, out = save(read_by(op, starts()[name]), tmp_path), tmp_path / "out.onnx"
    stack = next(s for s in bot_onnx.inspect(source).structure.stacks if s.tensors == ("held",))
    assert stack.closed_form is None
    bot_onnx.resize(source, {"width": 0.5}, out)
    assert held_in(out)["held"].shape == (CHANNELS // 2,)


@pytest.mark.parametrize("name", ["uniform", "mask"])
def test_a_bias_of_a_linear_map_is_one(name: str, tmp_path: Path) -> None:
    """Also where it begins as one number, or as zeros and ones (the gates of an LSTM)."""
    b = GraphBuilder()
    bias = np.full(CHANNELS, -2.0) if name == "uniform" else fixed()["mask"]
    x = b.op("Add", b.op("MatMul", "x", b.weight(6, CHANNELS)), b.constant(bias.astype(np.float32), "held"))
    out = b.op("MatMul", b.op("Sigmoid", x), b.weight(CHANNELS, 5))
    source = save(b.model([("x", ["batch", 6])], [out], rank=2), tmp_path)
    stack = next(s for s in bot_onnx.inspect(source).structure.stacks if s.tensors == ("held",))
    assert stack.closed_form is None
    bot_onnx.resize(source, {"width": 0.5}, tmp_path / "out.onnx")


def test_a_layer_scale_begins_as_one_number(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(6, CHANNELS))
    for layer in range(3):
        inner = b.op("MatMul", b.op("Relu", b.op("MatMul", x, b.weight(CHANNELS, 32))), b.weight(32, CHANNELS))
        x = b.op("Add", x, b.op("Mul", inner, b.constant(np.full(CHANNELS, 1e-4, np.float32), f"gamma.{layer}")))
    source = save(b.model([("x", ["batch", 6])], [b.op("MatMul", x, b.weight(CHANNELS, 5))], rank=2), tmp_path)
    stack = next(s for s in bot_onnx.inspect(source).structure.stacks if s.tensors[0] == "gamma.0")
    assert stack.closed_form is None and len(stack.tensors) == 3
    assert bot_onnx.resize(source, {"layers": 5, "width": 2.0}, tmp_path / "out.onnx").plan.promise.kept


@pytest.mark.parametrize(("hidden", "root"), [(8, 8**0.5), (32, 32**0.5)])
def test_a_root_of_hidden_follows_it_as_a_scalar_does(hidden: int, root: float, tmp_path: Path) -> None:
    source = save(read_by("Mul", np.full(CHANNELS, CHANNELS**0.5), embedded=True), tmp_path)
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"hidden": hidden}, out)
    (factor,) = (edit for edit in result.plan.constants if edit.edit == "SetFactor")
    assert (factor.old, factor.new) == (4.0, pytest.approx(root))
    assert held_in(out)["held__scaled"] == pytest.approx(root)
    assert result.plan.promise.kept is (hidden > CHANNELS)


def transforms(count: int) -> dict[str, Array]:
    index = np.arange(count)
    hadamard = np.ones((1, 1))
    while len(hadamard) < count:
        hadamard = np.kron(hadamard, [[1, 1], [1, -1]])
    cosines = np.cos(np.pi / count * np.outer(index, index + 0.5))
    first = np.where(index == 0, 0.5**0.5, 1)[:, None] * cosines * (2 / count) ** 0.5
    fourth = np.cos(np.pi / count * np.outer(index + 0.5, index + 0.5))
    return {"hadamard": hadamard / count**0.5, "dct": cosines, "orthonormal": first, "fourth": fourth}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("count", [8, 32])
@pytest.mark.parametrize("name", list(transforms(4)))
def test_fixed_transforms_keep_their_axes(name: str, count: int, turned: bool, tmp_path: Path) -> None:
    table = transforms(count)[name].astype(np.float32)
    b = GraphBuilder()
    x = b.op("Relu", b.op("MatMul", "x", b.weight(6, count)))
    x = b.op("MatMul", x, b.constant(np.ascontiguousarray(table.T if turned else table), "held"))
    out = b.op("MatMul", b.op("Relu", x), b.weight(count, 5))
    structure = bot_onnx.inspect(save(b.model([("x", ["batch", 6])], [out], rank=2), tmp_path)).structure
    axes = next(stack.axes for stack in structure.stacks if stack.tensors == ("held",))
    reasons = [structure.dims[identity or ""].frozen for identity in axes]
    assert all(reason is not None and reason.kind is Why.CONSTANT for reason in reasons)
