"""The five exercises of CONTRIBUTING.md: what a newcomer adds in one file is found by all that must know of it.

Each code here is the one that is printed there; a test says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import bot_onnx
from bot_onnx._axes.rules.base import RULES
from bot_onnx._cli import cli
from bot_onnx._cli.method_options import PREFIX
from bot_onnx._folders import config
from bot_onnx._folders.sizes import Sizes
from bot_onnx._ops import elementwise, find, registry
from bot_onnx._reasons import Why
from bot_onnx._resample import all_methods
from bot_onnx._resample import registry as methods
from bot_onnx._target import TargetSpec, config_families
from bot_onnx._verify import checks
from tests.graphs import GraphBuilder, residual_mlp_model, save

GUIDE = (Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")

OP = 'register("CumProd", axes=Axes.FIRST, ordered=True)'

METHOD = '''
"""Nearest: every index takes the nearest one of the source."""

import numpy as np
from numpy.typing import NDArray

from bot_onnx._resample.depth import LayerAxis
from bot_onnx._resample.layered import LayeredMethod
from bot_onnx._resample.registry import AxisDirection, MethodOptions


class Nearest(LayeredMethod[MethodOptions]):
    """Whole elements, none of them mixed."""

    name = "nearest"
    title = "every index takes the nearest one of the source"
    reference = "none"
    direction = "both"
    promises = ("exact-size", "deterministic")
    Options = MethodOptions

    def layer_mode(self, options: MethodOptions) -> LayerAxis:
        """Evenly spaced layers."""
        return "even"

    def axis_operator(
        self, n_source: int, n_target: int, options: MethodOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """One 1 a row."""
        return np.eye(n_source)[np.arange(n_target) * n_source // n_target]


METHOD = Nearest()
'''

COMMAND = '''
"""``bot-onnx opset``."""

from pathlib import Path

import click

from bot_onnx._cli.output import show_json
from bot_onnx._cli.parameters import json_option, model_argument
from bot_onnx._cli.paths import Command


@click.command(
    short_help="Tell the opsets of a model.", cls=Command, epilog="\\b\\nExample:\\n  bot-onnx opset model.onnx"
)
@model_argument
@json_option
def command(model: Path, as_json: bool) -> None:
    """Tell the opsets of MODEL."""
    from bot_onnx._onnxfile.reader import open_model

    with open_model(model) as source:
        opsets = {entry.domain or "ai.onnx": entry.version for entry in source.proto.opset_import}
    if as_json:
        show_json(opsets)
    else:
        click.echo(", ".join(f"{domain} {version}" for domain, version in opsets.items()))
'''

CHECK = '''
def described(seen: Examination) -> Iterable[Check]:
    """``described``: whether somebody has said what the model is for."""
    text = seen.source.proto.doc_string
    return [Check("described", "pass" if text else "info", text or "it has no doc_string")]
'''

FAMILY = 'Family(keys={"hidden": ("model_width",), "intermediate": ("mlp_width",)}, four_times=True)'


@pytest.mark.parametrize("code", [OP, METHOD, COMMAND, CHECK, FAMILY])
def test_the_guide_shows_the_code_that_is_tried_here(code: str) -> None:
    shown = [line.strip() for line in GUIDE.splitlines()]
    lines = [line.strip() for line in code.strip().splitlines()]
    assert any(
        shown[start : start + len(lines)] == lines or (len(lines) == 1 and lines[0] in line)
        for start, line in enumerate(shown)
    )


def test_an_op_is_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is all that is needed: with it an op is resized that cannot be tried alone, without it nothing is."""
    assert f"\n{OP}\n" in Path(elementwise.__file__).read_text(encoding="utf-8")
    known, like = find("CumProd"), find("CumSum")  # which onnxruntime runs
    assert known is not None and like == replace(known, name="CumSum")
    b = GraphBuilder()
    sums = b.op("CumSum", b.op("MatMul", "x", b.weight(3, 8)), b.constant(np.array(0, np.int64)))  # along the batch
    path = save(b.model([("x", ["batch", 3])], [b.op("MatMul", sums, b.weight(8, 2))]), tmp_path)
    monkeypatch.setattr("bot_onnx._runs.probe._Trial.run", lambda self, sizes: None)
    with monkeypatch.context() as without:
        without.delitem(registry._RECORDS, ("", "CumSum"))
        without.delitem(RULES, "CumSum")
        frozen = [dim.frozen for dim in bot_onnx.inspect(path).structure.dims.values() if dim.size == 8]
        assert frozen and all(why is not None and why.kind is Why.NO_RULE and why.op == "CumSum" for why in frozen)
    out = bot_onnx.resize(path, {"width": 0.5}, tmp_path / "half.onnx", method="ws").output
    (first, last), made = matrices(path), matrices(out)
    np.testing.assert_array_equal(made[0], first[:, ::2])
    np.testing.assert_array_equal(made[1], last[::2])


