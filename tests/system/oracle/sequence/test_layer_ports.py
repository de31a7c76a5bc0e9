"""Inputs and outputs that belong to single layers go, come and are renumbered with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

import bot_onnx
from bot_onnx.errors import GraphError
from tests.graphs import save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import cached_decoder, shown_states


def ports(model: onnx.ModelProto) -> list[tuple[str, list[int | str]]]:
    """Names and shapes of inputs and outputs, in order."""
    return [
        (value.name, [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim])
        for value in (*model.graph.input, *model.graph.output)
    ]


def check(source: onnx.ModelProto, native: onnx.ModelProto, spec: dict[str, Any], folder: Path) -> None:
    out = folder / "out.onnx"
    result = bot_onnx.resize(save(source, folder), spec, out)
    assert result.report.passed
    assert ports(onnx.load(out)) == ports(native)
    theirs = transplant(analysis_of(out), analysis_of(save(native, folder, "native.onnx")))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(theirs)) <= 1e-5


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_a_cache_follows_the_depth(layers: int, tmp_path: Path) -> None:
    check(cached_decoder(4), cached_decoder(layers), {"layers": layers}, tmp_path)


@pytest.mark.parametrize(("heads", "head_dim"), [(2, 8), (8, 8), (4, 4), (6, 12)])
def test_a_cache_follows_heads_and_their_width(heads: int, head_dim: int, tmp_path: Path) -> None:
    spec = {"heads": heads, "head_dim": head_dim, "hidden": 2 * heads * head_dim}
    check(cached_decoder(), cached_decoder(4, heads, head_dim), spec, tmp_path)


@pytest.mark.parametrize("layers", [1, 2, 3, 7])
def test_hidden_states_are_renumbered(layers: int, tmp_path: Path) -> None:
    check(shown_states(4), shown_states(layers), {"layers": layers}, tmp_path)


def test_inputs_of_layers_under_names_that_do_not_count_are_refused(tmp_path: Path) -> None:
    model = cached_decoder(4)
    words = dict(zip("0123", ("first", "second", "third", "fourth"), strict=True))
    for value in model.graph.input:
        value.name = _worded(value.name, words)
    for node in model.graph.node:
        node.input[:] = [_worded(name, words) for name in node.input]
    source = save(model, tmp_path)
    assert bot_onnx.resize(source, {"layers": 4, "heads": 2}, tmp_path / "narrow.onnx").report.passed
    for layers in (2, 6):
        with pytest.raises(GraphError, match=r"past\.first\.key.*names do not count up"):
            bot_onnx.resize(source, {"layers": layers}, tmp_path / "out.onnx")


def _worded(name: str, words: dict[str, str]) -> str:
    parts = name.split(".")
    return ".".join([parts[0], words[parts[1]], *parts[2:]]) if parts[0] == "past" else name
