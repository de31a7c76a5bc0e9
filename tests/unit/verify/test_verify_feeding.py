"""Which inputs a model is fed with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from bot_onnx._runs.inputs import input_specs
from bot_onnx._verify.feeding import batches, candidate_shapes, index_ranges
from tests.masked_scores import KINDS, masked_attention
from tests.verify_models import save_bert, save_lookup


def test_ranges_follow_the_tables(tmp_path: Path) -> None:
    graph = onnx.load(save_bert(tmp_path / "bert.onnx")).graph
    ranges = index_ranges(graph)
    assert (ranges["input_ids"], ranges["token_type_ids"]) == (61, 2)
    assert "attention_mask" not in ranges


def test_ranges_pass_changes_of_form(tmp_path: Path) -> None:
    graph = onnx.load(save_lookup(tmp_path / "m.onnx", np.ones((9, 4)), np.ones((4, 5)))).graph
    graph.node[0].input[1] = "whole"
    graph.node.insert(0, onnx.helper.make_node("Cast", ["ids"], ["whole"], to=onnx.TensorProto.INT32))
    graph.node[1].input[0] = "half"
    graph.node.insert(0, onnx.helper.make_node("Cast", ["table"], ["half"], to=onnx.TensorProto.FLOAT16))
    assert index_ranges(graph)["ids"] == 9


def test_the_smallest_of_several_tables_counts(tmp_path: Path) -> None:
    graph = onnx.load(save_lookup(tmp_path / "m.onnx", np.ones((9, 4)), np.ones((4, 5)))).graph
    graph.node.append(onnx.helper.make_node("Gather", ["head", "ids"], ["other"], axis=1))
    assert index_ranges(graph)["ids"] == 5


def test_ids_fill_their_range_and_masks_hide_nothing(tmp_path: Path) -> None:
    graph = onnx.load(save_bert(tmp_path / "bert.onnx")).graph
    specs = input_specs(graph)
    shapes = [{spec.name: (50, 40) for spec in specs}] * 2
    first, second = batches(specs, shapes, index_ranges(graph), seed=3)
    assert set(np.unique(first["input_ids"])) == set(range(61))
    assert set(np.unique(first["token_type_ids"])) == {0, 1}
    assert np.all(first["attention_mask"] == 1)
    assert first["input_ids"].dtype == np.int64
    assert not np.array_equal(first["input_ids"], second["input_ids"])
    again, _ = batches(specs, shapes, index_ranges(graph), seed=3)
    np.testing.assert_array_equal(first["input_ids"], again["input_ids"])
    other, _ = batches(specs, shapes, index_ranges(graph), seed=4)
    assert not np.array_equal(first["input_ids"], other["input_ids"])


@pytest.mark.parametrize("kind", ["bias", "padding", "infinite", "whole"])
def test_masks_of_all_types_hide_nothing_first_and_then_something(kind: str) -> None:
    graph = masked_attention(kind).graph
    specs = input_specs(graph)
    shapes = [{"q": (2, 3, 6), "k": (2, 5, 6), "m": (2, 5)}] * 2
    first, second = (given["m"] for given in batches(specs, shapes, index_ranges(graph), seed=0))
    kept = KINDS[kind][2][0]
    assert (first == kept).all() and (second == kept).any(axis=1).all() and (second != kept).any()


def test_sizes_are_those_observed_else_guessed(tmp_path: Path) -> None:
    specs = input_specs(onnx.load(save_lookup(tmp_path / "m.onnx", np.ones((9, 4)), np.ones((4, 5)))).graph)
    observed = {"ids": ((2, 4), (3, 9))}
    assert list(candidate_shapes(specs, observed)) == [[{"ids": (2, 3)}, {"ids": (4, 9)}]]
    guessed = list(candidate_shapes(specs, None))
    assert all(pair[0] != pair[1] for pair in guessed[:1])
    assert guessed[-1] == [{"ids": (1, 1)}, {"ids": (1, 1)}]
