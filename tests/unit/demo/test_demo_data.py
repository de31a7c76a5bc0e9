"""The shipped model and images: they load, they run, and the model is as good as it claims."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from bot_onnx import demo
from bot_onnx.errors import GraphError


def test_model_is_a_valid_single_file_with_a_dynamic_batch() -> None:
    model = onnx.load_from_string(demo.model_bytes())
    onnx.checker.check_model(model, full_check=True)
    assert len(demo.model_bytes()) < 2_000_000
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["logits"]
    batch, *rest = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param
    assert [size.dim_value for size in rest] == [1, 8, 8]


def test_model_tells_nothing_of_the_machine_that_made_it() -> None:
    data = demo.model_bytes()
    assert not re.search(rb"/(home|root|usr|opt|tmp|work|Users)/|\.py\b|stack_trace|pkg\.torch", data)
    model = onnx.load_from_string(data)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_model_file_holds_the_same_bytes() -> None:
    with demo.model_file() as path:
        assert path.suffix == ".onnx"
        assert path.read_bytes() == demo.model_bytes()


def test_held_out_images_are_grey_values_of_every_digit() -> None:
    data = demo.held_out()
    assert data.images.shape == (360, 1, 8, 8)
    assert data.images.dtype == np.float32
    assert data.labels.shape == (360,)
    assert data.labels.dtype == np.int64
    assert data.images.min() == 0
    assert data.images.max() == 16
    # Stratified: the classes of the data set are nearly balanced, and so is any tenth of them here.
    assert np.bincount(data.labels, minlength=10).min() >= 34


def test_model_recognises_the_held_out_digits() -> None:
    runtime = pytest.importorskip("onnxruntime")
    data = demo.held_out()
    session = runtime.InferenceSession(demo.model_bytes(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, data.feeds())
    assert logits.shape == (360, 10)
    assert demo.accuracy(logits, data.labels) >= 0.97


def test_accuracy_counts_rows() -> None:
    logits = np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    assert demo.accuracy(logits, np.array([1, 0, 0, 1])) == 0.5


@pytest.mark.parametrize("shape", [(3, 2), (4,), (4, 2, 1)])
def test_accuracy_refuses_anything_but_a_row_per_label(shape: tuple[int, ...]) -> None:
    with pytest.raises(GraphError, match="4 labels"):
        demo.accuracy(np.zeros(shape), np.array([1, 0, 0, 1]))
