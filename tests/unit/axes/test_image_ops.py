"""Ops on images: what follows a width (groups, blocks, sizes of Resize), what stays, and that growing keeps outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._reasons import Why
from bot_onnx._surgery.types import Plan
from bot_onnx.errors import SpecError
from tests.graphs import GraphBuilder, save
from tests.system.oracle.compare import distance, run_at_two_sizes

IMAGE = ("x", ["batch", 3, 8, 8])


def conv(b: GraphBuilder, x: str, source: int, target: int, kernel: int = 1, group: int = 1) -> str:
    """A convolution with bias; the image keeps its size."""
    weight = b.weight(target, source // group, kernel, kernel)
    return b.op("Conv", x, weight, b.weight(target), group=group, pads=[kernel // 2] * 4)


def finish(b: GraphBuilder, x: str, channels: int, opset: int = 17) -> onnx.ModelProto:
    """A last convolution to two channels."""
    return b.model([IMAGE], [conv(b, x, channels, 2)], opset=opset, rank=4)


def at_width(model: onnx.ModelProto, width: float, folder: Path, **options: object) -> tuple[onnx.ModelProto, Plan]:
    """The model resized, and the plan."""
    out = folder / "out.onnx"
    result = bot_onnx.resize(save(model, folder), {"width": width}, out, force=True, **options)  # type: ignore[arg-type]
    return onnx.load(out), result.plan


def keeps_its_function(model: onnx.ModelProto, folder: Path) -> Plan:
    """Twice as wide, the outputs are the same; returns the plan."""
    wide, plan = at_width(model, 2.0, folder, method="net2net")
    assert distance(run_at_two_sizes(wide), run_at_two_sizes(model)) <= 1e-5
    assert plan.parameters[1] > 1.5 * plan.parameters[0]
    return plan


def attribute(model: onnx.ModelProto, op: str, name: str) -> int:
    """An integer attribute of the only node of this op that has it."""
    found = [a.i for node in model.graph.node if node.op_type == op for a in node.attribute if a.name == name]
    return max(found)


def grouped(groups: int, per_group: int) -> onnx.ModelProto:
    """A grouped convolution between two plain ones."""
    b, channels = GraphBuilder(), groups * per_group
    x = b.op("Relu", conv(b, "x", 3, channels))
    return finish(b, b.op("Relu", conv(b, x, channels, channels, 3, group=groups)), channels)


@pytest.mark.parametrize(
    ("groups", "per_group", "width", "expected"),
    [(8, 4, 0.5, (4, 4)), (8, 4, 0.75, (6, 4)), (2, 8, 0.75, (2, 6)), (12, 1, 0.5, (6, 1)), (4, 4, 2.0, (8, 4))],
)
def test_groups_follow_where_they_stay_whole(
    groups: int, per_group: int, width: float, expected: tuple[int, int], tmp_path: Path
) -> None:
    """Groups are scaled like heads; where that gives no whole number, the channels of each are."""
    resized, _ = at_width(grouped(groups, per_group), width, tmp_path)
    weight = next(t for t in resized.graph.initializer if len(t.dims) == 4 and t.dims[2] == 3)
    assert (attribute(resized, "Conv", "group"), weight.dims[1]) == expected
    keeps_its_function(grouped(groups, per_group), tmp_path)


@pytest.mark.parametrize(("group", "source", "target"), [(8, 8, 1), (8, 8, 2), (2, 4, 3)])
def test_grouped_transposed_convolution(group: int, source: int, target: int, tmp_path: Path) -> None:
    """Depthwise, with a multiplier, and in groups; ``target`` is per group."""
    b = GraphBuilder()
    source = source if group == source else group * source
    x = b.op("Relu", conv(b, "x", 3, source))
    up = b.op("ConvTranspose", x, b.weight(source, target, 2, 2), b.weight(group * target), group=group, strides=[2, 2])
    keeps_its_function(finish(b, b.op("Relu", up), group * target), tmp_path)


def test_groups_of_a_norm_are_a_count(tmp_path: Path) -> None:
    b = GraphBuilder()
    norm = b.op("GroupNormalization", conv(b, "x", 3, 16), b.weight(16), b.weight(16), num_groups=4)
    model = finish(b, b.op("Relu", norm), 16, opset=21)
    keeps_its_function(model, tmp_path)
    small, _ = at_width(model, 0.5, tmp_path)
    assert attribute(small, "GroupNormalization", "num_groups") == 4
    assert next(t for t in small.graph.initializer if list(t.dims[1:]) == [3, 1, 1]).dims[0] == 8


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str, tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("DepthToSpace", conv(b, "x", 3, 24), blocksize=2, mode=mode)
    plan = keeps_its_function(finish(b, b.op("Relu", x), 6), tmp_path)
    assert {(change.source, change.target) for change in plan.dims if change.kind == "product"} == {(24, 48)}


def test_space_to_depth(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("SpaceToDepth", b.op("Relu", conv(b, "x", 3, 6)), blocksize=2)
    keeps_its_function(finish(b, x, 24), tmp_path)


def test_resize_names_its_channels(tmp_path: Path) -> None:
    """``sizes`` holds all axes, channels among them; ``scales`` is no weight."""
    b = GraphBuilder()
    x = b.op("Relu", conv(b, "x", 3, 6))
    batch = b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1))
    sized = b.op("Resize", x, "", "", b.op("Concat", batch, b.ints(6, 16, 16), axis=0), mode="nearest")
    scaled = b.op("Resize", x, "", b.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    keeps_its_function(finish(b, b.op("Add", sized, scaled), 6), tmp_path)


def batch_norm() -> onnx.ModelProto:
    """A convolution with its statistics, not folded into it; a few of the variances are tiny."""
    b = GraphBuilder()
    x = conv(b, "x", 3, 16)
    variance = np.where(np.arange(16) % 4 == 1, 3.0, 1e-3).astype(np.float32)
    norm = b.op("BatchNormalization", x, b.weight(16), b.weight(16), b.weight(16), b.constant(variance, "variance"))
    return finish(b, b.op("Relu", norm), 16)


def test_batch_statistics_follow(tmp_path: Path) -> None:
    keeps_its_function(batch_norm(), tmp_path)


def test_variances_stay_positive(tmp_path: Path) -> None:
    """Long filters have negative weights; a variance below zero would make everything NaN."""
    model = batch_norm()
    small, _ = at_width(model, 0.5, tmp_path, options={"wavelet": "db4"})
    variance = onnx.numpy_helper.to_array(next(t for t in small.graph.initializer if t.name == "variance"))
    assert variance.shape == (8,) and variance.min() >= 1e-3
    assert all(np.isfinite(value).all() for run in run_at_two_sizes(small) for value in run)


def shuffled(branch: int = 5) -> onnx.ModelProto:
    """Two blocks of ShuffleNet: half of the channels goes by, then the halves are interleaved."""
    b = GraphBuilder()
    x = b.op("Relu", conv(b, "x", 3, 2 * branch))
    for _ in range(2):
        low = b.op("Slice", x, b.ints(0), b.ints(branch), b.ints(1))
        high = b.op("Slice", x, b.ints(branch), b.ints(2 * branch), b.ints(1))
        x = b.op("Concat", low, b.op("Relu", conv(b, high, branch, branch)), axis=1)
        pairs = b.op("Transpose", b.op("Reshape", x, b.ints(0, 2, branch, 8, 8)), perm=[0, 2, 1, 3, 4])
        x = b.op("Reshape", pairs, b.ints(0, 2 * branch, 8, 8))
    return finish(b, x, 2 * branch)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_shuffled_channels_change_size_together(width: float, tmp_path: Path) -> None:
    """An odd half cannot be followed index by index through the second block, but its size can."""
    resized, plan = at_width(shuffled(), width, tmp_path)
    half = {0.5: 3, 2.0: 10}[width]
    channels = [list(t.dims) for t in resized.graph.initializer if list(t.dims[2:]) == [1, 1]]
    assert channels == [[2 * half, 3, 1, 1], [half, half, 1, 1], [half, half, 1, 1], [2, 2 * half, 1, 1]]
    assert any("shuffled" in note for note in plan.notes)


def test_what_a_reshape_regroups_is_frozen_and_no_more(tmp_path: Path) -> None:
    """A cyclic shift breaks the order of rows, so windows of rows cannot be followed; channels can."""
    b = GraphBuilder()
    x = conv(b, "x", 3, 6)
    tail, head = (b.op("Slice", x, b.ints(*at), b.ints(*to), b.ints(2)) for at, to in (((3,), (8,)), ((0,), (3,))))
    windows = b.op("Reshape", b.op("Concat", tail, head, axis=2), b.ints(0, 6, 2, 4, 8))
    merged = b.op("Reshape", b.op("Relu", windows), b.ints(0, 6, 8, 8))
    keeps_its_function(finish(b, merged, 6), tmp_path)


def test_stages_keep_their_number(tmp_path: Path) -> None:
    """Equal blocks that halve the image are no layers: another number of them makes another image."""
    b = GraphBuilder()
    x = conv(b, "x", 3, 4)
    for _ in range(3):
        weight = b.weight(4, 4, 2, 2)
        x = b.op("Relu", b.op("Conv", x, weight, strides=[2, 2]))
    source = save(finish(b, x, 4), tmp_path)
    (chain,) = bot_onnx.inspect(source).structure.chains
    assert chain.count > 1 and chain.resizable is not None and chain.resizable.kind is Why.STAGES
    with pytest.raises(SpecError, match=f"keeps its {chain.count} layers.*change the shape"):
        bot_onnx.resize(source, {"layers": 1}, tmp_path / "out.onnx")


def test_padded_channels_keep_their_padding(tmp_path: Path) -> None:
    """A fixed number of channels before and after: the padded axis is their sum, and may be cut at the seams."""
    b = GraphBuilder()
    x = b.op("Relu", conv(b, "x", 3, 6))
    pads = b.ints(0, 1, 0, 0, 0, 2, 0, 0)
    padded = b.op("Pad", x, pads, b.constant(np.array(1.0, np.float32)))
    inner = b.op("Slice", padded, b.ints(1), b.ints(7), b.ints(1))
    plan = keeps_its_function(finish(b, b.op("Add", conv(b, padded, 9, 6), inner), 6), tmp_path)
    assert {(c.source, c.target) for c in plan.dims if c.kind == "concat"} == {(9, 15)}


@pytest.mark.parametrize(("stop", "opset"), [(12, 17), (20, 17), (12, 9)])
def test_a_slice_up_to_the_end_stays_one(stop: int, opset: int, tmp_path: Path) -> None:
    """The bound of a slice that takes all of an axis follows it, as does one beyond its end."""
    b = GraphBuilder()
    x = b.op("Relu", conv(b, "x", 3, 12))
    if opset < 10:
        x = b.op("Slice", x, starts=[0], ends=[stop], axes=[1])
    else:
        x = b.op("Slice", x, b.ints(0), b.ints(stop), b.ints(1))
    model = finish(b, x, 12, opset=opset)
    keeps_its_function(model, tmp_path)
    small, _ = at_width(model, 0.5, tmp_path)
    assert next(t for t in small.graph.initializer if list(t.dims[1:]) == [3, 1, 1]).dims[0] == 6


def test_large_index_tables_stay_as_they_are(tmp_path: Path) -> None:
    """Relative positions of a window of 7 x 7 are 2401 indices: no weight, but long enough to be read from the file."""
    b = GraphBuilder()
    x = conv(b, "x", 3, 6)
    rows = b.constant(np.arange(49 * 49).reshape(49, 49) % 169)
    bias = b.op("Gather", b.weight(169, 6), rows)
    mean = b.op("ReduceMean", b.op("Transpose", bias, perm=[2, 0, 1]), axes=[1, 2])
    x = b.op("Add", x, b.op("Reshape", mean, b.ints(1, 6, 1, 1)))
    keeps_its_function(finish(b, b.op("Relu", x), 6), tmp_path)


def test_round_to_counts_channels_in_whole_groups(tmp_path: Path) -> None:
    """3 of 8 groups would be 12 channels; 16 is the nearest multiple of 8."""
    out = tmp_path / "out.onnx"
    bot_onnx.resize(save(grouped(8, 4), tmp_path), {"width": 0.375, "round_to": 8}, out)
    resized = onnx.load(out)
    kernel = next(t for t in resized.graph.initializer if len(t.dims) == 4 and t.dims[2] == 3)
    assert list(kernel.dims[:2]) == [16, 4] and attribute(resized, "Conv", "group") == 4


def test_computed_indices_into_flattened_channels_freeze_them(tmp_path: Path) -> None:
    """A strided view is written as row x 6 + channel: numbers that nothing ties to the channels, so these stay."""
    b = GraphBuilder()
    x = b.op("GlobalAveragePool", b.op("Relu", conv(b, conv(b, "x", 3, 12), 12, 6)))
    flat = b.op("Reshape", x, b.ints(-1))
    batch = b.op("Squeeze", b.op("Slice", b.op("Shape", x), b.ints(0), b.ints(1)), b.ints(0))
    rows = b.op("Range", b.constant(np.array(0)), batch, b.constant(np.array(1)))
    starts = b.op("Unsqueeze", b.op("Mul", rows, b.constant(np.array(6))), b.ints(1, 2, 3))
    picked = b.op("Gather", flat, b.op("Add", starts, b.constant(np.arange(6).reshape(1, 6, 1, 1))), axis=0)
    model = finish(b, picked, 6)
    wide, plan = at_width(model, 2.0, tmp_path, method="net2net")
    assert {(c.source, c.target) for c in plan.dims if c.source in (6, 12)} == {(6, 6), (12, 24)}
    assert distance(run_at_two_sizes(wide), run_at_two_sizes(model)) <= 1e-5
