"""The commands on the shipped model: what they print, what they write, and how they end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from bot_onnx._cli import cli
from bot_onnx._cli.app import commands
from bot_onnx._target import TargetSpec
from bot_onnx.demo import model_bytes


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The shipped digit classifier in a folder of its own."""
    path = tmp_path / "vit.onnx"
    path.write_bytes(model_bytes())
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """The classifier, its half-size version, and what ``resize`` printed."""
    folder = tmp_path_factory.mktemp("small")
    source, output = folder / "vit.onnx", folder / "small.onnx"
    source.write_bytes(model_bytes())
    return source, output, done("resize", source, "--layers", "3", "--hidden", "32", "-o", output)


def sizes(path: Path) -> set[tuple[int, ...]]:
    return {tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("name", list(commands()))
def test_every_command_has_help_with_an_example(name: str) -> None:
    printed = done(name, "--help").output
    assert re.search(rf"Examples?:\n +bot-onnx {name}", printed)


def test_the_overview_names_every_command() -> None:
    printed = done("--help").output
    assert all(name in printed for name in commands())
    assert re.fullmatch(r"bot-onnx \d\S*\n", done("--version").output)


def test_inspect_prints_tables_and_json(model: Path) -> None:
    printed = done("inspect", model).stdout
    assert re.search(r"hidden +64 ", printed) and "layers 6 x]" in printed
    data = json.loads(done("inspect", model, "--json").stdout)
    hidden = next(dim for dim in data["structure"]["dims"].values() if dim["name"] == "hidden")
    assert hidden["size"] == 64 and hidden["resizable"]
    assert data["structure"]["chains"][0]["count"] == 6


@pytest.mark.thorough
def test_inspect_shows_what_a_halving_keeps(model: Path) -> None:
    printed = run("inspect", str(model), "--energy").output
    assert "Energy that halving keeps" in printed and "alignment permute" in printed and "█" in printed
    tables = json.loads(run("inspect", str(model), "--energy", "--json").output)["energy"]
    assert {(table["kind"], table["method"]) for table in tables} >= {
        (kind, method) for kind in ("none", "permute") for method in ("bot", "front", "ws")
    }
    shares = [row["kept"] for table in tables for row in table["rows"]]
    assert shares and all(0 < share <= 1 for share in shares)


def test_resize_writes_the_model_and_says_what_changed(small: tuple[Path, Path, Result]) -> None:
    _, output, result = small
    shapes = sizes(output)
    assert (32, 128) in shapes and (64, 256) not in shapes
    assert re.search(r"hidden \(d\d+\) +64 +32 +-50 %", result.stdout)
    assert re.search(r"All \d+ checks passed", result.stdout)
    assert "lost accuracy until" in result.stdout
    assert result.stderr == ""


def test_verify_accepts_the_result_and_rejects_another_size(small: tuple[Path, Path, Result]) -> None:
    source, output, _ = small
    spec = output.with_name("spec.json")
    spec.write_text('{"layers": 3, "hidden": 32}')
    accepted = done("verify", output, "--spec", spec, "--against", source, "--json")
    data = json.loads(accepted.stdout)
    assert data["passed"] and [entry["output"] for entry in data["comparisons"]] == ["logits"]
    spec.write_text('{"layers": 3, "hidden": 64}')
    rejected = run("verify", output, "--spec", spec)
    assert rejected.exit_code == 3
    assert "FAILED" in rejected.stdout and "hidden" in rejected.stdout


def test_a_dry_run_writes_nothing_but_the_plan(model: Path) -> None:
    saved = model.with_name("plan.json")
    result = done("resize", model, "--hidden", "128", "--dry-run", "--plan-out", saved, "--json")
    plan, printed = json.loads(saved.read_text()), json.loads(result.stdout)
    assert printed.pop("shrinks") is False
    assert len(plan.pop("checksum")) == 64
    assert printed["proof"].pop("seconds") > 0  # a saved plan is the same every time
    assert printed == plan
    assert {dim["name"]: dim["target"] for dim in plan["dims"]}["hidden"] == 128
    assert sorted(path.name for path in model.parent.iterdir()) == ["plan.json", "vit.onnx"]
    tables = done("resize", model, "--hidden", "128", "--dry-run")
    assert re.search(r"hidden \(d\d+\) +64 +128 +\+100 %", tables.stdout)
    assert "was not written" in tables.stderr


def test_the_plan_of_a_dry_run_is_the_plan_that_is_executed(model: Path) -> None:
    before, after = model.with_name("before.json"), model.with_name("after.json")
    target = ("--layers", "3", "--details", "gaussian", "--seed", "5")
    done("resize", model, *target, "--dry-run", "--plan-out", before)
    done("resize", model, *target, "--quiet", "--no-compare", "--plan-out", after)
    planned, done_so = (json.loads(path.read_text()) for path in (before, after))
    for record in (planned, done_so):
        del record["checksum"], record["size_bytes"], record["asked"]["file_name"]
        for stack in record["stacks"]:
            del stack["offsets"]  # the names of the outputs are of other lengths
    assert planned.pop("weights_sha256") is None and len(done_so.pop("weights_sha256")) == 64
    assert (planned.pop("device"), done_so.pop("device")) == (None, "cpu")
    assert planned == done_so
    assert json.loads(after.read_text())["options"]["details"] == "gaussian"
    assert json.loads(after.read_text())["seed"] == 5


def test_quiet_prints_nothing_and_the_default_name_says_the_sizes(model: Path) -> None:
    result = done("resize", model, "--layers", "4", "--hidden", "48", "--quiet", "--no-compare")
    assert (result.stdout, result.stderr) == ("", "")
    assert model.with_name("vit-layers4-hidden48.onnx").is_file()


def test_json_is_all_that_json_prints(model: Path) -> None:
    output = model.with_name("out.onnx")
    result = done("resize", model, "--width", "0.5", "-o", output, "--json", "--no-compare")
    data = json.loads(result.stdout)
    assert data["output"] == str(output) and data["report"]["passed"] and not data["report"]["comparisons"]
    assert result.stderr == ""


def test_an_existing_output_is_kept_unless_forced(small: tuple[Path, Path, Result]) -> None:
    source, output, _ = small
    before = output.read_bytes()
    refused = run("resize", source, "--layers", "2", "-o", output)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1 and "force" in refused.stderr
    assert output.read_bytes() == before
    other = output.with_name("other.onnx")
    other.write_bytes(before)
    done("resize", source, "--layers", "2", "-o", other, "--force", "--no-compare")
    assert other.read_bytes() != before


def test_a_spec_file_is_overridden_by_flags(model: Path) -> None:
    spec = model.with_name("half.json")
    spec.write_text('{"name": "half", "layers": 3, "hidden": 32}')
    plan = json.loads(done("resize", model, "--spec", spec, "--layers", "5", "--dry-run", "--json").stdout)
    assert plan["name"] == "half"
    assert plan["layers"][0]["target"] == 5
    assert {dim["name"]: dim["target"] for dim in plan["dims"]}["hidden"] == 32


def test_dims_are_sized_by_name_and_by_id(model: Path) -> None:
    by_name = json.loads(done("resize", model, "--dim", "intermediate=100", "--dry-run", "--json").stdout)
    change = next(dim for dim in by_name["dims"] if dim["name"] == "intermediate")
    by_id = json.loads(done("resize", model, "--dim", f"{change['id']}=100", "--dry-run", "--json").stdout)
    assert change["target"] == 100
    assert by_id["dims"] == by_name["dims"]


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (("--hidden", "33"), "head_dim"),
        (("--spec", "bert-xs"), "bert-s"),
        (("--vocab", "100"), "vocab"),
        (("--layers", "encoder=2"), "layers"),
        (("--dim", "nothing=5"), "nothing"),
        (("--hidden", "32", "--wavelet", "haarr"), "haar"),
        (("--layers", "12", "--layer-axis", "even"), "even"),
    ],
)
def test_refusals_are_one_line_with_a_way_out(model: Path, flags: tuple[str, ...], match: str) -> None:
    result = run("resize", model, *flags)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert match in result.stderr
    assert result.stdout == ""
    assert [path.name for path in model.parent.iterdir()] == ["vit.onnx"]


