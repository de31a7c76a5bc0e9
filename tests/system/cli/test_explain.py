"""``inspect --explain``: a dim, a tensor, a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bot_onnx._cli import cli
from tests.graphs import GraphBuilder, residual_mlp_model, save


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


def told(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(residual_mlp_model(), tmp_path)


def test_a_dim_by_its_name_and_by_its_id(model: Path) -> None:
    [dim] = told(model, "--explain", "hidden")["dims"]
    assert dim["resizable"] and dim["reason"] is None and dim["moved_by"][:2] == ["--hidden N", "--dim hidden=N"]
    structure = json.loads(run(model, "--json").stdout)["structure"]
    assert dim["axes"] == structure["dims"][dim["id"]]["occurrences"] and dim["stacks"]
    assert told(model, "--explain", dim["id"])["dims"] == [dim]
    shown = run(model, "--explain", "hidden").stdout
    assert "moved by" in shown and f"Carried by {len(dim['axes'])} axes" in shown and "in every layer of" in shown


def test_a_tensor_and_the_node_that_reads_it(model: Path) -> None:
    import onnx

    graph = onnx.load(model).graph
    node = next(node for node in graph.node if node.op_type == "MatMul")
    weight = next(name for name in node.input if name in {tensor.name for tensor in graph.initializer})
    one = told(model, "--explain", weight)
    [tensor] = one["tensors"]
    assert [axis for axis, *_ in tensor["axes"]] == [0, 1] and tensor["kind"] == "matrix"
    assert {dim["id"] for dim in one["dims"]} == {ident for _, ident, _, _ in tensor["axes"]}
    seen = told(model, "--explain", node.name)
    assert seen["tensors"] == [tensor] and seen["node"]["op"] == "MatMul"
    assert weight in run(model, "--explain", weight).stdout and "MatMul" in run(model, "--explain", node.name).stdout


def test_what_is_fixed_says_why_and_where(tmp_path: Path) -> None:
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, 6))
    x = b.op("CumSum", x, b.constant(np.array(1, np.int64)))
    b.op("MatMul", x, b.weight(6, 3))
    model = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path)
    dims = json.loads(run(model, "--json").stdout)["structure"]["dims"].values()
    fixed = [dim for dim in dims if not dim["resizable"]]
    assert fixed
    for dim in fixed:
        [found] = told(model, "--explain", dim["name"])["dims"]
        assert not found["resizable"] and found["reason"] == dim["reason"] and found["moved_by"] == []
        assert f"no: {dim['reason'][:20]}" in run(model, "--explain", dim["name"]).stdout


def test_a_name_of_nothing_is_refused_with_the_nearest(model: Path) -> None:
    result = run(model, "--explain", "hiden")
    assert result.exit_code == 1 and "did you mean 'hidden'" in result.stderr
    assert run(model, "--explain", "hidden", "--energy").exit_code == 2
