"""Methods of other packages: found by their entry point, refused by name where they are broken, harmless to others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._resample import all_methods, get_method, make_options, refused_methods, registry, shrinking_operators
from bot_onnx.errors import ResampleError
from tests.graphs import residual_mlp_model, save
from tests.method_runs import leaf, run, task

GOOD = '''
import numpy as np
from pydantic import Field
from bot_onnx._resample import LayeredMethod, MethodOptions

class Options(MethodOptions):
    """Its options."""
    offset: int = Field(0, description="The first index that is kept.")

class Every(LayeredMethod[Options]):
    """Every so many indices."""
    name = "every"
    title = "every so many indices"
    reference = "none"
    direction = "shrink"
    promises = ("exact-size",)
    Options = Options

    def layer_mode(self, options):
        return "even"

    def axis_operator(self, n_source, n_target, options, *, direction="out"):
        picks = (np.arange(n_target) * n_source // n_target + options.offset) % n_source
        return np.eye(n_source)[picks]
'''

#: What may be wrong with a module, and what the refusal says of it.
BROKEN = {
    "cannot be imported": ("import nothing_of_this_name\n", "ModuleNotFoundError: No module named"),
    "ends the program": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "is no method": ("class Every:\n    pass\n", "is no bot_onnx._resample.Method"),
    "has another name": (GOOD.replace('name = "every"', 'name = "other"'), "calls itself 'other'"),
    "has no title": (GOOD.replace('title = "every so many indices"', ""), "has no 'title'"),
    "goes nowhere": (GOOD.replace('"shrink"', '"sideways"'), "direction 'sideways' is none of"),
    "has foreign options": (GOOD.replace("    Options = Options", "    Options = dict"), "are no bot_onnx._resample"),
    "is abstract": (GOOD.replace("def layer_mode", "def other"), "abstract"),
}

Ship = Callable[..., None]


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ship]:
    """Puts a distribution with an entry point on ``sys.path``."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(code: str, *, name: str = "every", package: str = "every-method", module: str = "every_method") -> None:
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{package.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[bot_onnx.methods]\n{name} = {module}:Every\n")
        registry._shipped.cache_clear()

    before = set(sys.modules)
    yield put
    registry._shipped.cache_clear()
    for module in set(sys.modules) - before:
        if module.endswith("_method"):
            del sys.modules[module]


def test_a_method_gives_its_mode_and_its_operator(ship: Ship, tmp_path: Path) -> None:
    ship(GOOD)
    assert list(all_methods())[-1] == "every" and make_options("every", offset=1)
    weights = [np.arange(8.0 * layer, 8.0 * layer + 8).reshape(4, 2) for layer in range(4)]
    made = run("every", task("matrix", (leaf(4, 2), leaf(2, 2)), ("out", "in"), layers=(4, 2)), weights, offset=1)
    np.testing.assert_array_equal(made, [weights[0][[1, 3]], weights[2][[1, 3]]])
    assert shrinking_operators()["every"](4, 2).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
    path = save(residual_mlp_model(), tmp_path)
    result = bot_onnx.resize(path, {"layers": 2, "hidden": 4}, tmp_path / "out.onnx", method="every")
    assert result.plan.method == "every" and result.report.passed
    first = onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    kept = onnx.numpy_helper.to_array(onnx.load(result.output).graph.initializer[0])
    np.testing.assert_array_equal(kept, first[:, ::2])


def test_commands_have_its_name_and_options(ship: Ship, tmp_path: Path) -> None:
    ship(GOOD)
    out = tmp_path / "out.onnx"
    path = save(residual_mlp_model(), tmp_path)
    from bot_onnx._cli.method_options import method_parameters

    parameters = {parameter.name: parameter for parameter in method_parameters()}
    kind = parameters["method"].type
    assert isinstance(kind, click.Choice) and "every" in kind.choices and "method_option_offset" in parameters
    done = CliRunner().invoke(cli, ["resize", str(path), "--hidden", "4", "-o", str(out), "--method", "ws", "--quiet"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("fault", list(BROKEN))
def test_a_broken_package_is_refused_by_name_and_breaks_no_other(ship: Ship, fault: str) -> None:
    code, says = BROKEN[fault]
    ship(code)
    assert "every" not in all_methods() and {"bot", "ws"} <= set(all_methods())
    assert list(refused_methods()) == ["every"]
    with pytest.raises(
        ResampleError, match=r"method 'every' of package 'every-method' 1\.5 cannot be used: "
    ) as refused:
        make_options("every")
    assert says in str(refused.value) and "update that package" in str(refused.value)
    assert make_options("bot") and set(shrinking_operators()) >= {"bot", "ws"}


def test_nothing_replaces_a_built_in_method(ship: Ship) -> None:
    ship(GOOD.replace('name = "every"', 'name = "bot"'), name="bot")
    assert get_method("bot").title.startswith("BoT") or type(get_method("bot")).__module__.endswith("methods.bot")
    assert not refused_methods() and "a built-in method has this name" in registry._shipped().refused["bot"]


def test_two_packages_of_one_name_are_both_refused(ship: Ship) -> None:
    ship(GOOD)
    ship(GOOD, package="other-method", module="other_method")
    with pytest.raises(ResampleError, match=r"'every-method' 1\.5 .*2 packages bring.*'other-method' 1\.5"):
        get_method("every")


_NEXT = """return "even"

    def transform(self, task, options, *, xp, seed):
        return lambda x: """


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("x.gone", "failed: AttributeError: .*gone"),
        ("x[:1]", r"made a tensor of shape \(1, 2\) for stack s0, not \(2, 2\)"),
    ],
)
def test_what_goes_wrong_later_is_told_of_the_package(ship: Ship, change: str, says: str) -> None:
    ship(GOOD.replace('return "even"', _NEXT + change).replace("return np.eye(n_source)[picks]", "return None"))
    work = task("matrix", (leaf(4, 2), leaf(2, 2)), ("out", "in"))
    with pytest.raises(ResampleError, match=f"method 'every' of package 'every-method' 1.5 {says}"):
        run("every", work, [np.zeros((4, 2))])
    assert "bot" in shrinking_operators() and "every" not in shrinking_operators()


def test_built_in_methods_need_no_other_package(ship: Ship, monkeypatch: pytest.MonkeyPatch) -> None:
    ship(BROKEN["ends the program"][0])
    monkeypatch.setattr(registry, "find_shipped", lambda taken: pytest.fail("nobody asked for it"))
    assert make_options("bot") and get_method("front")
