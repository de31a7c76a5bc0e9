"""Ops as PyTorch computes them here are ops as onnxruntime computes them; what is not known is not guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from bot_onnx._recover.carried import Uncarried
from bot_onnx._recover.carried.registry import _BUILDS, _NUMBERED
from bot_onnx._recover.executor import Executor
from bot_onnx._recover.form import Form
from bot_onnx._recover.trainable import Trainable
from bot_onnx._runs.runtime import session

torch = pytest.importorskip("torch")
rng = np.random.default_rng(0)


def real(*shape: int) -> Any:
    return rng.normal(size=shape).astype(np.float32)


def whole(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


X = real(2, 3, 4)
IMAGE = real(2, 4, 7, 6)
BITS = rng.integers(0, 2, (2, 3)).astype(bool)
# op, opset, fed inputs, constant inputs (behind them), attributes
CASES: list[tuple[str, int, list[Any], list[Any], dict[str, Any]]] = [
    *((op, 17, [X], [], {}) for op in "Abs Ceil Cos Erf Exp Floor Neg Reciprocal Relu Round Sigmoid Sign Sin".split()),
    *((op, 17, [X], [], {}) for op in "Tan Tanh Cosh Sinh Atan Softplus Softsign HardSwish Selu Elu".split()),
    *((op, 17, [np.abs(X) % 1], [], {}) for op in "Sqrt Acos Asin Log IsNaN".split()),
    ("Mish", 18, [X], [], {}),
    ("Gelu", 20, [X], [], {}),
    ("Gelu", 20, [X], [], {"approximate": "tanh"}),
    ("Elu", 17, [X], [], {"alpha": 0.3}),
    ("Celu", 17, [X], [], {"alpha": 0.7}),
    ("LeakyRelu", 17, [X], [], {"alpha": 0.2}),
    ("HardSigmoid", 17, [X * 3], [], {}),
    ("HardSigmoid", 17, [X], [], {"alpha": 0.5, "beta": 0.1}),
    ("PRelu", 17, [X], [real(4)], {}),
    *((op, 17, [X, real(3, 1)], [], {}) for op in "Add Sub Mul Div Min Max Sum".split()),
    ("Sum", 17, [X, X, real(4)], [], {}),
    ("Div", 17, [whole(7, -7, 9)], [whole(2, 2, -4)], {}),
    ("Pow", 17, [np.abs(X)], [np.float32(1.5)], {}),
    ("Pow", 17, [X], [np.int64(3)], {}),
    *((op, 17, [BITS, ~BITS[:1]], [], {}) for op in "And Or Xor".split()),
    ("Not", 17, [BITS], [], {}),
    *((op, 17, [np.round(X), np.round(X[:1])], [], {}) for op in "Equal Greater Less".split()),
    *((op, 17, [np.round(X), np.round(X[:1])], [], {}) for op in ("GreaterOrEqual", "LessOrEqual")),
    ("Where", 17, [BITS[..., None], X], [np.float32(-3)], {}),
    ("Clip", 17, [X], [np.float32(-0.5), np.float32(0.25)], {}),
    ("Clip", 17, [X, np.float32(0.1)], [], {}),
    ("Clip", 10, [X], [], {"min": -0.2, "max": 0.3}),
    ("Cast", 17, [X * 5], [], {"to": 7}),
    ("Cast", 17, [BITS], [], {"to": 1}),
    ("Identity", 17, [X], [], {}),
    ("Dropout", 17, [X], [], {}),
    ("Reshape", 17, [X], [whole(0, -1, 2)], {}),
    ("Reshape", 17, [X, whole(4, 0, 2)], [], {}),
    ("Transpose", 17, [X], [], {}),
    ("Transpose", 17, [X], [], {"perm": [1, 0, 2]}),
    ("Unsqueeze", 17, [X], [whole(-1, 0)], {}),
    ("Unsqueeze", 11, [X], [], {"axes": [1, 3]}),
    ("Squeeze", 17, [X[:1, :1]], [whole(1)], {}),
    ("Squeeze", 17, [X[:1]], [], {}),
    *(("Flatten", 17, [IMAGE], [], {"axis": axis}) for axis in (0, 1, 2, -1)),
    ("Concat", 17, [X, X[:, :2]], [real(2, 1, 4)], {"axis": 1}),
    ("Split", 17, [X], [whole(1, 3)], {"axis": -1, "outputs": 2}),
    ("Split", 17, [X], [], {"axis": 2, "outputs": 2}),
    ("Split", 18, [real(2, 7)], [], {"axis": 1, "num_outputs": 3, "outputs": 3}),
    ("Slice", 17, [X], [whole(1, -2), whole(9, 2**62), whole(1, -1)], {}),
    ("Slice", 17, [X], [whole(-1), whole(-(2**62)), whole(2), whole(-1)], {}),
    ("Slice", 17, [X], [whole(3), whole(0), whole(-1), whole(-2)], {}),
    ("Slice", 17, [X], [whole(0, 0), whole(1, 2)], {}),
    ("Slice", 17, [X, whole(1), whole(3)], [whole(2)], {}),
    ("Gather", 17, [X], [whole(2, 0)], {"axis": 1}),
    ("Gather", 17, [X], [np.int64(-1)], {"axis": 1}),
    ("Gather", 17, [real(5, 3), np.array([[1, -1], [0, 4]])], [], {}),
    ("Gather", 17, [whole(5, 6, 7)], [np.int64(1)], {}),
    ("GatherND", 17, [X, np.array([[1, 2], [-1, 0]])], [], {}),
    ("GatherND", 17, [X, np.array([[[1], [0]], [[2], [-1]]])], [], {"batch_dims": 1}),
    ("GatherND", 17, [X, np.array([[[[1]], [[0]], [[3]]]] * 2)], [], {"batch_dims": 2}),
    ("Expand", 17, [X[:, :1], whole(2, 2, 3, 1)], [], {}),
    ("Tile", 17, [X], [whole(1, 2, 3)], {}),
    ("Pad", 17, [X], [whole(0, 1, 0, 2, 0, 3)], {}),
    ("Pad", 18, [X], [whole(1, 2), np.float32(7), whole(-1)], {}),
    ("Trilu", 17, [real(4, 4)], [], {}),
    ("Trilu", 17, [real(4, 4)], [np.int64(-1)], {"upper": 0}),
    ("Shape", 17, [X], [], {}),
    ("Shape", 17, [X], [], {"start": 1, "end": -1}),
    ("ConstantOfShape", 17, [whole(2, 3)], [], {"value": numpy_helper.from_array(whole(4))}),
    ("ConstantOfShape", 17, [whole(2)], [], {}),
    ("Range", 17, [np.int64(2), np.int64(9)], [np.int64(3)], {}),
    ("CumSum", 17, [X], [np.int64(1)], {}),
    *((f"Reduce{how}", 17, [X], [], {"axes": [-1, 0]}) for how in "Mean Max Min L1 L2 SumSquare".split()),
    ("ReduceSum", 17, [X], [whole(1)], {"keepdims": 0}),
    ("ReduceMean", 18, [X], [whole(1)], {}),
    ("ReduceMax", 17, [X], [], {}),
    ("ReduceSum", 17, [X], [], {"noop_with_empty_axes": 1}),
    ("ArgMax", 17, [X], [], {"axis": 1}),
    ("ArgMin", 17, [X], [], {"axis": -1, "keepdims": 0}),
    ("Softmax", 17, [X], [], {"axis": 1}),
    ("Softmax", 11, [X], [], {"axis": 1}),
    ("LogSoftmax", 17, [X], [], {}),
    ("MatMul", 17, [X, real(4, 5)], [], {}),
    ("Gemm", 17, [real(3, 2), real(3, 4)], [real(4)], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", 17, [real(2, 3), real(4, 3)], [], {"transB": 1, "alpha": 0.5}),
    ("Einsum", 17, [X, real(4, 5)], [], {"equation": "abc,cd->dab"}),
    ("Conv", 17, [IMAGE, real(6, 2, 3, 3)], [real(6)], {"group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1]}),
    ("Conv", 17, [X], [real(2, 3, 2)], {"dilations": [2], "pads": [1, 1]}),
    ("BatchNormalization", 17, [IMAGE], [real(4), real(4), real(4), np.abs(real(4)) + 0.5], {"epsilon": 1e-3}),
    ("LayerNormalization", 17, [X], [real(4), real(4)], {"epsilon": 1e-3}),
    ("LayerNormalization", 17, [X], [real(3, 4)], {"axis": 1}),
    ("InstanceNormalization", 17, [IMAGE], [real(4), real(4)], {}),
    ("GlobalAveragePool", 17, [IMAGE], [], {}),
    ("GlobalMaxPool", 17, [IMAGE], [], {}),
    ("MaxPool", 17, [IMAGE], [], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("AveragePool", 17, [IMAGE], [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("AveragePool", 17, [IMAGE], [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
]  # fmt: skip


def model(op: str, opset: int, fed: list[Any], constant: list[Any], attributes: dict[str, Any]) -> onnx.ModelProto:
    given = dict(attributes)
    outputs = [f"y{place}" for place in range(given.pop("outputs", 1))]
    names = [f"x{place}" for place in range(len(fed) + len(constant))]
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype), np.shape(array))
        for name, array in zip(names, fed, strict=False)
    ]
    stored = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in zip(names[len(fed) :], constant, strict=True)
    ]
    shown = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph([helper.make_node(op, names, outputs, **given)], "one", ports, shown, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def compare(message: onnx.ModelProto, feeds: dict[str, Any]) -> Executor:
    names = [port.name for port in message.graph.output]
    executor = Executor(Form(message), Trainable({}, {}, {}), names)
    wanted = session(message.SerializeToString(), threads=1).run(names, feeds)
    found = executor({name: torch.from_numpy(np.array(array)) for name, array in feeds.items()}, {})
    for ours, theirs in zip(found, wanted, strict=True):
        assert tuple(ours.shape) == theirs.shape and ours.numpy().dtype == theirs.dtype
        assert np.allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-5, equal_nan=True)
    return executor


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case[0] not in ("ConstantOfShape", "Range")],  # made of numbers alone
    ids=lambda case: f"{case[0]}-{'-'.join(map(str, case[4]))}",
)
def test_an_op_finds_its_tensors_on_a_device(case: tuple[str, int, list[Any], list[Any], dict[str, Any]]) -> None:
    """On one that keeps no numbers, where what does not lie there is an error."""
    names = [f"y{place}" for place in range(case[4].get("outputs", 1))]
    executor = Executor(Form(model(*case)), Trainable({}, {}, {}), names)
    feeds = {f"x{place}": torch.from_numpy(np.array(array)) for place, array in enumerate(case[2])}
    wanted = [(found.shape, found.dtype) for found in executor(feeds, {})]
    executor.to("meta")
    alone = slice(0, 1) if case[0] in _NUMBERED else slice(None)  # the others say sizes, which must be known
    found = executor(feeds | {name: feeds[name].to("meta") for name in list(feeds)[alone]}, {})
    assert [(one.shape, one.dtype) for one in found] == wanted
    assert {one.device.type for one in found} == {"meta"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{'-'.join(map(str, case[4]))}")
def test_an_op_is_what_onnxruntime_computes(case: tuple[str, int, list[Any], list[Any], dict[str, Any]]) -> None:
    compare(model(*case), {f"x{place}": np.asarray(array) for place, array in enumerate(case[2])})


def test_every_op_that_is_carried_is_compared() -> None:
    assert {op for op in _BUILDS if not op.startswith("fused")} == {case[0] for case in CASES}


@pytest.mark.parametrize(
    ("op", "fed", "attributes"),
    [
        ("BatchNormalization", [IMAGE, real(4), real(4), real(4), np.abs(real(4))], {"training_mode": 1, "outputs": 3}),
        ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "ceil_mode": 1}),
        ("Pad", [X, whole(0, 0, 0, 0, 0, 1)], {"mode": "edge"}),
        ("CumSum", [X, np.int64(0)], {"reverse": 1}),
        ("Split", [X, whole(1, 1)], {"outputs": 2}),
        ("NonZero", [X], {}),
    ],
)
def test_what_is_not_known_is_not_guessed(op: str, fed: list[Any], attributes: dict[str, Any]) -> None:
    message = model(op, 17, fed, [], attributes)
    with pytest.raises(Uncarried):
        Executor(Form(message), Trainable({}, {}, {}), [port.name for port in message.graph.output])


def spelled(extra: str = "", epsilon: float = 1e-4) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A norm, a product with its bias and a GELU, in the ops that exporters write; ``extra`` is an output, too."""
    nodes = [
        ("ReduceMean", ["x"], "mean", {"axes": [-1]}), ("Sub", ["x", "mean"], "centred", {}),
        ("Pow", ["centred", "two"], "square", {}), ("ReduceMean", ["square"], "variance", {"axes": [-1]}),
        ("Add", ["variance", "epsilon"], "moved", {}), ("Sqrt", ["moved"], "root", {}),
        ("Div", ["centred", "root"], "unit", {}), ("Mul", ["unit", "scale"], "scaled", {}),
        ("Add", ["scaled", "shift"], "norm", {}), ("MatMul", ["norm", "weight"], "product", {}),
        ("Add", ["bias", "product"], "a", {}), ("Div", ["a", "root2"], "b", {}), ("Erf", ["b"], "c", {}),
        ("Add", ["c", "one"], "d", {}), ("Mul", ["a", "d"], "e", {}), ("Mul", ["e", "half"], "y", {}),
    ]  # fmt: skip
    numbers = {"two": 2.0, "epsilon": epsilon, "root2": 2**0.5, "one": 1.0, "half": 0.5}
    weights = {"scale": real(4), "shift": real(4), "weight": real(4, 6), "bias": real(6)}
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output], **attributes) for op, inputs, output, attributes in nodes],
        "spelled",
        [helper.make_tensor_value_info("x", 1, [2, 3, 4])],
        [onnx.ValueInfoProto(name=name) for name in ("y", extra) if name],
        [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in {**numbers, **weights}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), weights


