"""The student in PyTorch: equal to onnxruntime, with every weight in reach, and back into the same initializers."""

from __future__ import annotations

import math
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._onnxfile.reader import open_model
from bot_onnx._recover.converted import Converted
from bot_onnx._recover.executor import Executor
from bot_onnx._recover.network import Frozen, read_network
from bot_onnx._recover.student import Student, first_run, make_student
from bot_onnx._recover.trainable import find_trainable
from bot_onnx._recover.types import Feeds
from bot_onnx._recover.writing import write_trained
from bot_onnx._verify.feeding import batches, candidate_shapes, index_ranges
from bot_onnx.errors import RecoverError
from tests.system.oracle.vision import catalog as vision
from tests.zoo.architectures import ARCHITECTURES, base_size
from tests.zoo.export import EXPORTERS, cached_export

pytestmark = pytest.mark.exporter
TOLERANCE = 1e-5

TIED = {"bert_mlm", "gpt2", "llama"}  # the head is the embedding
QUICK = {("bert_mlm", "torchscript17"), ("gpt2", "dynamo20"), ("llama", "torchscript17"), ("vit", "dynamo18")}
EXPORTS = [
    pytest.param(arch, exporter, marks=[] if (arch, exporter) in QUICK else pytest.mark.slow)
    for arch in ARCHITECTURES
    for exporter in EXPORTERS
]


