"""Wrong usage, failures and the shape of the options, with the API replaced where a failure is needed."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Optional

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import Field

from bot_onnx import api
from bot_onnx._cli import cli, output
from bot_onnx._cli.demo_job import Outcome
from bot_onnx._cli.method_options import PREFIX, _option, chosen_options, method_parameters
from bot_onnx._cli.target import default_output
from bot_onnx._ended import Ended
from bot_onnx._model import Model
from bot_onnx._report.demo_report import DemoRow
from bot_onnx._request import ResizeRequest
from bot_onnx._resample import all_methods
from bot_onnx._resample.registry import MethodOptions
from bot_onnx._target import TargetSpec
from bot_onnx._verify import Check, VerifyReport
from bot_onnx.errors import GraphError
from tests.report_samples import resized


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("resize", "m.onnx"), "--spec FILE|NAME"),
        (("resize", "m.onnx", "--round-to", "8"), "--spec FILE|NAME"),
        (("resize", "m.onnx", "--constant", "a=1/sqrt(head_dim)"), "--spec FILE|NAME"),
        (("resize", "--layers", "3"), "Missing argument"),
        (("resize", "m.onnx", "--layers", "three"), "encoder=6,decoder=4"),
        (("resize", "m.onnx", "--hidden", "0"), "--hidden"),
        (("resize", "m.onnx", "--width", "0"), "--width"),
        (("resize", "m.onnx", "--dim", "hidden"), "NAME=VALUE"),
        (("resize", "m.onnx", "--dim", "hidden=wide"), "whole number"),
        (("resize", "m.onnx", "--layers", "3", "--method", "magic"), "scratch"),
        (("resize", "m.onnx", "--layers", "3", "--convention", "loud"), "ortho"),
        (("resize", "m.onnx", "--layers", "3", "--device", "tpu"), "cuda"),
        (("resize", "m.onnx", "--layers", "3", "--method", "scratch", "--wavelet", "db2"), "--std"),
        (("resize", "m.onnx", "--layers", "3", "--std", "0.1"), "of method 'scratch', not of 'bot'"),
        (("resize", "m.onnx", "--layers", "3", "--no-tie-correction", "--method", "scratch"), "'--tie-correction'"),
        (("shrink", "m.onnx"), "No such command"),
        (("resise", "m.onnx"), "Did you mean 'resize'"),
        (("resize", "m.onnx", "--hiden", "3"), "--hidden"),
        (("inspect",), "Missing argument"),
        (("specs", "show"), "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_give(arguments: tuple[str, ...], match: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert match in " ".join(result.stderr.split())
    assert result.stdout == "" and "Traceback" not in result.stderr


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``resize`` hands to the API, which does nothing."""
    seen: dict[str, Any] = {}

    def resize(self: Model, request: ResizeRequest, output: Path, *, force: bool, **way: object) -> object:
        asked = {entry.name: getattr(request, entry.name) for entry in fields(request)}
        seen.update(asked, model=self.source, output=output, force=force, **way)
        return resized()

    monkeypatch.setattr(Model, "resize", resize)
    return seen


