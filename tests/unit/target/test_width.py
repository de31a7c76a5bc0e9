"""``width``: products and joins come out at its ratio, or it is said which do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

import bot_onnx
from bot_onnx._reasons import Why
from bot_onnx._structure import Structure
from bot_onnx._target import TargetSpec, solve
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, save
from tests.spec_structures import bert, structure

IMAGE = ("x", ["batch", 3, 8, 8])


def sizes(source: Structure, **keys: Any) -> dict[str, int]:
    solution = solve(source, TargetSpec(**keys))
    return {dim.name: solution.sizes[dim.id] for dim in source.dims.values()}


def notes(source: Structure, width: float) -> str:
    return "\n".join(solve(source, TargetSpec(width=width)).notes)


def cut(piece: int, rest: int, frozen: bool = False) -> Structure:
    """A channel axis of which a piece is sliced off; no weight has either part alone."""
    made = structure(
        [("piece", "free", piece), ("rest", "free", rest), ("all", "free", "concat", ["piece", "rest"])],
        frozen={"piece": Why.SLICE_ELEMENT} if frozen else None,
    )
    whole = {ident: dim if dim.parts else replace(dim, occurrences=()) for ident, dim in made.dims.items()}
    return replace(made, dims=whole)


def shuffled(groups: int, channels: int) -> onnx.ModelProto:
    """A grouped convolution whose channels are shuffled, and added to what it read."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "x", b.weight(channels, 3, 1, 1), b.weight(channels)))
    y = b.op("Conv", x, b.weight(channels, channels // groups, 1, 1), b.weight(channels), group=groups)
    apart = b.op("Reshape", b.op("Relu", y), b.ints(0, groups, channels // groups, 8, 8))
    y = b.op("Reshape", b.op("Transpose", apart, perm=[0, 2, 1, 3, 4]), b.ints(0, channels, 8, 8))
    y = b.op("Conv", y, b.weight(channels, 1, 3, 3), b.weight(channels), group=channels, pads=[1] * 4)
    return b.model([IMAGE], [b.op("Conv", b.op("Add", x, y), b.weight(5, channels, 1, 1))], rank=4)


def split_attention() -> onnx.ModelProto:
    """Two branches of eight channels each, made by a convolution of two groups, weighed and summed."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "x", b.weight(8, 3, 1, 1), b.weight(8)))
    y = b.op("Relu", b.op("Conv", x, b.weight(16, 4, 3, 3), b.weight(16), group=2, pads=[1] * 4))
    apart = b.op("Reshape", y, b.ints(0, 2, 8, 8, 8))
    seen = b.op("GlobalAveragePool", b.op("ReduceSum", apart, b.ints(1), keepdims=0))
    weights = b.op("Conv", b.op("Relu", b.op("Conv", seen, b.weight(4, 8, 1, 1))), b.weight(16, 4, 1, 1))
    shares = b.op("Softmax", b.op("Reshape", weights, b.ints(0, 2, 8, 1, 1)), axis=1)
    summed = b.op("ReduceSum", b.op("Mul", apart, shares), b.ints(1), keepdims=0)
    return b.model([IMAGE], [b.op("Conv", summed, b.weight(5, 8, 1, 1))], rank=4)


def at_width(model: onnx.ModelProto, width: float, folder: Path) -> onnx.ModelProto:
    bot_onnx.resize(save(model, folder), {"width": width}, folder / "out.onnx")
    return onnx.load(folder / "out.onnx")


def kernels(model: onnx.ModelProto) -> list[tuple[int, list[int]]]:
    """Group and shape of the weight of every convolution, in order."""
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    return [
        (next((a.i for a in node.attribute if a.name == "group"), 1), shapes[node.input[1]])
        for node in model.graph.node
        if node.op_type == "Conv"
    ]


@pytest.mark.parametrize(("groups", "channels"), [(2, 16), (3, 36)])
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_shuffled_channels_beside_a_residual_follow_the_width(
    groups: int, channels: int, width: float, tmp_path: Path
) -> None:
    """Groups stand twice in the channels (2 x 4 x 2), so what stands there once takes up the change."""
    new = int(channels * width)
    found = kernels(at_width(shuffled(groups, channels), width, tmp_path))
    assert found[1:3] == [(groups, [new, new // groups, 1, 1]), (new, [new, 1, 3, 3])]


@pytest.mark.parametrize(("width", "new"), [(0.25, 4), (0.5, 9), (4, 64)])
def test_a_square_of_groups_is_as_near_as_squares_are(width: float, new: int) -> None:
    """Channels that are groups x groups alone: the nearest square, by name where that is not the width's."""
    square = structure([("groups", "conv_groups", 4), ("all", "free", "product", ["groups", "groups"])])
    assert sizes(square, width=width)["all"] == new
    assert ("all 16 -> 9" in notes(square, width)) == (new == 9)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_the_radix_of_a_split_attention_is_a_count(width: float, tmp_path: Path) -> None:
    new = int(8 * width)
    found = kernels(at_width(split_attention(), width, tmp_path))
    assert found[1] == (2, [2 * new, new // 2, 3, 3])
    assert found[-1] == (1, [5, new, 1, 1])


@pytest.mark.parametrize(
    ("source", "width", "expected"),
    [
        (cut(1, 15, frozen=True), 0.5, {"piece": 1, "rest": 7, "all": 8}),
        (cut(1, 15, frozen=True), 2, {"piece": 1, "rest": 31, "all": 32}),
        (cut(3, 13), 0.5, {"piece": 3, "rest": 5, "all": 8}),
        (cut(3, 13), 2, {"piece": 3, "rest": 29, "all": 32}),
        (cut(4, 12), 0.5, {"piece": 2, "rest": 6, "all": 8}),  # a quarter is a share
        (cut(7, 9), 0.5, {"piece": 4, "rest": 4, "all": 8}),
        (cut(3, 13), 0.25, {"piece": 1, "rest": 3, "all": 4}),  # three would leave less than they are
    ],
)
def test_what_is_left_of_a_cut_axis_makes_it_the_width(
    source: Structure, width: float, expected: dict[str, int]
) -> None:
    assert sizes(source, width=width) == expected
    assert "ratio" not in notes(source, width)
    assert ("(d0), a piece of 3 of 16 channels, stays" in notes(source, width)) == (expected["piece"] == 3)


def test_axes_at_another_ratio_are_named() -> None:
    """Channels beside a padding that stays: a weight reads both."""
    padded = structure(
        [("own", "free", 16), ("zeros", "free", 16), ("all", "free", "concat", ["own", "zeros"])],
        frozen={"zeros": Why.PADDED},
    )
    assert sizes(padded, width=0.5)["all"] == 24
    assert "not at the ratio 0.5 of the width, for their parts change otherwise: all 32 -> 24" in notes(padded, 0.5)
    assert "ratio" not in notes(bert(), 0.3)  # 12 heads become 4, which is rounding


def test_a_width_that_changes_nothing_is_refused() -> None:
    small = structure([("a", "free", 2)])
    with pytest.raises(SpecError, match=r"'width': 0\.9 changes no size of this graph.*ask for another width.*a \(2\)"):
        solve(small, TargetSpec(width=0.9))
    assert sizes(small, width=1) == {"a": 2}
    assert sizes(bert(), width=1, layers=6)["hidden"] == 768
