"""``bot-onnx run``: a recipe is checked as a whole, makes what is not there yet, and leaves the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._onnxfile.reader import open_model
from tests.graphs import residual_mlp_model, save

RESIZE = {"resize": {"hidden": 4, "layers": 2}}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def written(folder: Path, *steps: Any, name: str = "recipe.json", **more: Any) -> Path:
    """A recipe in JSON, which needs no library."""
    path = folder / name
    path.write_text(json.dumps({"model": "model.onnx", "output": "out.onnx", "steps": steps, **more}))
    return path


def done(*arguments: str | Path) -> dict[str, Any]:
    result = run("run", *arguments, "--json")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def states(told: dict[str, Any]) -> list[str]:
    return [step["state"] for step in told["steps"]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save(residual_mlp_model(), tmp_path)
    return tmp_path


def test_the_steps_run_in_their_order_and_the_last_model_gets_the_name(place: Path) -> None:
    recipe = written(place, RESIZE, "verify", {"quantize": {"to": "fp16"}}, {"card": {"licence": "mit"}})
    told = done(recipe)
    assert [step["name"] for step in told["steps"]] == ["resize", "verify", "quantize", "card"]
    assert states(told) == ["made"] * 4 and told["output"] == str(place / "out.onnx")
    assert {entry.name for entry in place.iterdir()} == {
        "model.onnx", "out.md", "out.onnx", "recipe.json", "recipe.work",
    }  # fmt: skip
    alone, halves = place / "alone" / "out.onnx", place / "halves" / "out.onnx"
    assert run("resize", place / "model.onnx", "--hidden", "4", "--layers", "2", "-o", alone).exit_code == 0
    assert (place / "recipe.work" / "1-resize" / "out.onnx").read_bytes() == alone.read_bytes()
    assert run("quantize", alone, "--to", "fp16", "-o", halves).exit_code == 0
    assert (place / "out.onnx").read_bytes() == halves.read_bytes()
    card = (place / "out.md").read_text()
    assert card.startswith("---\nlicense: mit\n") and '"hidden": 4' in card
    with open_model(place / "model.onnx") as source:
        assert source.sha256() in card


def test_what_is_done_stays_until_an_input_or_an_option_changes(place: Path) -> None:
    recipe = written(place, RESIZE, {"quantize": {"to": "fp16"}}, "verify", "card")
    done(recipe)
    before = (place / "out.onnx").read_bytes()
    assert states(done(recipe)) == ["kept"] * 4
    assert states(done(recipe, "--from", "quantize")) == ["kept", "made", "made", "made"]
    assert (place / "out.onnx").read_bytes() == before
    (place / "recipe.work" / "2-quantize" / "out.onnx").write_bytes(b"")
    assert states(done(recipe)) == ["kept", "made", "kept", "made"]  # the same bytes came out; the card has its times
    written(place, {"resize": {"hidden": 4, "layers": 1}}, {"quantize": {"to": "fp16"}}, "verify", "card")
    assert states(done(recipe)) == ["made"] * 4 and (place / "out.onnx").read_bytes() != before
    save(residual_mlp_model(2), place)
    assert states(done(recipe))[0] == "made"


def test_an_output_of_somebody_else_is_refused_before_any_work(place: Path) -> None:
    recipe, out = written(place, RESIZE), place / "out.onnx"
    out.write_text("mine")
    refused = run("run", recipe)
    assert refused.exit_code == 1 and "exists already" in refused.stderr and out.read_text() == "mine"
    assert not (place / "recipe.work").exists()
    done(recipe, "--force")
    out.write_text("mine again")  # what somebody has changed since is not the recipe's any more
    written(place, {"resize": {"hidden": 4, "layers": 1}})
    assert run("run", recipe).exit_code == 1 and out.read_text() == "mine again"
    assert run("run", written(place, RESIZE, output="model.onnx"), "--force").exit_code == 1


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        ([{"rezise": {}}], "did you mean 'resize'"),
        ([{"resize": {"hiden": 4}}], "has no 'hiden'; did you mean 'hidden'"),
        ([{"resize": {"hidden": 0}}], "--hidden"),
        ([{"resize": {"hidden": None}}], "'hidden' has no value"),
        ([{"resize": {"external": 3}}], "true or false"),
        ([{"resize": {}}], "nothing says what the model shall become"),
        ([{"resize": {"hidden": 4, "method": "scratch", "wavelet": "db2"}}], "of method 'bot'"),
        ([{"resize": {"hidden": 4, "output": "x.onnx"}}], "said by the recipe"),
        ([{"recover": {"data": "x.npz", "log-every": 3}}], "said by the recipe"),
        ([{"resize": {"hidden": 4, "vocab-from": "lines.txt"}}], "'vocab-from' makes a tokenizer as well"),
        ([RESIZE, {"quantize": {}}], "Missing option '--to'"),
        ([RESIZE, {"quantize": {"to": "int9"}}], "int9"),
        ([RESIZE, {"verify": {"against": "$quantize"}}], "nothing before it is called '$quantize'"),
        ([RESIZE, {"quantize": {"to": "int8", "calibration": "none.npz"}}], "there is no"),
        ([RESIZE, RESIZE, {"verify": {"against": "$resize-3"}}], "$resize-2"),
        (["verify"], "no step makes a model"),
        ([{"resize": {"hidden": 4}, "verify": {}}], "one command"),
    ],
)
def test_what_is_wrong_with_any_step_is_said_before_the_first(place: Path, steps: list[Any], match: str) -> None:
    result = run("run", written(place, *steps))
    assert result.exit_code == 1 and match in " ".join(result.stderr.split()), result.stderr
    assert {entry.name for entry in place.iterdir()} == {"model.onnx", "recipe.json"}


def test_a_recipe_of_other_words_is_refused(place: Path) -> None:
    for text, match in (
        ('{"model": "m", "modell": "m", "output": "o", "steps": ["verify"]}', "did you mean 'model'"),
        ('{"model": "m", "model": "n", "output": "o", "steps": ["verify"]}', "stands there twice"),
        ('{"model": "m", "steps": ["verify"]}', "no 'output'"),
        ("[]", "a mapping"),
        ("{", "cannot be read"),
    ):
        path = place / "wrong.json"
        path.write_text(text)
        result = run("run", path)
        assert result.exit_code == 1 and match in result.stderr, (text, result.stderr)
    assert "ends in .yaml" in run("run", place / "model.onnx").stderr
    assert run("run").exit_code == 2 and "--from: " in run("run", written(place, RESIZE), "--from", "rezise").stderr


def test_a_step_that_fails_is_named_and_what_was_done_stays(place: Path) -> None:
    recipe = written(place, RESIZE, {"verify": {"spec": "small.json"}}, {"quantize": {"to": "fp16"}})
    (place / "small.json").write_text('{"hidden": 5}')
    result = run("run", recipe)
    assert result.exit_code == 3 and "step 'verify'" in result.stderr and "dims" in result.stderr
    assert not (place / "out.onnx").exists()
    (place / "small.json").write_text('{"hidden": 4}')
    assert states(done(recipe)) == ["kept", "made", "made"]


def test_a_dry_run_tells_commands_and_makes_nothing(place: Path) -> None:
    recipe = written(place, RESIZE, {"verify": {"against": "$model"}})
    told = done(recipe, "--dry-run")
    assert states(told) == ["to do", "to do"] and not (place / "recipe.work").exists()
    assert told["steps"][0]["line"][:2] == ["bot-onnx", "resize"] and "--hidden=4" in told["steps"][0]["line"]
    assert f"--against={place / 'model.onnx'}" in told["steps"][1]["line"]
    shown = run("run", recipe, "--dry-run")
    assert shown.exit_code == 0 and "bot-onnx resize" in shown.stdout
    done(recipe)
    assert states(done(recipe, "--dry-run")) == ["kept", "kept"]


def test_weights_beside_the_model_are_part_of_it(place: Path) -> None:
    recipe = written(place, {"resize": {"hidden": 48, "external": True}})
    save(residual_mlp_model(3, 64, 64), place)
    done(recipe)
    assert len(list(place.glob("out.onnx.*.data"))) == 1 and bot_onnx.verify(place / "out.onnx").passed
    written(place, {"resize": {"hidden": 32, "external": True}})
    done(recipe)
    assert len(list(place.glob("out.onnx.*.data"))) == 1 and bot_onnx.verify(place / "out.onnx").passed


def test_values_are_those_of_the_command_line(place: Path) -> None:
    recipe = written(
        place,
        {
            "resize": {
                "layers": [2],
                "dim": {"hidden": 4},
                "no_compare": True,
                "convention": "value",
                "input-shape": "x=3x8",
            }
        },
    )
    line = done(recipe, "--dry-run")["steps"][0]["line"]
    assert {"--layers=2", "--dim=hidden=4", "--no-compare", "--convention=value"} < set(line)


def test_resize_writes_the_recipe_of_its_own_options(place: Path) -> None:
    out = place / "first" / "small.onnx"
    line = ("--hidden", "4", "--layers", "2", "--seed", "3", "--convention", "value")
    for ending in ("json", "yaml"):
        recipe = place / f"again.{ending}"
        asked = ("resize", place / "model.onnx", *line, "-o", out, "--recipe-out", recipe, "--force")
        result = run(*asked)
        assert result.exit_code == 0, result.output
        before = out.read_bytes()
        out.unlink()
        done(recipe)
        assert out.read_bytes() == before
    assert run("resize", place / "model.onnx", *line, "--recipe-out", place / "again.txt", "--dry-run").exit_code == 2
    assert "exists already" in run(*asked[:-1], "--dry-run").stderr


def test_yaml_and_toml_say_the_same(place: Path) -> None:
    pytest.importorskip("yaml", reason="needs the extra 'recipes'")
    (place / "recipe.toml").write_text(
        'model = "model.onnx"\noutput = "out.onnx"\n[[steps]]\n[steps.resize]\nhidden = 4\nlayers = 2\n'
    )
    (place / "recipe.yaml").write_text(
        "model: model.onnx\noutput: out.onnx\nsteps:\n  - resize: {hidden: 4, layers: 2}\n"
    )
    lines = [done(place / name, "--dry-run")["steps"][0]["line"] for name in ("recipe.toml", "recipe.yaml")]
    assert lines[0][2:5] == lines[1][2:5]
    (place / "recipe.yaml").write_text("model: model.onnx\nmodel: other.onnx\noutput: out.onnx\nsteps: [verify]\n")
    assert "stands there twice" in run("run", place / "recipe.yaml").stderr


def test_the_example_is_printed() -> None:
    assert run("run", "--example").stdout.startswith("# From a trained model")
    assert run("run", "x.yaml", "--example").exit_code == 2
