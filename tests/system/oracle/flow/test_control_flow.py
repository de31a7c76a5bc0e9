"""Networks with If, Loop and Scan: what is inside a body is resized as everything else, or frozen by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._ops import MARKS
from bot_onnx._runs.runtime import session
from bot_onnx.errors import DimError
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import analysis_of, transplant
from tests.system.oracle.flow.bodies import FLOAT, Body, branching, linear, looping, scanning

TOLERANCE = 1e-5


def outputs(model: Path | onnx.ModelProto, **feeds: Any) -> list[Any]:
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    runner = session(content)
    wanted = {port.name for port in runner.get_inputs()}
    results: list[Any] = runner.run(None, {name: value for name, value in feeds.items() if name in wanted})
    return results


def largest_difference(ours: Path, theirs: Path | onnx.ModelProto, rank: int = 2) -> float:
    """Over both branches and two batch sizes."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch in (2, 5):
        x = rng.standard_normal((batch, 4) if rank == 2 else (batch, 7, 4)).astype(np.float32)
        for flag in (True, False):
            for a, b in zip(
                outputs(ours, x=x, flag=np.array(flag)), outputs(theirs, x=x, flag=np.array(flag)), strict=True
            ):
                worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst


def named(path: Path, size: int) -> str:
    """Name of the leaf of that size."""
    (name,) = (d.name for d in analysis_of(path).structure.dims.values() if d.size == size and d.kind == "leaf")
    return name


@pytest.mark.parametrize("nested", [False, True])
def test_branches_resize_like_a_native_network(nested: bool, tmp_path: Path) -> None:
    source = save(branching(nested=nested), tmp_path)
    out = tmp_path / "out.onnx"
    for layers, hidden, inner in ((2, 4, 12), (5, 16, 40)):
        result = bot_onnx.resize(source, {"layers": layers, "hidden": hidden, "intermediate": inner}, out, force=True)
        assert result.report.passed
        native = save(branching(layers, hidden, inner, nested=nested), tmp_path, "native.onnx")
        theirs = transplant(analysis_of(out), analysis_of(native))
        assert largest_difference(out, theirs) <= TOLERANCE
    assert sum(node.op_type == "If" for node in onnx.load(out).graph.node) == 5
    assert all(node.domain != MARKS for node in onnx.load(out).graph.node)


def test_branches_grow_exactly(tmp_path: Path) -> None:
    source = save(branching(nested=True), tmp_path)
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"hidden": 16}, out)
    assert largest_difference(out, source) <= TOLERANCE


def test_a_loop_resizes_like_a_native_one(tmp_path: Path) -> None:
    source = save(looping(inner=12), tmp_path)
    out = tmp_path / "out.onnx"
    leaves = [d.name for d in analysis_of(source).structure.dims.values() if d.size == 12]
    assert len(leaves) == 2  # inside an iteration, and collected over them: they never meet
    for hidden, inner in ((4, 6), (10, 20)):
        spec = {"dims": {named(source, 8): hidden, **dict.fromkeys(leaves, inner)}}
        assert bot_onnx.resize(source, spec, out, force=True).report.passed
        theirs = transplant(analysis_of(out), analysis_of(save(looping(hidden, inner), tmp_path, "native.onnx")))
        assert largest_difference(out, theirs) <= TOLERANCE


def test_a_scan_resizes_like_a_native_one(tmp_path: Path) -> None:
    source = save(scanning(), tmp_path)
    out = tmp_path / "out.onnx"
    for hidden, width in ((4, 5), (16, 12)):
        spec = {"dims": {named(source, 8): hidden, named(source, 6): width}}
        assert bot_onnx.resize(source, spec, out, force=True).report.passed
        theirs = transplant(analysis_of(out), analysis_of(save(scanning(hidden, width), tmp_path, "native.onnx")))
        assert largest_difference(out, theirs, rank=3) <= TOLERANCE


def carrying(hidden: int = 8) -> onnx.ModelProto:
    """A Loop that hands its weights round, as some exporters write a scan."""
    b = GraphBuilder()
    start, weight = linear(b, "x", 4, hidden), b.weight(hidden, hidden)
    body = Body(b)
    after = body.op("Tanh", body.op("Add", body.op("MatMul", "state", "held"), "state"))
    graph = body.graph(
        [("going", onnx.TensorProto.BOOL), (body.op("Identity", "held"), FLOAT), (after, FLOAT)],
        [
            ("turn", onnx.TensorProto.INT64, 0),
            ("going", onnx.TensorProto.BOOL, 0),
            ("held", FLOAT, 2),
            ("state", FLOAT, 2),
        ],
    )
    made = b.op("Loop", b.constant(np.int64(3)), "", weight, start, outputs=2, body=graph)
    return b.model([("x", ["batch", 4])], [linear(b, f"{made}.1", hidden, 3)])