def furthest(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Largest difference of any value, over the largest number in it."""
    return max(
        float(np.abs(ours[name] - wanted).max() / max(np.abs(wanted).max(), 1e-6)) for name, wanted in theirs.items()
    )


def feeds_of(network: Any, graph: onnx.GraphProto) -> list[Feeds]:
    shapes = next(candidate_shapes(network.inputs, network.analysis.context.observed.shapes))
    return batches(network.inputs, shapes, index_ranges(graph), 0)


def check_round_trip(path: Path, out: Path, carrier: type | None = Executor) -> tuple[Any, Any]:
    """Convert, compare at two sizes, reach every weight, change every weight, write, and compare again.

    Args:
        path, out: of the network, and of what is written. carrier: what is to carry it; None: either.
    """
    import torch

    with ExitStack() as stack:
        source = stack.enter_context(open_model(path))
        network = read_network(source)
        trainable = find_trainable(network)
        hidden = [name for names in network.hidden.values() for name in names]
        wanted = list(dict.fromkeys([*network.outputs, *hidden]))
        student = make_student(network, trainable, wanted)
        assert carrier in (None, type(student.carrier))
        frozen = Frozen(network.form(wanted), wanted, threads=1)
        fed = feeds_of(network, source.proto.graph)
        for feeds in fed:
            ours = {name: value.detach().numpy() for name, value in student(feeds).items()}
            assert furthest(ours, frozen.run(feeds)) <= TOLERANCE
        sum(value.square().mean() for value in student(fed[0]).values()).backward()
        assert [name for name, weight in student.parameters.items() if weight.grad is None] == []
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in student.parameters.values():
                weight.mul_(1 + 0.1 * torch.randn_like(weight))
        write_trained(network, trainable, student.weights(), out, told={})
        changed = Frozen(str(out), network.outputs, threads=1)
        for feeds in fed:
            ours = {name: value.detach().numpy() for name, value in student(feeds).items()}
            new = changed.run(feeds)
            assert furthest(ours, new) <= TOLERANCE
            assert furthest(new, frozen.run(feeds, outputs=network.outputs)) > 100 * TOLERANCE
        if isinstance(student.carrier, Executor):
            check_elsewhere(student, fed[0])
        return network, trainable


def check_elsewhere(student: Student, feeds: Feeds) -> None:
    """On a device that keeps no numbers every op finds its tensors there, and all shapes come out."""
    wanted = {name: value.shape for name, value in student.look(feeds).items()}
    student.to("meta")
    found = student(feeds)
    assert {name: value.shape for name, value in found.items()} == wanted
    assert {value.device.type for value in found.values()} == {"meta"}
    sum(value.square().mean() for value in found.values()).backward()
    assert {weight.grad.device.type for weight in student.parameters.values()} == {"meta"}


@pytest.mark.parametrize(("arch", "exporter"), EXPORTS)
def test_a_network_goes_to_pytorch_and_back(arch: str, exporter: str, tmp_path: Path) -> None:
    network, trainable = check_round_trip(cached_export(arch, base_size(arch), exporter), tmp_path / "out.onnx")
    assert [len(names) - 1 for names in network.hidden.values()] == [base_size(arch).layers]
    held = {tensor.name: tensor for tensor in network.proto.graph.initializer}
    floats = {name for name, each in held.items() if each.data_type == TensorProto.FLOAT and math.prod(each.dims) > 1}
    assert floats == {*trainable.values, *trainable.twins, *trainable.fixed}
    vocabulary = [name for name in (*trainable.values, *trainable.twins) if base_size(arch).vocab in held[name].dims]
    tables = [name for name in vocabulary if len(held[name].dims) == 2]
    if arch in TIED:  # one parameter, whether the exporter kept one initializer or wrote its transpose as well
        assert len(tables) - len(trainable.twins) == 1


VISION = [
    pytest.param(name, exporter, marks=[] if (name, exporter) == ("mobilenet_v3", "dynamo18") else pytest.mark.slow)
    for name in vision.NETWORKS
    for exporter in vision.EXPORTERS
    if exporter == "torchscript17" or name in ("mobilenet_v3", "resnet_basic", "regnet_y", "unet", "convnext")
]


@pytest.mark.parametrize(("name", "exporter"), VISION)
def test_a_vision_network_goes_to_pytorch_and_back(name: str, exporter: str, tmp_path: Path) -> None:
    _, trainable = check_round_trip(vision.exported(name, exporter), tmp_path / "out.onnx", None)
    assert not [key for key, why in trainable.fixed.items() if key.endswith("weight") and "batch" not in why]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_that_pytorch_orders_otherwise_come_back_in_their_order(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "recurrent.onnx"
    gates = {"LSTM": 4, "GRU": 3}[kind]
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / 3, name)

    graph = helper.make_graph(
        [
            helper.make_node(kind, ["x", "w", "r", "b"], ["y"], hidden_size=6, direction="bidirectional"),
            helper.make_node("Transpose", ["y"], ["z"], perm=[0, 2, 1, 3]),
        ],
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["steps", "batch", 5])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["steps", "batch", 2, 6])],
        [weight("w", 2, gates * 6, 5), weight("r", 2, gates * 6, 6), weight("b", 2, 2 * gates * 6)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    _, trainable = check_round_trip(path, tmp_path / "out.onnx", Converted)
    assert {"w", "r", "b"} == set(trainable.values)


def convolutions(path: Path, **attributes: int) -> None:
    """A convolution, a batch norm, a Gemm with factors, and a product with the weight on the left."""
    rng = np.random.default_rng(1)

    def weight(name: str, *shape: int, least: float | None = None) -> TensorProto:
        values = rng.normal(size=shape).astype(np.float32) / 3
        return numpy_helper.from_array(values if least is None else np.abs(values) + np.float32(least), name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel", "shift"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node(
                "BatchNormalization",
                ["a", "scale", "bias", "mean", "variance"],
                ["b"] if not attributes else ["b", "m", "v"],
                **attributes,
            ),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("GlobalAveragePool", ["c"], ["d"]),
            helper.make_node("Flatten", ["d"], ["e"]),
            helper.make_node("Gemm", ["e", "head", "offset"], ["f"], transB=1, alpha=0.5, beta=2.0),
            helper.make_node("Unsqueeze", ["f", "last"], ["g"]),
            helper.make_node("MatMul", ["left", "g"], ["y"]),
        ],
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 1])],
        [
            weight("kernel", 6, 3, 3, 3), weight("shift", 6), weight("scale", 6), weight("bias", 6), weight("mean", 6),
            weight("variance", 6, least=0.5), weight("head", 5, 6), weight("offset", 5), weight("left", 4, 5),
            numpy_helper.from_array(np.array([2]), "last"),
        ],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_baked_weights_factors_and_left_hand_weights(tmp_path: Path) -> None:
    path = tmp_path / "convolutions.onnx"
    convolutions(path)
    _, trainable = check_round_trip(path, tmp_path / "out.onnx")
    assert set(trainable.fixed) == {"mean", "variance"}
    assert set(trainable.values) == {"kernel", "shift", "scale", "bias", "head", "offset", "left"}


def test_what_the_converter_cannot_carry_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "training.onnx"
    convolutions(path, training_mode=1)
    with open_model(path) as source:
        network = read_network(source)
        with pytest.raises(RecoverError, match=r"cannot carry .*training_mode"):
            make_student(network, find_trainable(network), network.outputs)


def test_an_op_that_cannot_be_run_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def fails(*_: Any) -> None:
        raise RuntimeError("no such kernel")

    convolutions(tmp_path / "convolutions.onnx")
    with open_model(tmp_path / "convolutions.onnx") as source:
        network = read_network(source)
        known = find_trainable(network)
        for carrier in ("own", "converter"):
            with monkeypatch.context() as patch:
                patch.setattr(torch, "relu", fails)
                student = make_student(network, known, network.outputs)
            if carrier == "converter":
                student.carrier = Converted(network, known, network.outputs)
                monkeypatch.setattr(torch.nn.ReLU, "forward", fails)
            with pytest.raises(RecoverError, match="its Relu 'c' cannot be run there: no such kernel"):
                first_run(student, feeds_of(network, source.proto.graph)[0])


def test_ops_of_other_domains_are_refused_by_name(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("QuickGelu", ["a"], ["y"], name="gate", domain="com.microsoft"),
        ],
        "fused",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32) / 7, "w")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "fused.onnx")
    with open_model(tmp_path / "fused.onnx") as source, warnings.catch_warnings():
        network = read_network(source)
        with pytest.raises(RecoverError, match=r"'gate' is a com\.microsoft::QuickGelu"):
            make_student(network, find_trainable(network), network.outputs)
