"""What a proof runs on: images as small as shows the same, lengths that the network works out, nothing in vain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import bot_onnx
from bot_onnx._analysis.passes import analyse
from bot_onnx._proof import feeding, miniature
from bot_onnx._proof.prover import Proven, prove
from bot_onnx._target import TargetSpec, solve
from bot_onnx.errors import ProofError
from tests.graphs import GraphBuilder, save
from tests.unit.proof.test_proof import grown


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller inputs are tried for small networks, too."""
    monkeypatch.setattr(feeding, "_MUCH", 0)


def pyramid(op: str = "Relu", size: int = 64, *, row: bool = False, turned: bool = False) -> onnx.ModelProto:
    """Two halvings of an image and back; ``row``: to a line of pixels with a weight each; ``turned``: channels last."""
    b = GraphBuilder()
    x = b.op("Transpose", "x", perm=[0, 3, 1, 2]) if turned else "x"
    first = b.op("Relu", b.op("Conv", x, b.weight(6, 3, 3, 3), pads=[1] * 4))
    halved = b.op("MaxPool", first, kernel_shape=[2, 2], strides=[2, 2])
    down = b.op("MaxPool", halved, kernel_shape=[2, 2], strides=[2, 2])
    inner = b.op(op, b.op("Conv", down, b.weight(8, 6, 3, 3), pads=[1] * 4), **({"axis": 1} if "max" in op else {}))
    up = b.op("Resize", inner, "", b.constant(np.array([1, 1, 4, 4], np.float32)), mode="nearest")
    y = b.op("Conv", b.op("Concat", first, up, axis=1), b.weight(1, 14, 1, 1))
    if row:
        y = b.op("MatMul", b.op("Reshape", y, b.ints(1, size * size)), b.weight(size * size, 2))
    shape = [1, size, size, 3] if turned else [1, 3, size, size]
    return b.model([("x", shape)], [y], rank=2 if row else 4)


def proven(model: onnx.ModelProto, spec: dict[str, Any]) -> Proven:
    analysis = analyse(ir.from_proto(model))
    return prove(analysis, solve(analysis.structure, TargetSpec.parse(spec)).sizes)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (pyramid(), (1, 3, 8, 8)),  # 4 would leave one pixel of what has 16 x 16
        (pyramid(turned=True), (1, 8, 8, 3)),
        (pyramid(row=True), (1, 3, 64, 64)),  # runs at no other size
        (pyramid(size=60), (1, 3, 60, 60)),  # small enough
    ],
)
@pytest.mark.usefixtures("eager")
def test_images_are_as_small_as_shows_the_same(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    found = proven(model, {"width": 2})
    assert found.miniature is not None and found.miniature.feeds["x"].shape == shape
    values = sum(node.op_type not in ("Constant",) for node in found.miniature.excerpt.nodes)
    assert found.proof.status == "proven" and found.proof.values == values


def test_little_is_run_as_it_is() -> None:
    found = proven(pyramid(), {"width": 2})
    assert found.miniature is not None and found.miniature.feeds["x"].shape == (1, 3, 64, 64)


@pytest.mark.usefixtures("eager")
def test_growth_is_promised_on_small_images_and_kept_on_large_ones(tmp_path: Path) -> None:
    plan, far = grown(pyramid(), tmp_path, {"width": 2})
    assert plan.proof.status == "proven" and plan.promise.kept and far < 1e-5


@pytest.mark.usefixtures("eager")
def test_what_is_wrong_is_seen_on_small_images(tmp_path: Path) -> None:
    source = save(pyramid("Hardmax"), tmp_path)
    channels = next(dim.name for dim in bot_onnx.inspect(source).structure.dims.values() if dim.size == 8)
    with pytest.raises(ProofError, match="Hardmax"):
        bot_onnx.plan(source, {"dims": {channels: 16}})


def spoken(hidden: int = 6) -> onnx.ModelProto:
    """Every token lasts as long as the network says, and is written once for each step of that."""
    b = GraphBuilder()
    x = b.op("Tanh", b.op("MatMul", "x", b.weight(4, hidden)))
    long = b.op("Sigmoid", b.op("MatMul", x, b.weight(hidden, 1)))
    steps = b.op("Cast", b.op("Ceil", b.op("Mul", long, b.constant(np.float32(9)))), to=onnx.TensorProto.INT64)
    total = b.op("ReduceSum", steps, keepdims=0)
    shape = b.op("Concat", b.op("Unsqueeze", total, b.ints(0)), b.ints(1), axis=0)
    lasting = b.op("Expand", b.op("ReduceMean", x, axes=[0]), shape)
    return b.model([("x", ["n", 4])], [b.op("MatMul", b.op("Relu", lasting), b.weight(hidden, 3))])


def test_lengths_that_the_network_works_out_are_no_fault(tmp_path: Path) -> None:
    """Their number in the miniature is not the one that the analysis has seen; the channels are proven all the same."""
    plan, far = grown(spoken(), tmp_path, {"width": 2})
    assert plan.proof.status == "proven" and not plan.proof.kept and plan.promise.kept and far < 1e-5
    assert [(dim.source, dim.target) for dim in plan.dims if dim.source != dim.target] == [(6, 12)]


def test_a_hypothesis_runs_up_to_the_value_that_it_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.3 is explained by nothing, whatever is tried; what follows is run for none of it, and few sessions are made."""
    ran: list[int] = []
    plain = miniature.session

    def counting(model: bytes) -> Any:
        ran.append(len(onnx.load_from_string(model).graph.node))
        return plain(model)

    monkeypatch.setattr(miniature, "session", counting)
    b = GraphBuilder()
    channels = b.op("MatMul", "x", b.weight(5, 12))
    mean = b.op("Mul", b.op("ReduceSum", channels, b.ints(1), keepdims=1), b.constant(np.float32(0.3)))
    y = b.op("Sub", channels, mean)
    for _ in range(100):
        y = b.op("Tanh", b.op("Neg", y))
    found = proven(b.model([("x", ["n", 5])], [b.op("MatMul", y, b.weight(12, 3))]), {"width": 2})
    assert found.proof.fault is not None and found.proof.fault.op == "Sub"
    whole = [nodes for nodes in ran if nodes > 100]
    assert len(whole) <= 3  # the small one, the grown one, and the fault's dim alone
    assert 4 <= len(ran) < 12  # weights that take a factor are given to the session that is there


def sines(kind: str = "Sin", *, sum_up: bool = False) -> onnx.ModelProto:
    """Channels of which a function is taken that tells small differences of large numbers apart."""
    b = GraphBuilder()
    hidden = b.op("Relu", b.op("MatMul", "x", b.weight(5, 64)))
    mixed = b.op("Mul", b.op("MatMul", hidden, b.weight(64, 64)), b.constant(np.float32(3e4)))
    if sum_up:
        mixed = b.op("ReduceSum", mixed, b.ints(1), keepdims=1)
    y = b.op("Tanh", b.op(kind, mixed))
    return b.model([("x", ["n", 5])], [b.op("MatMul", y, b.weight(1 if sum_up else 64, 3))])


def test_what_rounding_leaves_of_a_long_way_is_no_fault() -> None:
    found = proven(sines(), {"width": 2})
    assert found.proof.status == "proven" and found.proof.values == 7


def test_a_factor_before_such_a_function_is_a_fault() -> None:
    """The sum doubles with its channels: what is made of its copies is right, and it is none."""
    found = proven(sines(sum_up=True), {"width": 2})
    assert found.proof.fault is not None and found.proof.fault.op == "Sin"
