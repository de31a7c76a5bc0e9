"""Norms over groups of joined channels: groups that end within a part, as where U-Nets join a skip."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._axes.dims import DimTable
from bot_onnx._results import Result
from bot_onnx.errors import DimError
from tests.graphs import GraphBuilder, save
from tests.unit.patterns.test_grouped_norms import GROUPS, grouped, outputs

PARTS = (20, 12)  # groups of 8: the third has channels of both
LAYOUTS = ["last", "first", "flat", "instance"]


def joined(layout: str, *, mixed: bool = False) -> onnx.ModelProto:
    """Two convolutions side by side, a norm over groups of both, a convolution; ``mixed``: a product within groups."""
    b = GraphBuilder()
    parts = [b.op("Conv", "x", b.weight(size, 3, 3, 3), pads=[1, 1, 1, 1]) for size in PARTS]
    x, channels = b.op("Concat", *parts, axis=1), sum(PARTS)
    if layout == "op":
        normed = b.op("GroupNormalization", x, b.weight(channels), b.weight(channels), num_groups=GROUPS)
    else:
        normed = grouped(b, x, channels, layout, "divided")
        if mixed:
            turned = b.op("Transpose", x, perm=[0, 2, 3, 1])
            groups = b.op("Reshape", turned, b.ints(0, 8, 8, GROUPS, channels // GROUPS))
            mix = b.op("MatMul", groups, b.weight(channels // GROUPS, channels // GROUPS))
            whole = b.op("Reshape", mix, b.ints(0, 8, 8, channels))
            normed = b.op("Add", normed, b.op("Transpose", whole, perm=[0, 3, 1, 2]))
        normed = b.op("Mul", normed, b.op("Unsqueeze", b.weight(channels), b.ints(1, 2)))
        normed = b.op("Add", normed, b.op("Unsqueeze", b.weight(channels), b.ints(1, 2)))
    made = b.op("Conv", b.op("Relu", normed), b.weight(4, channels, 3, 3), pads=[1, 1, 1, 1])
    return b.model([("x", ["batch", 3, 8, 8])], [made], rank=4, opset=21 if layout == "op" else 17)


def resized(layout: str, spec: dict[str, object], folder: Path) -> tuple[Result, Path]:
    source, out = save(joined(layout), folder, f"{layout}.onnx"), folder / f"{layout}.out.onnx"
    return bot_onnx.resize(source, spec, out), out


@pytest.mark.parametrize("width", [0.5, 2.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_spelling_is_resized_as_one_op_is(layout: str, width: float, tmp_path: Path) -> None:
    found = [outputs(resized(each, {"width": width}, tmp_path)[1]) for each in (layout, "op")]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [*LAYOUTS, "op"])
def test_parts_that_grow_alike_are_proven_to_keep_the_function(layout: str, tmp_path: Path) -> None:
    result, out = resized(layout, {"width": 2.0}, tmp_path)
    assert result.plan.proof.status == "proven" and not result.plan.proof.left_out
    assert result.plan.promise.kept
    np.testing.assert_allclose(outputs(out), outputs(tmp_path / f"{layout}.onnx"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [*LAYOUTS, "op"])
def test_parts_that_change_by_different_ratios_are_told_of(layout: str, tmp_path: Path) -> None:
    """The other part keeps its size: how many channels a group has is what follows."""
    dims = bot_onnx.inspect(save(joined(layout), tmp_path)).structure.dims
    name = next(dim.name for dim in dims.values() if dim.size == PARTS[1])
    result, _ = resized(layout, {"dims": {name: 20}}, tmp_path)
    assert result.report.passed and result.plan.promise.kept is False
    assert result.plan.proof.status == "proven" and "is off by" in result.plan.promise.why
    assert any("change by different ratios" in note for note in result.plan.notes)
    changed = {(change.source, change.target) for change in result.plan.dims if change.source != change.target}
    assert changed == {(PARTS[1], 20), (sum(PARTS), 40), (sum(PARTS) // GROUPS, 10)}


def test_a_size_that_makes_no_whole_groups_is_refused(tmp_path: Path) -> None:
    dims = bot_onnx.inspect(save(joined("flat"), tmp_path)).structure.dims
    name = next(dim.name for dim in dims.values() if dim.size == PARTS[1])
    with pytest.raises(DimError, match="it must be a multiple of 4"):
        resized("flat", {"dims": {name: 13}}, tmp_path)


def test_groups_that_weights_are_read_along_stay(tmp_path: Path) -> None:
    """A product within groups asks which channel is where: the channels keep their number."""
    sizes = {
        dim.size: dim for dim in bot_onnx.inspect(save(joined("last", mixed=True), tmp_path)).structure.dims.values()
    }
    assert all(sizes[size].frozen is not None for size in PARTS)


@pytest.mark.parametrize(("parts", "fast"), [((20, 12), 8), ((6, 3), 3), ((640, 320), 30)])
def test_a_concat_is_dealt_out_and_whole_again(parts: tuple[int, ...], fast: int) -> None:
    table = DimTable()
    leaves = [table.part(size) for size in parts]
    whole = table.concat(leaves)
    dealt = table.deal(whole, (fast, fast))
    assert dealt is not None
    assert prod(table.size(dim)[0] for dim in dealt) == sum(parts) and table.size(dealt[1]) == (fast, fast)
    assert table.product(dealt) == whole and table.leaves(whole) == leaves
    assert table.frozen(dealt[0]) is not None and table.frozen(dealt[1]) is None
    (pair,) = table.dealt
    assert pair[0] == whole and table.leaves(pair[1]) == list(dealt)


def test_only_a_concat_is_dealt_out() -> None:
    table = DimTable()
    leaf, moving = table.part(12), table.leaf((4, 6))
    assert moving is not None
    assert table.deal(leaf, (4, 4)) is None
    assert table.deal(table.concat([leaf, table.part(4)]), (5, 5)) is None
    assert table.deal(table.concat([leaf, moving]), (2, 2)) is None


def averaged(kind: str) -> onnx.ModelProto:
    """Two branches, joined, and a norm or a mean over both."""
    b = GraphBuilder()
    parts = [b.op("Relu", b.op("MatMul", "x", b.weight(5, size))) for size in PARTS]
    x, size = b.op("Concat", *parts, axis=-1), sum(PARTS)
    if kind == "norm":
        x = b.op("LayerNormalization", x, b.weight(size), b.weight(size), axis=-1)
    elif kind == "mean":
        x = b.op("Sub", x, b.op("ReduceMean", x, axes=[-1], keepdims=1))
    else:
        x = b.op("Div", x, b.op("ReduceL2", x, axes=[-1], keepdims=1))
    return b.model([("x", ["batch", 5])], [b.op("MatMul", x, b.weight(size, 3))])


@pytest.mark.parametrize("kind", ["norm", "mean", "length"])
def test_what_is_normalised_as_one_grows_alike(kind: str, tmp_path: Path) -> None:
    source, out = save(averaged(kind), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"width": 2.0}, out)
    assert result.plan.proof.status == "proven" and result.plan.promise.kept
    small = bot_onnx.resize(source, {"width": 0.5}, out, force=True)
    assert small.report.passed and [c.target for c in small.plan.dims if c.source == sum(PARTS)] == [sum(PARTS) // 2]
    uneven = bot_onnx.resize(source, {"dims": {f"dim_{PARTS[0]}": 40}}, out, force=True)
    assert uneven.report.passed and uneven.plan.proof.status == "proven" and uneven.plan.promise.kept is False
    assert any("change by different ratios" in note for note in uneven.plan.notes)