def test_specs_are_listed_shown_and_described() -> None:
    assert "deit-s" in done("specs", "list").stdout
    names = [entry["name"] for entry in json.loads(done("specs", "list", "--json").stdout)]
    for name in names:
        shown = json.loads(done("specs", "show", name).stdout)
        assert TargetSpec.parse(shown) == TargetSpec.load(name)
    assert json.loads(done("specs", "schema").stdout)["properties"]["hidden"]
    unknown = run("specs", "show", "bert-xxl")
    assert unknown.exit_code == 1 and "did you mean" in unknown.stderr


@pytest.mark.thorough
def test_the_demo_keeps_every_prediction_when_growing(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    result = done("demo", "--keep", folder, "--json")
    data = json.loads(result.stdout)
    shipped, shrunk, grown = data["rows"]
    assert data["exact"] and grown["kept"] == 1
    assert grown["accuracy"] == shipped["accuracy"] > 0.9
    assert grown["layers"] > shipped["layers"] > shrunk["layers"]
    assert grown["dims"]["hidden"] == 2 * shipped["dims"]["hidden"] == 4 * shrunk["dims"]["hidden"]
    assert shrunk["parameters"] < shipped["parameters"] < grown["parameters"]
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["digits-vit-large.onnx", "digits-vit-small.onnx"]
    assert [file.stat().st_size for file in files] == [grown["size_bytes"], shrunk["size_bytes"]]
    again = run("demo", "--keep", folder)
    assert again.exit_code == 1 and "already holds" in again.stderr


def test_growing_as_the_demo_does_is_no_promise_of_every_method(model: Path) -> None:
    """The same growth under the other convention changes the outputs: the demo's check can fail."""
    result = done(
        "resize", model, "--hidden", "128", "--convention", "ortho", "--json", "-o", model.with_name("o.onnx")
    )
    comparison = json.loads(result.stdout)["report"]["comparisons"][0]
    assert comparison["max_difference"] > 0.01 * comparison["scale"]
