"""What a refusal tells a person to put into the spec is then accepted as it stands, and does the right thing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._patterns.closed_forms import SCALES, guess_scale, match_scale
from bot_onnx._target import evaluate
from bot_onnx.errors import BotError, SpecError
from tests.graphs import GraphBuilder, save, tied_attention_model
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant

HEAD_DIM = 4


def scaled_attention(head_dim: int, factor: float, layers: int = 2) -> onnx.ModelProto:
    """Attention whose scores have the given factor."""
    model = tied_attention_model(layers=layers, heads=2, head_dim=head_dim)
    for tensor in model.graph.initializer:
        if not tensor.dims and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(factor), tensor.name))
    return model


def suggested(error: BotError, key: str) -> dict[str, Any]:
    """The object that a message gives for a key of the spec."""
    text = str(error)
    found = re.search(rf'"{key}": ({{.*?}})', text)
    assert found, text
    value: dict[str, Any] = json.loads(found[1])
    return value


@pytest.mark.parametrize(
    ("factor", "native"), [((3 * HEAD_DIM) ** -0.5, (3 * 8) ** -0.5), (0.1234, 0.1234 * (HEAD_DIM / 8) ** 0.5)]
)
def test_the_formula_that_a_message_suggests_is_accepted(factor: float, native: float, tmp_path: Path) -> None:
    source = save(scaled_attention(HEAD_DIM, factor), tmp_path)
    out = tmp_path / "out.onnx"
    with pytest.raises(BotError, match="no known formula") as caught:
        bot_onnx.resize(source, {"head_dim": 8}, out)
    constants = suggested(caught.value, "constants")
    assert len(constants) == 1  # one entry with a star for both layers
    bot_onnx.resize(source, {"head_dim": 8, "constants": constants}, out)
    theirs = transplant(analysis_of(out), analysis_of(save(scaled_attention(8, native), tmp_path, "native.onnx")))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(theirs)) <= 1e-5


def test_a_number_keeps_the_factor_and_a_wrong_formula_is_refused(tmp_path: Path) -> None:
    source = save(scaled_attention(HEAD_DIM, 0.1234), tmp_path)
    patches = bot_onnx.plan(source, {"head_dim": 8, "constants": {"node_mul*": 0.1234}}).constants
    assert {patch.new for patch in patches if "mul" in patch.place} == {0.1234}
    with pytest.raises(SpecError, match=r"gives 0\.5 at the source's sizes, but the factor .* is 0\.1234"):
        bot_onnx.plan(source, {"head_dim": 8, "constants": {"node_mul*": "1/sqrt(head_dim)"}})
    with pytest.raises(SpecError, match="no node 'node_div"):
        bot_onnx.plan(source, {"head_dim": 8, "constants": {"node_div*": 1.0}})


def test_a_node_without_a_name_is_called_by_what_it_makes(tmp_path: Path) -> None:
    model = scaled_attention(HEAD_DIM, 0.1234, layers=2)
    for node in model.graph.node:
        node.name = ""
    source = save(model, tmp_path)
    with pytest.raises(BotError, match="no known formula") as caught:
        bot_onnx.plan(source, {"head_dim": 8})
    constants = suggested(caught.value, "constants")
    assert bot_onnx.plan(source, {"head_dim": 8, "constants": constants})


@pytest.mark.parametrize("size", [16, 64, 80])
def test_every_guess_gives_the_value_that_it_explains(size: int) -> None:
    rng = np.random.default_rng(0)
    values = [*rng.uniform(0.01, 20, 20), (2 * size) ** -0.5, size**-0.5 / 3, 1 / (5 * size), (3 * size) ** -0.25]
    for value in values:
        assert match_scale(value, size) is None
        guess = guess_scale(value, size, "head_dim")
        assert evaluate(guess, {"head_dim": size}) == pytest.approx(value, rel=1e-4)
    assert all(match_scale(function(size), size) for function in SCALES.values())


def mlp(width: int = 6) -> onnx.ModelProto:
    """No layers, no attention: no dim has a role that a key could mean."""
    b = GraphBuilder()
    hidden = b.op("Relu", b.op("MatMul", "x", b.weight(4, width)))
    return b.model([("x", ["batch", 4])], [b.op("MatMul", hidden, b.weight(width, 3))])


def test_a_role_that_no_dim_carries_is_answered_with_a_dim_that_does(tmp_path: Path) -> None:
    source = save(mlp(), tmp_path)
    out = tmp_path / "out.onnx"
    with pytest.raises(SpecError, match="carries the role") as caught:
        bot_onnx.resize(source, {"hidden": 12}, out)
    dims = suggested(caught.value, "dims")
    assert bot_onnx.resize(source, {"dims": dims}, out).report.passed
    theirs = transplant(analysis_of(out), analysis_of(save(mlp(12), tmp_path, "native.onnx")))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(theirs)) <= 1e-5


def positioned(table: list[int], width: int = 8) -> onnx.ModelProto:
    """Positions are looked up by the first entries of an index table, as many as there are tokens."""
    b = GraphBuilder()
    length = b.op("Shape", "ids", start=1, end=2)
    indices = b.op("Slice", b.constant(np.array([table], np.int64)), b.ints(0), length, b.ints(1))
    tokens = b.op("Gather", b.weight(11, width), "ids")
    x = b.op("Add", tokens, b.op("Gather", b.weight(len(table), width), indices))
    for _ in range(2):
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", b.op("MatMul", x, b.weight(width, 12))), b.weight(12, width)))
    last = b.op("MatMul", x, b.weight(width, 3))
    return b.model([("ids", ["batch", "tokens"])], [last], integer_inputs=["ids"], rank=3)


def test_an_index_table_of_no_known_form_keeps_its_length_and_says_which(tmp_path: Path) -> None:
    known = save(positioned(list(range(20))), tmp_path)
    out = tmp_path / "out.onnx"
    assert bot_onnx.resize(known, {"positions": 30}, out).report.passed
    source = save(positioned([*range(1, 20), 0]), tmp_path)
    with pytest.raises(BotError, match=r"table w\d+ follows no formula .* Drop the key or give 20"):
        bot_onnx.resize(source, {"positions": 30, "layers": 3}, out, force=True)
    assert bot_onnx.resize(source, {"positions": 20, "layers": 3, "hidden": 4}, out, force=True).report.passed
