"""Packed weights in floating point are what onnxruntime's own op makes of them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from bot_onnx._canonical.decompose.packed import dequantised, unpacked_blocks, unpacked_table
from bot_onnx._runs.runtime import session

Array = NDArray[Any]
RNG = np.random.default_rng(0)


def run(
    op: str, constants: list[Array | None], feed: Array | None = None, *, domain: str = "", **attributes: Any
) -> Array:
    """Result of one op whose inputs are constants, the first one fed if ``feed`` is given."""
    names = ["" if c is None else f"c{i}" for i, c in enumerate(constants)]
    tensors = [ir.to_proto(ir.Tensor(c, name=n)) for c, n in zip(constants, names, strict=True) if c is not None]
    inputs = []
    if feed is not None:
        names.insert(0, "x")
        inputs = [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(feed.dtype), feed.shape)]
    node = helper.make_node(op, names, ["y"], domain=domain, **attributes)
    graph = helper.make_graph([node], "one", inputs, [helper.make_empty_tensor_value_info("y")], tensors)
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return np.asarray(session(model.SerializeToString()).run(None, {} if feed is None else {"x": feed})[0])


def scales(*shape: int) -> Array:
    return RNG.uniform(0.01, 0.1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "shape", "axis", "block"),
    [
        (np.int8, (), 0, 0),
        (np.uint8, (6,), 0, 0),
        (np.int8, (10,), 1, 0),
        (np.int8, (6, 3), 1, 4),
        (np.uint8, (2, 10), 0, 3),
        (ml_dtypes.int4, (6, 3), 1, 4),
        (ml_dtypes.uint4, (), 0, 0),
    ],
)
@pytest.mark.parametrize("shifted", [False, True])
def test_dequantize_linear(dtype: Any, shape: tuple[int, ...], axis: int, block: int, shifted: bool) -> None:
    low = 0 if np.dtype(dtype).name.startswith("u") else -7
    stored = RNG.integers(low, 8, (6, 10)).astype(dtype)
    scale = scales(*shape)
    zero = RNG.integers(low, 8, shape).astype(dtype) if shifted else None
    wanted = run("DequantizeLinear", [stored, scale, zero], axis=axis, block_size=block)
    tensors = [None if array is None else ir.Tensor(np.asarray(array)) for array in (stored, scale, zero)]
    assert tensors[0] is not None and tensors[1] is not None
    np.testing.assert_array_equal(dequantised(tensors[0], tensors[1], tensors[2], axis, block).numpy(), wanted)


@pytest.mark.parametrize(
    ("bits", "zero"),
    [(2, "middle"), (4, "middle"), (8, "middle"), (2, "packed"), (4, "packed"), (8, "packed"), (4, "floats")],
)
def test_matmul_in_blocks(bits: int, zero: str) -> None:
    """K = 40 is no multiple of the block, N = 3."""
    rows, columns, block = 40, 3, 16
    blocks = -(-rows // block)
    stored = RNG.integers(0, 256, (columns, blocks, block * bits // 8)).astype(np.uint8)
    scale = scales(columns, blocks)
    zeros = {
        "middle": None,
        "packed": RNG.integers(0, 256, (columns, -(-blocks * bits // 8))).astype(np.uint8),
        "floats": RNG.uniform(0, 1 << bits, (columns, blocks)).astype(np.float32),
    }[zero]
    wanted = run(
        "MatMulNBits",
        [stored, scale, zeros],
        np.eye(rows, dtype=np.float32),
        domain="com.microsoft",
        K=rows,
        N=columns,
        bits=bits,
        block_size=block,
    )
    packed = None if zeros is None else ir.Tensor(zeros)
    ours = unpacked_blocks(ir.Tensor(stored), ir.Tensor(scale), packed, None, (rows, columns), bits, block)
    np.testing.assert_allclose(ours.numpy(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_gather_in_blocks(packed: bool, shifted: bool) -> None:
    table = RNG.integers(0, 16, (5, 64)).astype(np.uint8)
    zeros = RNG.integers(0, 16, (5, 4)).astype(np.uint8)

    def written(array: Array) -> Array:
        joined = array[:, ::2] | (array[:, 1::2] << 4)
        return np.asarray(joined if packed else array.astype(ml_dtypes.uint4))

    scale = scales(5, 4)
    parts = [written(table), np.arange(5), scale, written(zeros) if shifted else None]
    attributes = {"block_size": 16, "gather_axis": 0, "quantize_axis": 1}
    wanted = run("GatherBlockQuantized", parts, domain="com.microsoft", **attributes)
    zero = None if parts[3] is None else ir.Tensor(parts[3])
    ours = unpacked_table(ir.Tensor(parts[0]), ir.Tensor(scale), zero, 1, 4, 16)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.numpy(), wanted, rtol=1e-6, atol=1e-6)