def test_weights_that_a_loop_hands_round_are_weights(tmp_path: Path) -> None:
    source = save(carrying(), tmp_path)
    kinds = {stack.shape: stack.kind for stack in analysis_of(source).structure.stacks}
    assert kinds[(8, 8)] == "matrix"
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"dims": {named(source, 8): 16}}, out)
    assert largest_difference(out, source) <= TOLERANCE
    (loop,) = (node for node in onnx.load(out).graph.node if node.op_type == "Loop")
    assert (len(loop.input), len(loop.output)) == (3, 1)


@pytest.mark.parametrize("make", [branching, looping, scanning, carrying])
def test_identity_rebuild(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    source = save(make(), tmp_path)
    out = tmp_path / "same.onnx"
    dims = analysis_of(source).structure.dims.values()
    some = next(d for d in dims if d.kind == "leaf" and d.frozen is None)
    assert not bot_onnx.resize(source, {"dims": {some.name: some.size}}, out).plan.constants
    assert largest_difference(out, source, rank=3 if make is scanning else 2) <= 1e-6


def with_blocked_branch(hidden: int = 8) -> onnx.ModelProto:
    """After the layers a branch that no usual input can take: it squeezes the batch."""
    b = GraphBuilder()
    x = linear(b, "x", 4, hidden)
    for _ in range(3):
        x = b.op("Add", x, linear(b, b.op("Relu", linear(b, x, hidden, 12)), 12, hidden))
    single = b.op("Equal", b.op("Gather", b.op("Shape", x), b.constant(np.int64(0))), b.constant(np.int64(1)))
    then, other = Body(b), Body(b)
    row = then.op("Squeeze", x, b.ints(0))
    kept = then.op("Unsqueeze", then.op("Add", row, then.weight(hidden)), b.ints(0))
    made = b.op(
        "If", single,
        then_branch=then.graph([(kept, FLOAT)]), else_branch=other.graph([(other.op("Neg", x), FLOAT)]),
    )  # fmt: skip
    return b.model([("x", ["batch", 4])], [linear(b, made, hidden, 3)])


def test_a_branch_that_cannot_be_run_freezes_by_name(tmp_path: Path) -> None:
    source = save(with_blocked_branch(), tmp_path)
    with pytest.raises(DimError, match="stands in a branch that could not be run"):
        bot_onnx.resize(source, {"hidden": 16}, tmp_path / "out.onnx")
    out = tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"layers": 2, "intermediate": 6}, out).report.passed
    for batch in (1, 4):
        assert outputs(out, x=np.ones((batch, 4), np.float32))[0].shape == (batch, 3)


def test_names_that_branches_share_are_told_apart(tmp_path: Path) -> None:
    """Two branches may use the same names for different things."""
    model = branching(layers=1)
    node = next(node for node in model.graph.node if node.op_type == "If")
    for body in (attribute.g for attribute in node.attribute):
        names = {name for inner in body.node for name in inner.output} | {t.name for t in body.initializer}
        number = {name: f"same{i}" for i, name in enumerate(sorted(names))}
        for inner in body.node:
            inner.input[:] = [number.get(name, name) for name in inner.input]
            inner.output[:] = [number.get(name, name) for name in inner.output]
        for tensor in body.initializer:
            tensor.name = number[tensor.name]
        body.output[0].name = number[body.output[0].name]
    source = save(model, tmp_path)
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, {"dims": {named(source, 8): 16}}, out)
    assert largest_difference(out, source) <= TOLERANCE


def sequencing(mapped: bool) -> onnx.ModelProto:
    """After the layers, halves of the hidden axis pass through a sequence of tensors."""
    b = GraphBuilder()
    x = linear(b, "x", 4, 8)
    for _ in range(3):
        x = b.op("Add", x, linear(b, b.op("Relu", linear(b, x, 8, 12)), 12, 8))
    pieces = b.op("SplitToSequence", x, b.constant(np.int64(4)), axis=1)
    if mapped:
        body = Body(b)
        graph = body.graph([(body.op("Add", "item", body.op("ReduceMean", x, axes=[1])), FLOAT)], [("item", FLOAT, 2)])
        pieces = b.op("SequenceMap", pieces, body=graph)
    first, second = (b.op("SequenceAt", pieces, b.constant(np.int64(index))) for index in (0, 1))
    return b.model([("x", ["batch", 4])], [linear(b, b.op("Mul", first, second), 4, 3)])


@pytest.mark.parametrize("mapped", [False, True])
def test_sequences_of_tensors_freeze_by_name_what_goes_into_them(mapped: bool, tmp_path: Path) -> None:
    """What the body of an op that is not followed captures from around it is not lost sight of either."""
    source = save(sequencing(mapped), tmp_path)
    out = tmp_path / "out.onnx"
    with pytest.raises(DimError, match=r"SplitToSequence .* handles a sequence of tensors"):
        bot_onnx.resize(source, {"hidden": 16}, out)
    assert bot_onnx.resize(source, {"layers": 2, "intermediate": 6}, out).report.passed
