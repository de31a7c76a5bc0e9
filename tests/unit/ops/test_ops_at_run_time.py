"""Records against what onnxruntime computes: each op run alone, on few numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from bot_onnx._ops import IN_ORDER, IN_PLACE, MICROSOFT, ONE_TO_ONE, Axes, Calc, Move, Op, records

Array = NDArray[Any]
OPSET = {"": 21, MICROSOFT: 1}
RUNTIME = pytest.importorskip("onnxruntime")
_OTHERWISE = Move.UNPACKED | Move.PADDED | Move.RESIZED | Move.SHUFFLED
#: What an op needs besides its data: further inputs, attributes.
FURTHER: dict[str, list[Array]] = {
    "Reshape": [np.array([3, 2])], "Unsqueeze": [np.array([0])], "Squeeze": [np.array([0])],
    "Slice": [np.array([0]), np.array([1])], "Gather": [np.array([1, 0, 1])], "Expand": [np.array([2, 2, 3])],
    "Tile": [np.array([2, 1])], "Compress": [np.array([True, False])], "CastLike": [np.array(0)],
    "GatherND": [np.array([[1], [0]])], "GatherElements": [np.array([[1, 0, 1]])],
    "ExpandDims": [np.array(0, np.int32)],
}  # fmt: skip
ATTRIBUTES: dict[str, dict[str, Any]] = {"Cast": {"to": onnx.TensorProto.DOUBLE}}


def run(op: Op, inputs: list[Array], **attributes: object) -> list[Array]:
    """Results of one node; skipped where this build of onnxruntime has no kernel for it."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op.name, names, ["y"], domain=op.domain, **attributes)
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph([node], "one", given, [onnx.ValueInfoProto(name="y")])
    imports = [helper.make_opsetid(domain, version) for domain, version in OPSET.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    try:
        session = RUNTIME.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no public base class
        pytest.skip(f"not in this onnxruntime: {error}")
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


def apply(op: Op, *numbers: float) -> Array:
    result: Array = run(op, [np.array(numbers, np.float32)])[0]
    return result


def chosen(wanted: Any) -> list[Any]:
    return [pytest.param(op, id=op.key) for op in records() if wanted(op)]


@pytest.mark.parametrize("op", chosen(lambda op: op.function is not None and op.unary))
def test_functions_of_zero(op: Op) -> None:
    assert op.function is not None
    at_zero, below, above = apply(op, 0.0, -1e-3, 1e-3)
    if not op.function.zero:
        assert at_zero != 0 or op.name in ("Log", "Shrink")
        return
    assert at_zero == 0
    steep = 1e-5 < abs(above) < 0.1 and abs(below) > 1e-6 and np.sign(above) != np.sign(below)
    assert steep == op.function.slope


@pytest.mark.parametrize("op", chosen(lambda op: op.bounded and op.function is not None))
def test_bounded_functions(op: Op) -> None:
    far = apply(op, -1e4, -10.0, 0.0, 10.0, 1e4)
    assert np.all(np.abs(far) <= np.pi / 2)


NUMBERS = (-10.0, -0.7, -0.1, 0.1, 0.7, 10.0)


@pytest.mark.parametrize("op", chosen(lambda op: op.positive and op.axes is not None))
def test_results_that_are_never_negative(op: Op) -> None:
    assert not np.any(apply(op, *NUMBERS) < 0)


@pytest.mark.parametrize("op", chosen(lambda op: op.function is not None and op.unary and not op.positive))
def test_results_that_may_be_negative(op: Op) -> None:
    assert np.any(apply(op, *NUMBERS) < 0) or op.name == "ThresholdedRelu"  # as its attribute says


@pytest.mark.parametrize("op", chosen(lambda op: op.commutative and op.calc not in (Calc.LOGIC, None)))
def test_operands_that_may_change_places(op: Op) -> None:
    left, right = np.array([1.0, -2.0, 3.0], np.float32), np.array([4.0, 5.0, -6.0], np.float32)
    np.testing.assert_array_equal(run(op, [left, right])[0], run(op, [right, left])[0])


@pytest.mark.parametrize("op", chosen(lambda op: op.calc in (Calc.DIFFERENCE, Calc.QUOTIENT, Calc.POWER, Calc.ORDER)))
def test_operands_that_may_not(op: Op) -> None:
    left, right = np.array([1.0, 2.0, 3.0], np.float32), np.array([4.0, 5.0, 6.0], np.float32)
    assert not op.commutative
    assert np.any(run(op, [left, right])[0] != run(op, [right, left])[0])


@pytest.mark.parametrize("op", chosen(lambda op: op.reduction is not None and op.axes is Axes.REDUCED))
def test_reductions_that_count(op: Op) -> None:
    assert op.reduction is not None
    few, many = (run(op, [np.full((1, size), 2.0, np.float32)])[0] for size in (2, 8))
    assert (few.item() != many.item()) == op.reduction.counts


@pytest.mark.parametrize("op", chosen(lambda op: op.moves and not op.variadic and op.data == (0,)))
def test_moves(op: Op) -> None:
    if op.moves & _OTHERWISE or op.name in ("Split", "BitmaskDropout"):
        pytest.skip("needs more than a few numbers")
    data = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    data = data[None] if op.name == "Squeeze" else data
    result = run(op, [data, *FURTHER.get(op.name, [])], **ATTRIBUTES.get(op.name, {}))[0].astype(np.float64)
    assert set(result.reshape(-1)) <= set(data.reshape(-1))
    if op.moves in ONE_TO_ONE:
        assert sorted(result.reshape(-1)) == sorted(data.reshape(-1))
    if op.moves in IN_ORDER:
        assert result.reshape(-1).tolist() == data.reshape(-1).tolist()
    assert result.shape == data.shape or op.moves not in IN_PLACE


@pytest.mark.parametrize("op", chosen(lambda op: op.whole is not None and op.name != "Where"))
def test_whole_numbers(op: Op) -> None:
    assert op.whole is not None
    logic = op.calc is Calc.LOGIC
    numbers = (0, 1) if logic else (-7, -1, 0, 2, 3)
    for left in numbers:
        for right in numbers:
            operands = (left,) if op.unary else (left, right)
            if op.calc in (Calc.QUOTIENT, Calc.REMAINDER) and right == 0:
                continue
            arrays = [np.array([number], bool if logic else np.int64) for number in operands]
            assert int(run(op, arrays)[0].item()) == op.whole(*operands), operands