def test_everything_given_reaches_the_api(recorded: dict[str, Any], tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    line = (
        "--layers encoder=6,decoder=4 --hidden 384 --heads 6 --kv-heads 2 --head-dim 64 --intermediate 1000 "
        "--vocab 999 --positions 77 --width 0.5 --round-to 8 --dim d3=5 --dim a=b=7 --constant /x/Div=1/sqrt(head_dim) "
        "--wavelet db2 --convention value --layer-axis identity --no-head-dim-correction --seed 9 "
        "--align permute --calibration s.npz --device cpu --external --force --allow-nonfinite --unproven --no-compare "
        "--requantize"
    )
    result = run("resize", str(model), *line.split(), "-o", str(tmp_path / "o.onnx"))
    assert result.exit_code == 0, result.output
    assert recorded.pop("spec") == TargetSpec(
        layers={"encoder": 6, "decoder": 4},
        hidden=384,
        heads=6,
        kv_heads=2,
        head_dim=64,
        intermediate=1000,
        vocab=999,
        positions=77,
        width=0.5,
        round_to=8,
        dims={"d3": 5, "a=b": 7},
        constants={"/x/Div": "1/sqrt(head_dim)"},
    )
    assert recorded.pop("options") == {
        "wavelet": "db2",
        "convention": "value",
        "layer_axis": "identity",
        "head_dim_correction": False,
    }
    assert recorded == {
        "model": str(model),
        "output": tmp_path / "o.onnx",
        "method": "bot",
        "seed": 9,
        "align": "permute",
        "calibration": "s.npz",
        "unproven": True,
        "force": True,
        "resume": False,
        "jobs": 1,
        "scheduler": None,
        "external": True,
        "device": "cpu",
        "allow_nonfinite": True,
        "against": False,
        "requantize": True,
        "learn": None,
        "inputs": None,
        "input_shapes": None,
    }


def test_what_is_not_given_is_left_to_the_api(recorded: dict[str, Any]) -> None:
    assert run("resize", "m.onnx", "--layers", "3").exit_code == 0
    assert recorded["options"] == {} and recorded["external"] is None and recorded["against"] is True
    assert run("resize", "m.onnx", "--layers", "3", "--inline").exit_code == 0
    assert recorded["external"] is False


def test_what_is_learned_reaches_the_api(recorded: dict[str, Any]) -> None:
    line = "--learn 7 --data x.npz --learn-rate 0.1 --learn-batch 8 --learn-mix --held-out 0.2 --length 9 --mean 0.5"
    assert run("resize", "m.onnx", "--layers", "3", *line.split()).exit_code == 0
    learn = recorded["learn"]
    assert (learn.steps, learn.data, learn.rate, learn.batch, learn.mix, learn.held_out) == (
        7, Path("x.npz"), 0.1, 8, True, 0.2
    )  # fmt: skip
    assert learn.reading["length"] == 9 and learn.reading["mean"] == (0.5,)


@pytest.mark.parametrize(
    ("spec", "flags", "name"),
    [
        ("bert-s", {}, "m-bert-s.onnx"),
        ("bert-s", {"layers": 4}, "m-bert-s-layers4.onnx"),
        (None, {"layers": {"encoder": 6, "decoder": 4}, "kv_heads": 2}, "m-layersencoder6-decoder4-kv-heads2.onnx"),
        (None, {"layers": [2, 2, 6]}, "m-layers2-2-6.onnx"),
        (None, {"layers": {"keep": [0, 2, 4]}, "hidden": 8}, "m-layers-keep0-2-4-hidden8.onnx"),
        (None, {"layers": {"repeat": [[0, 8], [4, 12]]}}, "m-layers-repeat0-8-4-12.onnx"),
        (None, {"layers": {"a": {"keep": [0, 2]}, "b": 3}}, "m-layersa-keep0-2-b3.onnx"),
        (None, {"width": 0.5}, "m-width0.5.onnx"),
        (None, {"dims": {"a*b / ../c": 7}}, "m-a_b_.._c7.onnx"),
        ("/hub/bert-base/config.json", {}, "m-bert-base.onnx"),
        ("specs/mine.json", {}, "m-mine.onnx"),
    ],
)
def test_the_default_name(spec: str | None, flags: dict[str, Any], name: str) -> None:
    target = TargetSpec.load("bert-s") if spec == "bert-s" else TargetSpec()
    path = default_output(Path("models/m.onnx"), spec, target, flags)
    assert path == Path("models") / name


def test_the_methods_bring_their_options() -> None:
    flags = {flag for param in method_parameters() for flag in param.opts}
    for method in all_methods().values():
        for name in method.Options.model_fields:
            assert f"--{name.replace('_', '-')}" in flags
    assert {"--method"} <= flags


def test_no_method_option_hides_an_option_of_the_command() -> None:
    command = cli.get_command(click.Context(cli), "resize")
    assert command is not None
    every = [
        flag for param in command.get_params(click.Context(command)) for flag in (*param.opts, *param.secondary_opts)
    ]
    assert len(every) == len(set(every))


class _First(MethodOptions):
    mode: Literal["a", "b"] = Field("a", description="First.")
    amount: Optional[float] = Field(None, description="Amount.")  # noqa: UP045 - both spellings must work
    strict: bool = Field(True, description="Strict.")


class _Second(MethodOptions):
    mode: Literal["b", "c"] | None = Field(None, description="Second.")
    amount: int = Field(3, description="Amount.")


def test_a_name_that_methods_share_is_one_option_that_takes_what_either_takes() -> None:
    first, second = _First.model_fields, _Second.model_fields
    mode = _option("mode", {"one": first["mode"], "two": second["mode"]}, "--mode")
    assert isinstance(mode.type, click.Choice) and list(mode.type.choices) == ["a", "b", "c"]
    assert mode.help is not None and "First. Second." in mode.help and "one/two; default: a" in mode.help
    assert _option("amount", {"one": first["amount"]}, "--amount").type is click.FLOAT
    assert _option("amount", {"one": first["amount"], "two": second["amount"]}, "--amount").type is click.STRING
    strict = _option("strict", {"one": first["strict"]}, "--strict")
    assert (strict.opts, strict.secondary_opts) == (["--strict"], ["--no-strict"])
    assert strict.help is not None and "default: on" in strict.help


def test_options_that_were_not_given_are_left_out() -> None:
    parameters = method_parameters()
    assert chosen_options("bot", {f"{PREFIX}wavelet": "db2", f"{PREFIX}std": None}, parameters) == {"wavelet": "db2"}
    assert chosen_options("bot", {f"{PREFIX}tie_correction": False}, parameters) == {"tie_correction": False}


def test_an_option_that_the_command_has_itself_is_named_after_its_method() -> None:
    flags = {param.name: param.opts[0] for param in method_parameters({"--std", "--no-truncated"})}
    assert flags[f"{PREFIX}std"] == "--scratch-std"
    assert flags[f"{PREFIX}truncated"] == "--scratch-truncated"
    assert flags[f"{PREFIX}wavelet"] == "--wavelet"


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def instead_of(ending: BaseException) -> RuntimeError:
    """What :mod:`threading` raises where a signal comes while it hands a lock back."""
    error = RuntimeError("cannot release un-acquired lock")
    error.__context__ = ending
    return error


@pytest.mark.parametrize(
    ("error", "code", "match"),
    [
        (GraphError("model 'm':\n  node 'a\x1b[31m' is\tbad"), 1, r"error: model 'm': node 'a\x1b[31m' is bad"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "/x/m.onnx"), 1, "error: /x/m.onnx: No space left on device"),
        (MemoryError("Unable to allocate 9 GiB"), 1, "error: not enough memory: Unable to allocate 9 GiB"),
        (ZeroDivisionError("float division"), 4, "error: unexpected ZeroDivisionError: float division"),
        (Ended(143), 143, ""),
        (instead_of(Ended(143)), 143, ""),
        (instead_of(KeyboardInterrupt()), 130, "interrupted"),
    ],
)
def test_every_failure_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, match: str
) -> None:
    monkeypatch.delenv("BOT_ONNX_DEBUG", raising=False)
    monkeypatch.setattr(api, "inspect", failing(error))
    result = run("inspect", "m.onnx")
    assert result.exit_code == code
    assert match in result.stderr
    assert result.stderr.count("\n") <= 1 and result.stdout == ""


