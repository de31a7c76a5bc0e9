"""``--shard-size`` through the commands: what writes, copies, keeps or repeats an output has all of its files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

import bot_onnx
from benchmarks.memory import Sizes, write_llama
from bot_onnx import api
from bot_onnx._cli import cli
from bot_onnx._onnxfile.data_files import locations
from bot_onnx._onnxfile.kept_work import KeptWork
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._shards import Shards
from tests import folders
from tests.graphs import residual_mlp_model, save

SPEC = {"hidden": 32, "heads": 4, "kv_heads": 2, "intermediate": 48, "layers": 3}
NARROW = ("--hidden", 32, "--heads", 4, "--kv-heads", 2)
LIMIT = 9_000


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def held(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def shards(model: Path, limit: int = LIMIT) -> list[Path]:
    """The data files, which must be there, several, and no longer than they may be unless they hold one tensor."""
    initializers = onnx.load(model, load_external_data=False).graph.initializer
    holds = Counter(next((e.value for e in one.external_data if e.key == "location"), "") for one in initializers)
    found = [model.parent / name for name in sorted(locations(model))]
    assert len(found) > 1 and all(holds[path.name] for path in found)
    assert all(path.stat().st_size <= limit or holds[path.name] == 1 for path in found)
    return found


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards") / "llama.onnx"
    write_llama(path, 5, sizes=Sizes(48, 6, 2, 8, 64, 97))
    return path


def weights_of(model: Path) -> dict[str, bytes]:
    with open_model(model) as source:
        return {name: source.tensor(name).tobytes() for name in source.tensors}


def test_a_resize_a_source_of_many_files_and_one_file_again(llama: Path, tmp_path: Path) -> None:
    plain, out = tmp_path / "plain.onnx", tmp_path / "out.onnx"
    api.resize(llama, SPEC, plain, against=False, external=False)
    made = api.resize(llama, SPEC, out, against=False, external=f"{LIMIT}")
    shards(out)
    assert made.plan.external == Shards(LIMIT) and weights_of(out) == weights_of(plain)
    assert made.plan.size_bytes[1] == sum(
        len(content) for name, content in held(tmp_path).items() if name != "plain.onnx"
    )
    onnx.checker.check_model(out, full_check=True)
    # Of a source in many files comes one file, as it did: which size the files should have is not written in it.
    again = api.resize(out, {"hidden": 16}, tmp_path / "again.onnx")
    assert again.plan.external is True and len(locations(again.output)) == 1
    into = api.resize(out, {"hidden": 16}, tmp_path / "inside.onnx", external=False)
    assert weights_of(into.output) == weights_of(again.output)
    assert api.verify(out, against=llama).passed


def test_the_command_its_report_and_its_refusals(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    asked = ("resize", llama, *NARROW, "--shard-size", "9kB", "-o", out, "--no-compare")
    assert "in files of at most 9.00 kB beside the model" in " ".join(run(*asked, "--dry-run").stdout.split())
    done = run(*asked)
    assert done.exit_code == 0, done.output
    before, files = held(tmp_path), shards(out)
    assert set(before) == {"out.onnx", *(file.name for file in files)}
    refused = run("resize", llama, "--layers", 3, "--shard-size", "9kB", "--inline", "-o", out, "--force")
    assert refused.exit_code == 2 and "choose one" in refused.stderr
    refused = run("resize", llama, "--layers", 3, "--shard-size", "many", "-o", out, "--force")
    assert refused.exit_code == 1 and "such as 2GB" in refused.stderr
    assert held(tmp_path) == before
    done = run("resize", llama, "--layers", 3, "--external", "-o", out, "--force", "--no-compare", "-q")
    assert done.exit_code == 0 and not any(file.exists() for file in files)


def test_a_plan_says_it_and_its_replay_gives_the_same_files(llama: Path, tmp_path: Path) -> None:
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
    plan = tmp_path / "plan.json"
    first = ["resize", llama, *NARROW, "--shard-size", "9kB", "--no-compare", "-q"]
    assert run(*first, "--plan-out", plan, "-o", tmp_path / "one" / "out.onnx").exit_code == 0
    assert json.loads(plan.read_text())["external"] == {"limit": LIMIT}
    again = ["resize", llama, "--plan", plan, "--no-compare", "-q", "-o"]
    done = run(*again, tmp_path / "two" / "out.onnx")
    assert done.exit_code == 0, done.output
    assert held(tmp_path / "one") == held(tmp_path / "two")
    done = run(*again, tmp_path / "three" / "out.onnx", "--shard-size", "20kB")
    assert done.exit_code == 0, done.output
    assert len(shards(tmp_path / "three" / "out.onnx", 20_000)) < len(shards(tmp_path / "two" / "out.onnx"))


def test_work_is_kept_in_as_many_files(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, note, left = tmp_path / "out.onnx", KeptWork.note, [12]
    api.resize(llama, SPEC, tmp_path / "undisturbed" / "out.onnx", against=False, external=f"{LIMIT}")

    def ended(self: KeptWork, name: str, digest: bytes) -> None:
        note(self, name, digest)
        left[0] -= 1
        if not left[0]:
            raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(KeptWork, "note", ended)
        with pytest.raises(ZeroDivisionError):
            api.resize(llama, SPEC, out, against=False, external=f"{LIMIT}", resume=True)
    work = tmp_path / "out.onnx.resize"
    assert {"data-00001", "data-00002"} <= {entry.name for entry in work.iterdir()}
    other = api.resize(llama, SPEC, tmp_path / "other.onnx", against=False, external=f"{2 * LIMIT}", resume=True)
    assert other.resumed is not None and other.resumed.finished == 0
    made = api.resize(llama, SPEC, out, against=False, external=f"{LIMIT}", resume=True)
    assert made.resumed is not None and made.resumed.finished == 12 and not work.exists()
    undisturbed = held(tmp_path / "undisturbed")
    assert {name: content for name, content in held(tmp_path).items() if name in undisturbed} == undisturbed


def test_a_recipe_s_last_model_is_copied_with_all_of_them(tmp_path: Path) -> None:
    save(residual_mlp_model(3, 64, 128), tmp_path)
    steps: list[Any] = [{"resize": {"hidden": 32, "shard_size": "10kB"}}, "verify"]
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"model": "model.onnx", "output": "out.onnx", "steps": steps}))
    done = run("run", recipe, "--json")
    assert done.exit_code == 0, done.output
    first = shards(tmp_path / "out.onnx", 10_000)
    assert {file.name: file.read_bytes() for file in first} == {
        file.name: file.read_bytes() for file in shards(tmp_path / "recipe.work" / "1-resize" / "out.onnx", 10_000)
    }
    steps[0]["resize"]["hidden"] = 16
    recipe.write_text(json.dumps({"model": "model.onnx", "output": "out.onnx", "steps": steps}))
    assert run("run", recipe, "--json").exit_code == 0
    now = {entry.name for entry in tmp_path.iterdir()}
    assert now == {"model.onnx", "out.onnx", "recipe.json", "recipe.work"} | set(locations(tmp_path / "out.onnx"))


def test_a_folder_has_them_and_is_replaced_with_them(tmp_path: Path) -> None:
    source, out = folders.bert(tmp_path / "bert"), tmp_path / "small"
    done = run("resize", source, "--hidden", 12, "--shard-size", "5kB", "-o", out)
    assert done.exit_code == 0, done.output
    first = shards(out / "model.onnx", 5_000)
    assert {file.name for file in first} <= set(json.loads((out / "bot-onnx.json").read_text())["files"])
    assert bot_onnx.verify(out, spec=out / "config.json").passed
    done = run("resize", out, "--hidden", 6, "--heads", 1, "-o", tmp_path / "smaller")  # of a folder with many
    assert done.exit_code == 0, done.output
    assert not any((tmp_path / "smaller" / file.name).exists() for file in first)
    done = run("resize", source, "--hidden", 12, "--layers", 2, "--inline", "-o", out, "--force")
    assert done.exit_code == 0 and not list(out.glob("*.data"))


def test_quantising_and_importing(tmp_path: Path) -> None:
    save(residual_mlp_model(3, 128, 256), tmp_path)
    model, packed = tmp_path / "model.onnx", tmp_path / "packed.onnx"
    done = run("quantize", model, "--to", "fp16", "--shard-size", "150kB", "-o", packed)
    assert done.exit_code == 0, done.output
    shards(packed, 150_000)
    done = run(
        "resize", model, "--hidden", 96, "--quantize", "fp16", "--shard-size", "100kB", "-o", tmp_path / "both.onnx"
    )
    assert done.exit_code == 0, done.output
    shards(tmp_path / "both.onnx", 100_000)
    state = bot_onnx.state_dict(model)
    bot_onnx.import_weights(model, state, tmp_path / "trained.onnx", external="400kB")
    shards(tmp_path / "trained.onnx", 400_000)
    assert weights_of(tmp_path / "trained.onnx") == weights_of(model)
