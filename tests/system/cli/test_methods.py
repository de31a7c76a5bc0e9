"""``bot-onnx methods``, other words for commands and options, and completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._resample import all_methods
from tests.graphs import residual_mlp_model, save

ROOT = Path(bot_onnx.__file__).resolve().parents[1]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_all_methods_are_listed() -> None:
    told = json.loads(run("methods", "list", "--json").stdout)
    assert [method["name"] for method in told] == list(all_methods())
    shown = run("methods", "list").stdout
    assert all(name in shown for name in all_methods())


@pytest.mark.parametrize("name", list(all_methods()))
def test_every_option_of_a_method_is_shown_with_its_default_and_page(name: str) -> None:
    told = json.loads(run("methods", "show", name, "--json").stdout)
    fields = all_methods()[name].Options.model_fields
    assert {option["name"]: option["default"] for option in told["options"]} == {
        key: field.default for key, field in fields.items()
    }
    assert all(option["help"] and option["type"] for option in told["options"])
    assert (ROOT / told["page"]).is_file()
    shown = run("methods", "show", name).stdout
    assert all(option["flag"] in shown for option in told["options"]) and told["page"] in shown


def test_the_words_of_an_option_are_told() -> None:
    options = {one["name"]: one for one in json.loads(run("methods", "show", "bot", "--json").stdout)["options"]}
    assert "ortho" in options["convention"]["type"] and "value" in options["convention"]["type"]
    assert "did you mean 'front'" in run("methods", "show", "fornt").stderr


def test_what_people_write_for_our_words_is_taken(tmp_path: Path) -> None:
    source, out = save(residual_mlp_model(), tmp_path), tmp_path / "out.onnx"
    assert run("resize", source, "--hidden", "4", "--out", out).exit_code == 0 and out.is_file()
    halves = tmp_path / "halves.onnx"
    assert run("quantise", source, "--to", "fp16", "--out", halves).exit_code == 0 and halves.is_file()


def test_shells_complete_commands_and_options() -> None:
    for words, expected in (("bot-onnx res", "resize"), ("bot-onnx quantize --cal", "--calibration")):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "_BOT_ONNX_COMPLETE": "bash_complete"}
        environment |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        done = subprocess.run(
            [sys.executable, "-c", "from bot_onnx._cli import main; main()"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert f"plain,{expected}" in done.stdout