def test_defects_ask_to_be_reported_and_show_their_place_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "inspect", failing(ZeroDivisionError("float division")))
    monkeypatch.setenv("BOT_ONNX_DEBUG", "0")
    plain = run("inspect", "m.onnx")
    assert "please report it" in plain.stderr and "Traceback" not in plain.stderr
    monkeypatch.setenv("BOT_ONNX_DEBUG", "1")
    shown = run("inspect", "m.onnx")
    assert "Traceback" in shown.stderr and "ZeroDivisionError" in shown.stderr
    assert shown.exit_code == plain.exit_code == 4


def test_a_failed_check_exits_with_3_after_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        api, "verify", lambda *_, **__: VerifyReport("m", (Check("run", "fail", "it stops at node 3"),))
    )
    result = run("verify", "m.onnx")
    assert result.exit_code == 3
    assert "it stops at node 3" in result.stdout and "FAILED: run" in result.stdout


def test_the_demo_fails_if_growing_changes_a_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(kept: float | None) -> DemoRow:
        return DemoRow("m", 6, {"hidden": 64}, 10, 40, 0.01, 0.98, kept, 0.5)

    found = Outcome((row(None), row(0.1), row(357 / 360)), 360, 28)
    monkeypatch.setattr("bot_onnx._cli.demo_job.run_demo", lambda *_: found)
    result = run("demo")
    assert result.exit_code == 3
    assert "growing changed 3 of 360 predictions" in result.stderr
    assert "99.2 %" in result.stdout and "Growing kept" not in result.stdout


@pytest.mark.parametrize(
    ("name", "match"),
    [("m.onnx", "a source of this command"), ("old.json", "--force"), ("old.json/plan.json", "is not a folder")],
)
def test_the_plan_file_never_replaces_anything(tmp_path: Path, name: str, match: str) -> None:
    for file in ("m.onnx", "old.json"):
        (tmp_path / file).write_text("kept")
    result = run("resize", str(tmp_path / "m.onnx"), "--layers", "3", "--dry-run", "--plan-out", str(tmp_path / name))
    assert result.exit_code == 1 and match in result.stderr
    assert [(tmp_path / file).read_text() for file in ("m.onnx", "old.json")] == ["kept", "kept"]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_for(found: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not found() and time.monotonic() < end:
        time.sleep(0.01)
    return found()


def test_a_bar_appears_once_the_work_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(output, "PATIENCE", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    with output.activity("reading m.onnx") as bar:
        assert bar is not None
        assert wait_for(lambda: "reading m.onnx" in terminal.getvalue())
        bar.update("blocks.*.query", 5, 10)
        assert wait_for(lambda: "blocks.*.query" in terminal.getvalue())


def test_no_bar_appears_for_short_work_or_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.activity("reading"):
        pass
    with output.activity("reading", silent=True) as bar:
        assert bar is None
    assert terminal.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with output.activity("reading") as bar:
        assert bar is None
