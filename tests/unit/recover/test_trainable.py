"""Which initializers are weights: masks, tables and single numbers are not, and other types are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bot_onnx._onnxfile.reader import open_model
from bot_onnx._recover.network import read_network
from bot_onnx._recover.trainable import Trainable, find_trainable, initial
from bot_onnx.errors import RecoverError


def trainable(path: Path, dtype: type[np.floating], **added: NDArray[np.generic]) -> Trainable:
    """Of ``softmax(x · weight * scale + …) · back``."""
    rng = np.random.default_rng(0)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    held = {"weight": rng.normal(size=(6, 5)), "back": rng.normal(size=(5, 3)), "scale": np.array(0.5), **added}
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["a"]), helper.make_node("Mul", ["a", "scale"], ["b0"])]
    for place, name in enumerate(added):
        nodes.append(helper.make_node("Add", [f"b{place}", name], [f"b{place + 1}"]))
    nodes.append(helper.make_node("Softmax", [f"b{len(added)}"], ["c"], axis=-1))
    nodes.append(helper.make_node("MatMul", ["c", "back"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "scores",
        [helper.make_tensor_value_info("x", kind, ["batch", 4, 6])],
        [helper.make_tensor_value_info("y", kind, ["batch", 4, 3])],
        [numpy_helper.from_array(array.astype(dtype), name) for name, array in held.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path / "m.onnx")
    with open_model(path / "m.onnx") as source:
        return find_trainable(read_network(source))


def test_masks_and_single_numbers_stay_and_small_biases_are_trained(tmp_path: Path) -> None:
    lower = np.tril(np.ones((4, 5)))
    found = trainable(
        tmp_path,
        np.float32,
        large=np.where(lower > 0, 0.0, -3.0e38),
        binary=lower,
        table=np.random.default_rng(1).normal(size=(4, 5)),
        bias=np.zeros(5),
    )
    assert set(found.values) == {"weight", "back", "table", "bias"}
    assert found.fixed == {"large": "a mask", "binary": "a table of two values: a mask"}


def test_double_precision_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        RecoverError, match=r"weight 'weight' of .*m\.onnx is DOUBLE; float32, float16 and bfloat16 are"
    ):
        trainable(tmp_path, np.float64)


def test_half_precision_is_trained_as_float32(tmp_path: Path) -> None:
    found = trainable(tmp_path, np.float16, lower=np.where(np.tril(np.ones((4, 5))) > 0, 0.0, -65504.0))
    wanted = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float16)
    assert set(found.values) == {"weight", "back"} and found.fixed == {"lower": "a mask"}
    assert initial(found.values["weight"]).dtype == np.float32
    assert np.array_equal(initial(found.values["weight"]), wanted.astype(np.float32))
