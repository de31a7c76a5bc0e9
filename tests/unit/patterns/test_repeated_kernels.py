"""A grouped kernel that holds one block for every group is no trained weight: its groups change, its block never."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bot_onnx
from bot_onnx._patterns.closed_forms import recompute
from bot_onnx._reasons import Why
from bot_onnx._structure import Structure
from tests.graphs import GraphBuilder, save

BLUR = (np.outer([1, 2, 1], [1, 2, 1]) / 16).astype(np.float32)[None, None]
TAPS = np.eye(9, dtype=np.float32).reshape(9, 1, 3, 3)


def structure(kernel: NDArray[np.float32], folder: Path) -> Structure:
    """Of a network of 8 channels, each of which a kernel looks at by itself."""
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "x", b.weight(8, 3, 1, 1)))
    y = b.op("Conv", x, b.constant(kernel, "kernel"), group=8, pads=[1, 1, 1, 1])
    out = b.op("Conv", y, b.weight(4, len(kernel), 1, 1))
    return bot_onnx.inspect(save(b.model([("x", ["batch", 3, 6, 6])], [out], rank=4), folder)).structure


@pytest.mark.parametrize("block", [BLUR, TAPS])
def test_the_block_is_repeated_and_what_it_counts_stays(block: NDArray[np.float32], tmp_path: Path) -> None:
    found = structure(np.tile(block, (8, 1, 1, 1)), tmp_path)
    stack = next(stack for stack in found.stacks if stack.tensors == ("kernel",))
    assert stack.closed_form == f"repeated:{len(block)}"
    groups = next(dim for dim in found.dims.values() if dim.size == 8)
    assert groups.frozen is None
    taps = [dim for dim in found.dims.values() if dim.size == len(block) > 1]
    assert all(dim.frozen is not None and dim.frozen.kind is Why.CONSTANT for dim in taps)
    assert len(taps) == (len(block) > 1)


def test_one_number_that_differs_shows_a_trained_kernel(tmp_path: Path) -> None:
    kernel = np.tile(BLUR, (8, 1, 1, 1))
    kernel[7, 0, 2, 2] += 1e-6
    stack = next(stack for stack in structure(kernel, tmp_path).stacks if stack.tensors == ("kernel",))
    assert stack.closed_form is None


def test_zeros_are_a_branch_that_training_begins_with(tmp_path: Path) -> None:
    found = structure(np.zeros((16, 1, 3, 3), np.float32), tmp_path)
    stack = next(stack for stack in found.stacks if stack.tensors == ("kernel",))
    assert stack.closed_form is None
    assert not any(dim.frozen and dim.frozen.kind is Why.CONSTANT for dim in found.dims.values())


@pytest.mark.parametrize("turned", [False, True])
def test_layers_that_each_have_a_filter_of_their_own_keep_their_number(turned: bool, tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("Conv", "x", b.weight(8, 3, 1, 1))
    slope = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32)[None, None]
    for layer in range(4):
        block = slope.swapaxes(2, 3) if turned and layer % 2 else slope
        edges = b.op("Conv", x, b.constant(np.tile(block, (8, 1, 1, 1))), group=8, pads=[1, 1, 1, 1])
        x = b.op("Add", x, b.op("Conv", b.op("Relu", edges), b.weight(8, 8, 1, 1)))
    out = b.op("Conv", x, b.weight(4, 8, 1, 1))
    source = save(b.model([("x", ["batch", 3, 6, 6])], [out], rank=4), tmp_path)
    (chain,) = bot_onnx.inspect(source).structure.chains
    assert (chain.resizable is None) != turned
    if not turned:
        plan = bot_onnx.resize(source, {"layers": 2, "width": 0.5}, tmp_path / "out.onnx").plan
        kernel = next(stack for stack in plan.stacks if stack.closed_form)
        assert len(kernel.targets) == 2 and kernel.task.target_shape == (4, 1, 3, 3)


def test_it_is_made_of_the_rows_it_holds() -> None:
    kernel = np.tile(TAPS, (8, 1, 1, 1))
    for groups in (3, 11):
        made = recompute("repeated:9", (9 * groups, 1, 3, 3), np.dtype(np.float32), lambda: kernel)
        assert np.array_equal(made, np.tile(TAPS, (groups, 1, 1, 1)))