def matrices(path: Path) -> list[np.ndarray[Any, Any]]:
    """The weights of a file that are matrices, in order."""
    return [onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if len(t.dims) == 2]


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files are also those of the folders of methods and of commands."""
    folder = tmp_path / "added"
    folder.mkdir()
    packages: list[ModuleType] = [import_module(f"bot_onnx.{n}") for n in ("_resample.methods", "_cli.commands")]
    for package in packages:
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    for name in ("resize", "sweep"):  # commands keep the methods' options that they have found
        command = import_module(f"bot_onnx._cli.commands.{name}").command
        own = [p for p in command.params if p.name != "method" and not p.name.startswith(PREFIX)]
        monkeypatch.setattr(command, "params", own)
    before = set(sys.modules)
    for kept in (methods._built_in, methods._shipped):
        kept.cache_clear()
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith(tuple(f"{package.__name__}." for package in packages)):
            del sys.modules[name]
    for kept in (methods._built_in, methods._shipped):
        kept.cache_clear()


def test_a_method_is_one_file(added: Path, tmp_path: Path) -> None:
    for name in methods._built_in():
        import_module(f"bot_onnx._resample.methods.{name}")
    (added / "nearest.py").write_text(METHOD)
    methods._built_in.cache_clear()
    assert "nearest" in all_methods()
    path, out = save(residual_mlp_model(), tmp_path), tmp_path / "out.onnx"
    made = CliRunner().invoke(cli, ["resize", str(path), "--hidden", "4", "--method", "nearest", "-o", str(out), "-q"])
    assert made.exit_code == 0, made.output
    first, kept = (onnx.numpy_helper.to_array(onnx.load(p).graph.initializer[0]) for p in (path, out))
    np.testing.assert_array_equal(kept, first[:, ::2])
    assert bot_onnx.operator("nearest", 2, 3).tolist() == [[1, 0], [1, 0], [0, 1]]


def test_a_command_is_one_file(added: Path, tmp_path: Path) -> None:
    (added / "opset.py").write_text(COMMAND)
    overview = CliRunner().invoke(cli, ["--help"]).stdout
    assert "opset     Tell the opsets of a model." in overview
    path = save(residual_mlp_model(), tmp_path)
    assert CliRunner().invoke(cli, ["opset", str(path)]).stdout == "ai.onnx 17\n"
    assert json.loads(CliRunner().invoke(cli, ["opset", str(path), "--json"]).stdout) == {"ai.onnx": 17}
    refused = CliRunner().invoke(cli, ["opset", str(tmp_path / "none.onnx"), "--json"])
    told, _ = json.JSONDecoder().raw_decode(refused.stdout)  # older versions of click put stderr behind it
    assert refused.exit_code == 1 and told["error"]["kind"] == "graph"


def test_a_check_is_one_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, object] = {"Examination": checks.Examination, "Check": checks.Check, "Iterable": Iterable}
    exec(CHECK, space)
    monkeypatch.setattr(checks, "CHECKS", (*checks.CHECKS, space["described"]))
    model = residual_mlp_model()
    report = bot_onnx.verify(save(model, tmp_path))
    assert report.checks[-1] == checks.Check("described", "info", "it has no doc_string")
    model.doc_string = "for tests"
    path = save(model, tmp_path)
    assert CliRunner().invoke(cli, ["verify", str(path)]).stdout.count("for tests") == 1
    told = json.loads(CliRunner().invoke(cli, ["verify", str(path), "--json"]).stdout)
    assert told["checks"][-1] == {"name": "described", "status": "pass", "detail": "for tests"}


def test_a_familys_keys_are_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"model_type": "novel", "model_width": 8, "n_layer": 3, "mlp_width": 16, "vocab_size": 11}
    monkeypatch.setitem(config_families.FAMILIES, "novel", eval(FAMILY, {"Family": config_families.Family}))
    written = tmp_path / "config.json"
    written.write_text(json.dumps(source))
    spec = TargetSpec.load(written)
    assert (spec.hidden, spec.intermediate, spec.layers) == (8, 16, 3)
    moves = {"hidden": (8, 4), "intermediate": (16, 10), "vocab": (11, 11)}
    plan = Sizes({role: frozenset([move]) for role, move in moves.items()}, ((3, 2),))
    made = config.resized(source, plan, "config.json")
    assert made.data == {**source, "model_width": 4, "n_layer": 2, "mlp_width": 10} and made.notes == []
    del source["mlp_width"]
    written.write_text(json.dumps(source))
    assert TargetSpec.load(written).intermediate == 32  # four times
