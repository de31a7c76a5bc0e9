"""Which inputs are masks, and that what they are fed with hides something and leaves something."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from bot_onnx._onnxfile.input_overrides import InputSpec, Mask
from bot_onnx._runs.inputs import feeds, input_specs
from bot_onnx._runs.masks import drawn_mask, masks
from tests.graphs import GraphBuilder, residual_mlp_model
from tests.masked_scores import KINDS, masked_attention


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_known_in_every_spelling(kind: str) -> None:
    assert masks(masked_attention(kind).graph) == {"m": KINDS[kind][2]}


def number(b: GraphBuilder, value: float) -> str:
    return b.constant(np.float32(value))


def test_what_hides_nothing_is_no_mask() -> None:
    """Pictures that are scaled, sounds as large as 16 bits, inputs that an activation cuts."""
    assert masks(residual_mlp_model().graph) == {}
    b = GraphBuilder()
    large = b.op("Mul", "x", number(b, 32768))
    leaky = b.op("Where", b.op("Greater", "x", number(b, 0)), "x", b.op("Mul", "x", number(b, 0.1)))
    centred = b.op("Div", b.op("Sub", b.op("Mul", "x", number(b, 255)), number(b, 127)), number(b, 58))
    y = b.op("MatMul", b.op("Add", large, b.op("Add", leaky, centred)), b.weight(4, 3))
    assert masks(b.model([("x", ["batch", 4])], [y]).graph) == {}


def test_numbers_below_zero_are_for_floats_alone() -> None:
    """Integers are fed with zeros and ones, which every table and every count admits."""
    b = GraphBuilder()
    hidden = b.op("Less", "m", b.constant(np.int64(-1)))
    y = b.op("Where", hidden, number(b, -1e9), "x")
    assert masks(b.model([("x", ["n", 4]), ("m", ["n", 4])], [y], integer_inputs=["m"]).graph) == {}


@pytest.mark.parametrize("mask", [Mask(1, 0), Mask(0, 1), Mask(0, -2)])
@pytest.mark.parametrize("shape", [(2, 5), (2, 2), (1, 7), (3, 1, 1, 6), (3, 6, 1), (2, 4, 4)])
def test_a_mask_hides_something_and_leaves_something(mask: Mask, shape: tuple[int, ...]) -> None:
    for seed in range(5):
        drawn = drawn_mask(shape, mask, np.random.default_rng(seed))
        assert drawn.shape == shape and set(np.unique(drawn)) == set(mask)
        axis = max(axis for axis, size in enumerate(shape) if size > 1)
        left = (drawn == mask.kept).sum(axis=axis)
        assert (left >= 1).all() and (left >= 2).any()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 2)])
def test_a_mask_too_short_to_hide_anything_leaves_all(shape: tuple[int, ...]) -> None:
    assert (drawn_mask(shape, Mask(0, 1), np.random.default_rng(0)) == 0).all()


def test_masks_of_all_types_are_fed_so() -> None:
    for kind, dtype in (("bias", np.float32), ("picked", np.bool_), ("whole", np.int64)):
        given = feeds(input_specs(masked_attention(kind).graph), {"batch": 2, "queries": 3, "keys": 5})
        assert given["m"].dtype == dtype and (given["m"][0] == 1).all() and not given["m"][1].all()
        assert np.unique(given["k"]).size == 60


def test_a_table_with_one_row_is_looked_up_all_the_same() -> None:
    spec = InputSpec("ids", np.dtype(np.int64), (2, 5), values=1, mask=Mask(1, 0))
    assert not feeds([spec], {})["ids"].any()


@pytest.mark.parametrize(
    "held", [np.tril(np.ones((4, 4), np.float32)), np.tril(np.ones((4, 4), bool)), np.array([1, 0, 1, 1], np.float32)]
)
def test_a_mask_beside_one_that_the_file_holds_is_one(held: np.ndarray) -> None:
    b = GraphBuilder()
    if held.dtype == bool:
        both = b.op("Where", b.constant(held), "m", number(b, 0))
    else:
        both = b.op("Mul", "m", b.constant(held))
    hidden = b.op("Mul", b.op("Sub", number(b, 1), both), number(b, -1e9))
    y = b.op("Softmax", b.op("Add", "x", hidden), axis=-1)
    assert masks(b.model([("x", [4, 4]), ("m", [4, 4])], [y]).graph) == {"m": Mask(1, 0)}


def test_a_product_of_two_masks_has_both() -> None:
    b = GraphBuilder()
    both = b.op("Mul", b.op("Unsqueeze", "m", b.ints(1)), b.op("Unsqueeze", "n", b.ints(2)))
    hidden = b.op("Mul", b.op("Sub", number(b, 1), both), number(b, -1e9))
    y = b.op("Softmax", b.op("Add", "x", hidden), axis=-1)
    graph = b.model([("x", [2, 4, 3]), ("m", [2, 3]), ("n", [2, 4])], [y]).graph
    assert masks(graph) == {"m": Mask(1, 0), "n": Mask(1, 0)}


def test_constants_in_another_file_are_left_alone() -> None:
    graph = masked_attention("bias").graph
    for tensor in graph.initializer:
        tensor.data_location = onnx.TensorProto.EXTERNAL
    assert masks(graph) == {}
