"""Many dims are shown by stages: by scopes in names, else by widths along the graph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import bot_onnx
from bot_onnx._cli.app import cli
from bot_onnx._report.dim_groups import dim_groups, ranges, scope_of, sizes
from bot_onnx._report.inspect_report import inspect_report
from bot_onnx._report.json_report import inspection_json
from bot_onnx._structure import Stack, Structure
from tests.graphs import save
from tests.report_samples import inspected, row, text

#: Width of each convolution, stage by stage, and what PyTorch would name it.
WIDTHS = (8, 8, 12, 8, 16, 16, 24)
MODULES = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer2.0.conv1", "layer2.0.conv2", "head.1")


def cnn(names: Sequence[str], widths: Sequence[int] = WIDTHS, scopes: Sequence[str] | None = None) -> onnx.ModelProto:
    """Convolutions of 3 by 3 one after the other, weights and nodes named as given."""
    rng = np.random.default_rng(0)
    nodes, tensors, value, before = [], [], "image", 3
    for number, (name, width) in enumerate(zip(names, widths, strict=True)):
        array = rng.standard_normal((width, before, 3, 3)).astype(np.float32) * 0.2
        tensors.append(numpy_helper.from_array(array, name))
        scope = None if scopes is None else scopes[number]
        made = f"v{number}"
        nodes.append(helper.make_node("Conv", [value, name], [made], name=scope, pads=[1, 1, 1, 1]))
        last = number == len(names) - 1
        nodes.append(helper.make_node("Relu", [made], ["out" if last else f"r{number}"]))
        value, before = f"r{number}", width
    port = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", before, 8, 8])
    graph = helper.make_graph(nodes, "cnn", [port], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def widths_by_group(structure: Structure) -> dict[str, list[int]]:
    """Sizes of the channel dims of each group."""
    groups = dim_groups(structure)
    assert sorted(ident for group in groups for ident in group.dims) == sorted(structure.dims)  # each dim is in one
    dims = structure.dims
    return {g.name: [dims[i].size for i in g.dims if dims[i].role not in ("spatial", "io")] for g in groups}


STAGES = {"conv1": [8], "layer1": [8, 12, 8], "layer2": [16, 16], "head.1": [24]}


def test_stages_are_told_by_the_names_of_weights() -> None:
    structure = bot_onnx.inspect(cnn([f"{module}.weight" for module in MODULES])).structure
    assert widths_by_group(structure) == STAGES
    assert {group.by for group in dim_groups(structure)} == {"scope"}


def test_stages_are_told_by_the_scopes_of_nodes_where_weights_have_none() -> None:
    names = [f"onnx::Conv_{number}" for number in range(70, 77)]
    scopes = ["/" + module.replace(".", "/") + "/Conv" for module in MODULES]
    assert widths_by_group(bot_onnx.inspect(cnn(names, scopes=scopes)).structure) == STAGES


def test_the_scope_that_all_share_tells_nothing() -> None:
    names = [f"model.backbone.{module}.weight" for module in MODULES]
    assert widths_by_group(bot_onnx.inspect(cnn(names)).structure) == STAGES


def test_a_stage_with_most_of_the_dims_is_split() -> None:
    modules = ["0.a.1.conv", "0.a.1.proj", "0.a.2.conv", "0.a.2.proj", "0.a.3.conv", "0.a.3.proj", "1.head.conv"]
    found = widths_by_group(bot_onnx.inspect(cnn([f"{module}.weight" for module in modules])).structure)
    assert found == {"a.1": [8, 8], "a.2": [12, 8], "a.3": [16, 16], "1": [24]}


@pytest.mark.parametrize("name", ["conv2d_{}.w_0", "w{}", "{}"])
def test_numbered_weights_are_no_stages_so_widths_tell(name: str) -> None:
    names = [name.format(number) for number in range(100, 107)]
    structure = bot_onnx.inspect(cnn(names, (16, 8, 16, 32, 4, 32, 8))).structure
    assert widths_by_group(structure) == {"part 1": [16, 8, 16], "part 2": [32, 4, 32], "part 3": [8]}
    assert {group.by for group in dim_groups(structure)} == {"place"}


def test_few_dims_are_shown_one_by_one() -> None:
    inspection = bot_onnx.inspect(cnn([f"{module}.weight" for module in MODULES[:5]], WIDTHS[:5]))
    assert len(inspection.structure.dims) == 16 and dim_groups(inspection.structure) == ()
    assert "dim_12" in text(inspect_report(inspection)) and inspection_json(inspection)["groups"] == []


def test_groups_that_would_not_be_fewer_are_none() -> None:
    one = {f"d{n}": replace(inspected().structure.dims["d0"], id=f"d{n}", name=f"dim_{n}", size=n) for n in range(20)}
    stacks = [
        Stack(f"s{n}", f"layer{n}.w.bias", None, (f"b{n}",), "FLOAT", (f"d{n}",), (n,), "bias", ("out",))
        for n in range(20)
    ]
    assert dim_groups(Structure(one, (), tuple(stacks))) == ()


def test_the_report_has_a_row_a_stage_and_every_dim_where_asked() -> None:
    inspection = bot_onnx.inspect(cnn([f"{module}.weight" for module in MODULES]))
    printed = text(inspect_report(inspection))
    assert "Dims: 22 in 4 stages, by names (--dims: each)" in printed
    assert row(printed.split("Costs")[1], "layer1").split() == [
        "layer1", "9", "8", "x", "2,", "12", "3", "x", "6", "d4", "-", "d12",
    ]  # fmt: skip
    assert "dim_12 " not in printed.split("Stacks")[0]
    each = text(inspect_report(inspection, every_dim=True))
    assert "dim_12 " in each.split("Stacks")[0] and "--dims" not in each


def test_the_command_line_has_groups_in_both_forms(tmp_path: Path) -> None:
    path = str(save(cnn([f"{module}.weight" for module in MODULES]), tmp_path))
    told = json.loads(CliRunner().invoke(cli, ["inspect", path, "--json"]).stdout)
    assert [(group["name"], group["by"], len(group["dims"])) for group in told["groups"]] == [
        ("conv1", "scope", 4), ("layer1", "scope", 9), ("layer2", "scope", 6), ("head.1", "scope", 3),
    ]  # fmt: skip
    assert "in 4 stages" in CliRunner().invoke(cli, ["inspect", path]).stdout
    assert "in 4 stages" not in CliRunner().invoke(cli, ["inspect", path, "--dims"]).stdout


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("layer1.0.conv2.weight", ("layer1", "0", "conv2")),
        ("blocks.blocks.1.blocks.1.0.conv_pw.Conv", ("blocks", "1", "0", "conv_pw")),
        ("blocks.0.0.conv_pw.weight", ("blocks", "0", "0", "conv_pw")),
        ("stage1_unit2_conv1_weight", ("stage1", "unit2", "conv1")),
        ("model/block_3_expand/Conv2D", ("model", "block_3", "expand")),
        ("conv2d_161.w_0", ("conv2d_161",)),
        ("onnx::Conv_71", ()),
        ("", ()),
    ],
)
def test_scopes(name: str, scope: tuple[str, ...]) -> None:
    stack = Stack("s0", name, None, ("w",), "FLOAT", (), (), "other", ())
    assert scope_of(stack) == scope


def test_texts_of_sizes_and_ids() -> None:
    dims = inspected().structure.dims
    wide = [replace(dims["d0"], name=name, size=64) for name in ("dim_64", "dim_64_2", "hidden")]
    assert sizes(wide) == "64 x 2, hidden 64"
    order = [f"d{n}" for n in range(12)]
    assert ranges(["d3", "d1", "d2", "d10", "d11", "d6"], order) == "d1 - d3, d6, d10, d11"
