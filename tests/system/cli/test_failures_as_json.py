"""What fails is JSON as well, where that is asked for, and exit codes tell refusals, checks and defects apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from bot_onnx import api
from bot_onnx._cli import cli
from bot_onnx._cli.app import commands
from bot_onnx._cli.commands.resize import TARGET_KEYS
from bot_onnx._cli.commands.resize import command as resize
from bot_onnx._cli.learn_option import OF_LEARNING
from bot_onnx._cli.request_options import ASKED
from bot_onnx._request import ResizeRequest
from bot_onnx._verify import Check, VerifyReport
from bot_onnx.errors import VerifyError
from tests.graphs import residual_mlp_model, save

KEYS = {"kind", "message", "node", "dim", "alternatives"}

#: A line for every command that has ``--json``, which is refused.
REFUSED = {
    "inspect": ("inspect", "missing.onnx"),
    "resize": ("resize", "missing.onnx", "--hidden", "3"),
    "verify": ("verify", "missing.onnx"),
    "export": ("export", "missing.onnx"),
    "import": ("import", "missing.onnx", "--from", "missing.safetensors"),
    "recover": ("recover", "missing.onnx", "--teacher", "none.onnx", "--data", "none.npz"),
    "fit": ("fit", "missing.onnx", "--max-size", "1MB"),
    "sweep": ("sweep", "missing.onnx", "--spec", "bert-s"),
    "quantize": ("quantize", "missing.onnx", "--to", "int8"),
    "report": ("report", "missing.onnx", "-o", "report.html"),
    "run": ("run", "missing.yaml"),
    "demo": ("demo", "--keep", "."),
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def told(result: Result) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(result.stdout)
    assert value.keys() == {"error"} and value["error"].keys() == KEYS
    return value["error"]  # type: ignore[no-any-return]


def with_json(command: click.Command, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All commands with ``--json``, by their words."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        inner = ((name, command.get_command(context, name)) for name in command.list_commands(context))
        return [found for name, sub in inner if sub is not None for found in with_json(sub, (*names, name))]
    return [names] if any("--json" in param.opts for param in command.params) else []


def test_every_command_with_json_is_tried_here() -> None:
    assert set(with_json(cli, ())) == {
        *((name,) for name in REFUSED),
        ("specs", "list"),
        ("methods", "list"),
        ("methods", "show"),
    }
    assert {*REFUSED, "specs", "methods"} == set(commands())


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_refusal_is_json_on_stdout(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_bytes(b"")
    result = run(*REFUSED[name], "--json")
    assert result.exit_code == 1
    error = told(result)
    assert error["message"] and result.stderr == f"error: {' '.join(error['message'].split())}\n"
    assert error["kind"] in ("graph", "output", "runtime", "recover", "checkpoint", "spec")


@pytest.mark.parametrize("name", [*REFUSED, "specs list", "methods show"])
def test_wrong_usage_is_json_on_stdout(name: str) -> None:
    result = run(*name.split(), "--json", "--nonsense")
    assert result.exit_code == 2
    assert told(result)["kind"] == "usage" and "--nonsense" in told(result)["message"]
    assert result.stderr.startswith("Usage: ")


def test_without_json_stdout_stays_empty() -> None:
    assert run("inspect", "missing.onnx").stdout == run("inspect", "missing.onnx", "--", "--json").stdout == ""


def test_what_is_known_of_a_refusal_is_told(tmp_path: Path) -> None:
    path = save(residual_mlp_model(), tmp_path)
    result = run("resize", path, "--dim", "hiden=4", "--json")
    assert (result.exit_code, told(result)["kind"], told(result)["dim"]) == (1, "dim", "hiden")
    assert told(result)["alternatives"] == ["hidden"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (VerifyError("a check"), "check", 3),
        (ZeroDivisionError("by nothing"), "defect", 4),
        (MemoryError(), "memory", 1),
        (OSError(28, "No space left on device", "/x"), "system", 1),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_exit_codes_tell_them_apart(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, kind: str, code: int
) -> None:  # fmt: skip
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, "inspect", fail)
    result = run("inspect", "m.onnx", "--json")
    assert (result.exit_code, told(result)["kind"]) == (code, kind)


def test_a_failed_verification_is_its_report_and_no_second_value(monkeypatch: pytest.MonkeyPatch) -> None:
    report = VerifyReport("m", (Check("run", "fail", "it stops"),))
    monkeypatch.setattr(api, "verify", lambda *_, **__: report)
    result = run("verify", "m.onnx", "--json")
    assert result.exit_code == 3 and json.loads(result.stdout)["passed"] is False


def test_a_crash_of_the_runtime_is_told_as_json() -> None:
    code = (
        "import os, signal\n"
        "from bot_onnx._cli.last_resort import crash_as_json, explain_crashes\n"
        "explain_crashes()\ncrash_as_json()\nos.kill(os.getpid(), signal.{})\n"
    )
    for name, expected, kind in (("SIGABRT", 4, "crash"), ("SIGBUS", 1, "graph")):
        done = subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True, check=False)
        assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (expected, kind)
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_every_option_of_resize_is_a_field_of_the_request() -> None:
    """What is asked is in one place: an option is a field, a part of its spec or options, or about the command."""
    fields = set(ResizeRequest.__dataclass_fields__)
    about_the_command = {"model", "output", "force", "resume", "plan_out", "dry_run", "as_json", "quiet"}
    about_the_command |= {"jobs", "scheduler"}  # who does the work
    about_the_command |= {"plan", "against_plan"}  # a request that was saved
    about_the_command |= {"models", "connect"}  # several files
    about_the_command |= OF_LEARNING - {"learn"}  # fields of what 'learn' is
    about_the_command |= {"shard_size"}  # what 'external' may be
    about_the_command |= {"file", "quantize", "quantize_on", "recipe_out"}  # more commands, on what the request gives
    about_the_command |= {"vocab_from", "vocab_keep", "vocab_size", "tokenizer"}  # by which the spec gets its tokens
    names = {str(param.name) for param in resize.get_params(click.Context(resize)) if "--help" not in param.opts}
    left = {name for name in names - about_the_command - fields - {*TARGET_KEYS} if "method_option_" not in name}
    assert not left
    assert fields - names == {"options"} and set(ASKED) < fields