def ops(executor: Executor) -> list[str]:
    return [line.step.op for line in executor._lines]


def test_what_was_spelled_in_many_ops_is_one_call() -> None:
    message, _ = spelled()
    assert ops(compare(message, {"x": X})) == ["fused norm", "fused linear", "fused gelu"]


@pytest.mark.parametrize("extra", ["mean", "centred", "unit", "scaled", "product", "d", "e"])
def test_what_is_shown_is_not_joined(extra: str) -> None:
    message, _ = spelled(extra)
    assert len(ops(compare(message, {"x": X}))) > 3


def test_gradients_reach_weights_through_what_is_joined() -> None:
    message, weights = spelled()
    trainable = Trainable({name: ir.tensor(array) for name, array in weights.items()}, {}, {})
    found = {name: torch.nn.Parameter(torch.from_numpy(array.copy())) for name, array in weights.items()}
    (y,) = Executor(Form(message), trainable, ["y"])({"x": torch.from_numpy(X)}, found)
    y.square().sum().backward()
    step = 1e-2
    for name, array in weights.items():
        moved = {key: torch.from_numpy(value.copy()) for key, value in weights.items()}
        sums = []
        for sign in (1, -1):
            moved[name] = torch.from_numpy(array + sign * step * np.sign(found[name].grad.numpy()))
            (z,) = Executor(Form(message), trainable, ["y"])({"x": torch.from_numpy(X)}, moved)
            sums.append(float(z.square().sum()))
        assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(float(found[name].grad.abs().sum()), rel=2e-2)


def test_a_transpose_is_the_same_weight() -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["x"]), helper.make_node("MatMul", ["x", "turned"], ["y"])],
        "tied",
        [helper.make_tensor_value_info("ids", 7, [3])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(real(5, 4), "table"), numpy_helper.from_array(real(4, 5), "turned")],
    )
    message = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    table = torch.nn.Parameter(torch.ones(5, 4))
    executor = Executor(
        Form(message), Trainable({"table": ir.tensor(table.detach().numpy())}, {"turned": "table"}, {}), ["y"]
    )
    (y,) = executor({"ids": torch.tensor([0, 1, 1])}, {"table": table})
    assert y.shape == (3, 5) and (y == 4).all()
    y.sum().backward()
    assert table.grad is not None and float(table.grad.sum()) == 3 * 5 * 4 * 2
