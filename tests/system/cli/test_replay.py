"""Saved plans, run again: the same bytes, the plan's own edits, and nothing where anything is another."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

import bot_onnx
from bot_onnx._analysis.passes import analyse
from bot_onnx._cli.app import cli
from bot_onnx._cli.learn_option import OF_LEARNING
from bot_onnx._cli.method_options import PREFIX
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._structure import SPEC_ROLES
from bot_onnx._surgery.stored import checksum
from bot_onnx._surgery.types import Plan
from bot_onnx.errors import PlanError
from tests import folders
from tests.graphs import residual_mlp_model, save
from tests.replay_zoo import CASES

Record = dict[str, Any]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def done(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(words: str, *arguments: object, code: int = 1) -> str:
    """One line that says so, and nothing written."""
    out = Path(str(arguments[-1]))
    before = sorted(out.parent.iterdir())
    result = run(*arguments)
    said = " ".join(result.stderr.split())
    assert result.exit_code == code and words in said, result.output
    assert code == 2 or len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr and "unexpected" not in result.stderr and result.stdout == ""
    assert sorted(out.parent.iterdir()) == before
    return said


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewritten(plan: Path, change: Callable[[Record], object], *, signed: bool = True) -> Path:
    """A copy of a plan with something changed, and the checksum of what it says then."""
    record = json.loads(plan.read_text())
    change(record)
    if signed:
        record["checksum"] = checksum(record)
    copy = plan.with_name("changed.json")
    copy.write_text(json.dumps(record))
    return copy


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder, a plan that grows its heads, and what the run that made the plan wrote."""
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "first").mkdir()
    source = CASES["encoder"].write(folder)
    grown = ("--head-dim", "8", "--hidden", "32", "--layers", "4", "--method", "net2net")
    done("resize", source, *grown, "-q", "-o", folder / "first" / "out.onnx", "--plan-out", folder / "plan.json")
    return folder


@pytest.fixture
def folder(encoder: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(encoder, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.thorough
@pytest.mark.parametrize("name", CASES)
def test_the_same_bytes(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    source, plan = case.write(tmp_path), tmp_path / "plan.json"
    options = case.arguments(tmp_path)
    done("resize", source, *options, "-q", "-o", first / "out.onnx", "--plan-out", plan)
    done("resize", source, "--plan", plan, *case.repeated(tmp_path), "-q", "-o", second / "out.onnx")
    assert files(first) == files(second)
    if name in ("encoder", "rotate", "requantised"):  # the plan of the replay is the plan
        again = second / "again.json"
        done("resize", source, "--plan", plan, "-q", "--force", "-o", second / "out.onnx", "--plan-out", again)
        assert again.read_text() == plan.read_text()


def test_a_plan_of_a_dry_run_is_run_like_any_other(folder: Path) -> None:
    source, plan = folder / "model.onnx", folder / "dry.json"
    options = ("--hidden", "8", "--heads", "2", "--align", "select", "--seed", "4")
    done("resize", source, *options, "-q", "--dry-run", "--plan-out", plan)
    (folder / "a").mkdir(), (folder / "b").mkdir()
    done("resize", source, *options, "-q", "-o", folder / "a" / "out.onnx")
    done("resize", source, "--plan", plan, "-q", "-o", folder / "b" / "out.onnx")
    assert files(folder / "a") == files(folder / "b")
    assert json.loads(plan.read_text())["computed"] == [
        "select: the operators of every axis, from the source's weights"
    ]


def test_where_it_goes_and_how_it_is_checked_may_be_others(folder: Path) -> None:
    plan, out = folder / "plan.json", folder / "second" / "other.onnx"
    out.parent.mkdir()
    shown = done("resize", folder / "model.onnx", "--plan", plan, "--external", "--no-compare", "--device", "cpu",
                 "--json", "-o", out)  # fmt: skip
    said = json.loads(shown.stdout)["plan"]
    assert said["external"] is True and len(list(out.parent.iterdir())) == 2
    assert said["size_bytes"][1] == sum(path.stat().st_size for path in out.parent.iterdir())
    kept = onnx.load(folder / "first" / "out.onnx").graph.initializer
    made = {t.name: numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    assert all(np.array_equal(made[t.name], numpy_helper.to_array(t)) for t in kept)
    done("resize", folder / "model.onnx", "--plan", plan, "-q", "--force", "--inline", "-o", out)
    assert [path.read_bytes() for path in out.parent.iterdir()] == [(folder / "first" / "out.onnx").read_bytes()]


def test_a_dry_run_shows_a_plan_and_a_name_follows_from_it(folder: Path) -> None:
    plan = folder / "plan.json"
    shown = done("resize", folder / "model.onnx", "--plan", plan, "--dry-run")
    assert "net2net" in shown.stdout and "hidden" in shown.stdout and "was not written" in shown.stderr
    record = json.loads(done("resize", folder / "model.onnx", "--plan", plan, "--dry-run", "--json").stdout)
    saved = json.loads(plan.read_text())
    assert {key: record[key] for key in ("dims", "constants", "layers", "asked")} == {
        key: saved[key] for key in ("dims", "constants", "layers", "asked")
    }
    done("resize", folder / "model.onnx", "--plan", plan, "-q")
    assert (folder / "model-layers4-hidden32-head-dim8.onnx").is_file()


def test_by_the_python_api(folder: Path) -> None:
    plan = Plan.from_json((folder / "plan.json").read_text())
    assert Plan.from_json(plan.to_json()) == plan
    result = bot_onnx.replay(folder / "model.onnx", plan, folder / "out.onnx")
    assert result.report.passed
    assert (folder / "out.onnx").read_bytes() == (folder / "first" / "out.onnx").read_bytes()
    assert bot_onnx.replan(folder / "model.onnx", plan).constants == plan.constants


def test_two_plans_are_shown_as_a_difference(folder: Path) -> None:
    source, saved = folder / "model.onnx", folder / "plan.json"
    grown = ("--head-dim", "8", "--hidden", "32", "--layers", "4", "--method", "net2net", "--dry-run")
    same = done("resize", source, *grown, "--against-plan", saved)
    assert "The plan is that of plan.json" in same.stdout
    other = (*grown[:1], "16", "--hidden", "64", *grown[4:], "--seed", "2", "--against-plan", saved)
    told = json.loads(done("resize", source, *other, "--json").stdout)["differences"]
    found = {one["what"]: (one["saved"], one["planned"]) for one in told}
    assert ("16 -> 32", "16 -> 64") in found.values() and ("4 -> 8", "4 -> 16") in found.values()
    assert found["method"][1].endswith("seed 2") and '"head_dim": 8' in found["asked: spec"][0]
    assert any(what.startswith("constant ") for what in found) and any(what.startswith("stack ") for what in found)
    assert not any("layers:" in what for what in found)
    shown = done("resize", source, *other).stdout
    assert "16 -> 64" in shown and "differences" in shown
    changed = rewritten(saved, lambda r: r["stacks"][0].update(gain=2.0))
    told = json.loads(done("resize", source, *grown, "--against-plan", changed, "--json").stdout)["differences"]
    assert [(one["what"].rpartition(", ")[2], one["saved"], one["planned"]) for one in told] == [("gain", 2.0, 1.0)]
    refused("give --dry-run", "resize", source, "--hidden", "8", "--against-plan", saved, "-o", folder / "o", code=2)


# -- what is refused -----------------------------------------------------------------------------------------------


def test_another_source(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.001), tensor.name))
    onnx.save(model, folder / "model.onnx")
    said = refused("the plan is of another source", "resize", folder / "model.onnx", "--plan", folder / "plan.json",
                   "-o", folder / "out.onnx")  # fmt: skip
    assert json.loads((folder / "plan.json").read_text())["source_sha256"][:12] in said
    other = save(residual_mlp_model(), folder, "other.onnx")
    refused("another source", "resize", other, "--plan", folder / "plan.json", "--dry-run", "-o", folder / "out.onnx")


@pytest.mark.parametrize(
    "option",
    [
        ("--spec", "bert-s"), ("--hidden", "32"), ("--width", "0.5"), ("--layers", "4"), ("--method", "net2net"),
        ("--seed", "0"), ("--align", "none"), ("--dim", "d0=4"), ("--constant", "a=1"), ("--requantize",),
        ("--wavelet", "db2"), ("--round-to", "8"),
    ],
)  # fmt: skip
def test_options_that_say_what_the_plan_says(option: tuple[str, ...], folder: Path) -> None:
    refused(f"'{option[0]}' says what the plan says", "resize", folder / "model.onnx", "--plan", folder / "plan.json",
            *option, "-o", folder / "out.onnx", code=2)  # fmt: skip


def test_a_plan_is_never_written_over(folder: Path) -> None:
    plan = folder / "plan.json"
    before = plan.read_bytes()
    refused("never written to", "resize", folder / "model.onnx", "--plan", plan, "--force", "-o", plan)
    refused("never written to", "resize", folder / "model.onnx", "--plan", plan, "--force", "--plan-out", plan, "-o",
            folder / "out.onnx")  # fmt: skip
    assert plan.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(format=2), "has the format 2"),
        (lambda r: r.update(format=True), "has the format True"),
        (lambda r: r.pop("format"), "no plan that can be run"),
        (lambda r: r.update(version="0.0.9"), "made by bot-onnx 0.0.9"),
        (lambda r: r.update(surplus=1), "'surplus' is no part of one"),
        (lambda r: r.pop("seed"), "'seed' is missing"),
        (lambda r: r.update(seed="1"), "seed is '1', no int"),
        (lambda r: r["stacks"][0]["task"]["axes"][0].update(kind="leef"), "stacks[0].task.axes[0].kind is 'leef'"),
        (lambda r: r["constants"][0].update(edit="Delete"), "constants[0].edit is 'Delete'"),
        (lambda r: r["dims"].append(3), "is no object"),
        (lambda r: r.update(options={"name": 1}), "method 'net2net' refuses its options"),
        (lambda r: r.update(method="magic"), "magic"),
        (lambda r: r["asked"]["spec"].update(hidden=-1), "hidden"),
        (lambda r: r["asked"].update(calibration_sha256="0" * 64), "give --calibration"),
        (lambda r: r["asked"].update(inputs=True), "give --inputs"),
    ],
)  # fmt: skip
def test_what_no_plan_says(change: Callable[[Record], object], words: str, folder: Path) -> None:
    plan = rewritten(folder / "plan.json", change)
    refused(words, "resize", folder / "model.onnx", "--plan", plan, "-o", folder / "out.onnx")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": NaN}', "[" * 9999, '{"a": 1, "a": 2}'])
def test_what_is_no_plan(text: str, folder: Path) -> None:
    plan = folder / "odd.json"
    plan.write_text(text)
    refused("odd.json", "resize", folder / "model.onnx", "--plan", plan, "-o", folder / "out.onnx")


def test_damaged_files(folder: Path) -> None:
    text = (folder / "plan.json").read_text()
    plan = folder / "damaged.json"
    for damaged in (text[: len(text) // 2], text.replace('"seed": 0', '"seed": 1'), text + "x"):
        plan.write_text(damaged)
        refused("damaged.json", "resize", folder / "model.onnx", "--plan", plan, "-o", folder / "out.onnx")
    plan.write_bytes(b"\xff\xfe\x00")
    refused("damaged.json", "resize", folder / "model.onnx", "--plan", plan, "-o", folder / "out.onnx")
    refused("there is no file", "resize", folder / "model.onnx", "--plan", folder / "none", "-o", folder / "out.onnx")
    with pytest.raises(PlanError, match="no whole plan"):
        Plan.from_json(text[:99])


# -- the file drives -----------------------------------------------------------------------------------------------


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all numbers, truths and texts of a record."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [path for key, inner in items for path in leaves(inner, (*place, key))]
    return [] if value is None else [place]


def value_at(record: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        record = record[key]
    return record


def spoilt(record: Record, place: tuple[Any, ...]) -> None:
    for key in place[:-1]:
        record = record[key]
    old = record[place[-1]]
    record[place[-1]] = not old if isinstance(old, bool) else old + 1 if isinstance(old, int | float) else f"{old}x"


@pytest.mark.thorough
def test_nothing_that_a_plan_says_is_ignored(folder: Path) -> None:
    """Each of a sample of values, of every kind, is obeyed or refused when it is another one."""
    saved = json.loads((folder / "plan.json").read_text())
    told = {"source", "notes", "device", "size_bytes", "costs"}  # of the run, or for people
    by_kind: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for place in leaves({key: value for key, value in saved.items() if key not in {*told, "checksum"}}):
        if "offsets" in place or place[-1] == "file_name":  # figures of bytes, and what they are of
            continue
        by_kind.setdefault(tuple(key for key in place if not isinstance(key, int)), place)
    assert len(by_kind) > 60
    stored = Plan.from_json((folder / "plan.json").read_text())
    obeyed: set[tuple[Any, ...]] = set()
    for place in by_kind.values():
        plan = rewritten(folder / "plan.json", lambda record, place=place: spoilt(record, place))
        try:
            changed = Plan.from_json(plan.read_text())
            assert changed.to_json() != stored.to_json()
            result = bot_onnx.replay(folder / "model.onnx", changed, folder / "out.onnx", force=True)
        except (bot_onnx.errors.BotError, PlanError):
            continue
        obeyed.add(place)
        assert value_at(json.loads(result.plan.to_json()), place) == value_at(json.loads(plan.read_text()), place)
    # Two wishes.
    assert obeyed == {("external",), ("asked", "unproven")}


@pytest.mark.parametrize("kind", ["SetConstant", "SetAttribute"])
def test_a_size_that_was_changed_is_refused(kind: str, folder: Path) -> None:
    source = CASES["fused-attention"].write(folder) if kind == "SetAttribute" else folder / "model.onnx"
    plan = folder / "sizes.json"
    role = "--heads" if kind == "SetAttribute" else "--hidden"
    done("resize", source, role, "8", "-q", "--dry-run", "--plan-out", plan)
    record = json.loads(plan.read_text())
    index = next(n for n, edit in enumerate(record["constants"]) if edit["edit"] == kind)
    wrong = rewritten(plan, lambda r: r["constants"][index].update(new=5))
    refused(f"the plan says 5 at constants[{index}].new", "resize", source, "--plan", wrong, "--unproven", "-o",
            folder / "out.onnx")  # fmt: skip
    fewer = rewritten(plan, lambda r: r["constants"].pop(index))
    refused("constants[", "resize", source, "--plan", fewer, "--unproven", "-o", folder / "out.onnx")


def test_a_factor_that_was_changed_is_obeyed_where_that_is_asked_for(folder: Path) -> None:
    source, plan, out = folder / "model.onnx", folder / "plan.json", folder / "out.onnx"
    record = json.loads(plan.read_text())
    index = next(n for n, edit in enumerate(record["constants"]) if edit["edit"] == "SetFactor")
    changed = rewritten(plan, lambda r: r["constants"][index].update(new=3.25))
    refused(f"constants[{index}].new", "resize", source, "--plan", changed, "-o", out)
    said = json.loads(done("resize", source, "--plan", changed, "--unproven", "--json", "-o", out).stdout)["plan"]
    assert said["proof"]["status"] == "failed" and said["promise"]["kept"] is None
    assert any("The plan was changed" in note and "3.25" in note for note in said["notes"])
    model = onnx.load(out)
    scalars = [numpy_helper.to_array(t).item() for t in model.graph.initializer if not t.dims or list(t.dims) == [1]]
    assert 3.25 in scalars
    entry = next(json.loads(e.value) for e in model.metadata_props if e.key == "bot_onnx")
    assert entry["proof"] == "failed" and entry["promise"]["kept"] is None
    huge = rewritten(plan, lambda r: r["constants"][index].update(new=1e300))
    out.unlink()
    refused("which its type cannot hold", "resize", source, "--plan", huge, "--unproven", "-o", out)


def test_a_seed_that_was_changed_makes_other_weights_and_that_shows(folder: Path) -> None:
    source, out = CASES["scratch"].write(folder), folder / "out.onnx"
    plan, first = folder / "scratch.json", folder / "drawn.onnx"
    done("resize", source, *CASES["scratch"].options, "-q", "-o", first, "--plan-out", plan)
    other = rewritten(plan, lambda r: r.update(seed=10))
    refused("the weights came out otherwise", "resize", source, "--plan", other, "-o", out)
    free = rewritten(plan, lambda r: r.update(seed=10, weights_sha256=None, device=None))
    done("resize", source, "--plan", free, "-q", "-o", out)
    wanted = folder / "wanted.onnx"
    done("resize", source, "--hidden", "12", "--method", "scratch", "--seed", "10", "-q", "-o", wanted)
    assert out.read_bytes() == wanted.read_bytes() != first.read_bytes()


def test_a_plan_without_a_checksum_was_changed_on_purpose(folder: Path) -> None:
    plan = rewritten(folder / "plan.json", lambda record: record.pop("checksum"), signed=False)
    done("resize", folder / "model.onnx", "--plan", plan, "-q", "-o", folder / "out.onnx")
    assert (folder / "out.onnx").read_bytes() == (folder / "first" / "out.onnx").read_bytes()


def test_planning_leaves_the_model_as_it_was(folder: Path) -> None:
    """Two plans of one analysis are those of two analyses."""
    from bot_onnx._proof import Way, settle
    from bot_onnx._resample import make_options
    from bot_onnx._surgery.planner import Origin, prepare
    from bot_onnx._target import TargetSpec

    options = make_options("bot")
    specs = [
        TargetSpec.parse(spec) for spec in ({"layers": 5, "hidden": 32}, {"layers": 2, "heads": 2}, {"width": 2.0})
    ]

    def planned(analysis: Any, spec: TargetSpec) -> tuple[str, bytes]:
        settled = settle(analysis, spec, Way("bot", options))
        prepared = prepare(analysis, spec, settled, Origin("m", "0", 1), method="bot", options=options, seed=0,
                           external=False)  # fmt: skip
        return prepared.plan.to_json(), prepared.proto.SerializeToString()

    with open_model(folder / "model.onnx") as source:
        once = analyse(source.model())
        together = [planned(once, spec) for spec in specs]
    for spec, known in zip(specs, together, strict=True):
        with open_model(folder / "model.onnx") as source:
            assert planned(analyse(source.model()), spec) == known


def test_a_replay_that_is_killed_leaves_nothing(folder: Path) -> None:
    out = folder / "out" / "out.onnx"
    out.parent.mkdir()
    command = [sys.executable, "-m", "bot_onnx", "resize", str(folder / "model.onnx"), "--plan",
               str(folder / "plan.json"), "-q", "-o", str(out)]  # fmt: skip
    for wait in (0.5, 1.5, 2.5):
        job = subprocess.Popen(command)
        time.sleep(wait)
        job.send_signal(signal.SIGKILL)
        job.wait()
        assert not out.exists() or out.read_bytes() == (folder / "first" / "out.onnx").read_bytes()
    done("resize", folder / "model.onnx", "--plan", folder / "plan.json", "-q", "--force", "-o", out)
    assert files(out.parent) == {"out.onnx": (folder / "first" / "out.onnx").read_bytes()}


# -- layers and units that stay ------------------------------------------------------------------------------------


def test_layers_that_stay_follow_from_the_request(tmp_path: Path) -> None:
    """They are chosen again, and a plan that says others is refused, --unproven or not."""
    case = CASES["layers-by-influence"]
    source, plan, out = case.write(tmp_path), tmp_path / "plan.json", tmp_path / "out.onnx"
    done("resize", source, *case.arguments(tmp_path), "-q", "--dry-run", "--plan-out", plan)
    kept = json.loads(plan.read_text())["layers"][0]["kept"]
    assert len(kept) == 3
    others = [layer for layer in range(5) if layer not in kept]
    wrong = rewritten(plan, lambda r: r["layers"][0].update(kept=sorted([*kept[:2], others[0]])))
    for more in ((), ("--unproven",)):
        refused("layers[0].kept[", "resize", source, "--plan", wrong, *case.repeated(tmp_path), *more, "-o", out)
    moved = rewritten(plan, lambda r: r["stacks"][0]["task"].update(picks=[0, 1, 2]) if kept != [0, 1, 2] else None)
    if kept != [0, 1, 2]:
        refused("picks[", "resize", source, "--plan", moved, *case.repeated(tmp_path), "-o", out)


@pytest.mark.parametrize("name", ["layers-by-influence", "keep-activation"])
def test_samples_are_those_of_then(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    source, plan, out = case.write(tmp_path), tmp_path / "plan.json", tmp_path / "out.onnx"
    done("resize", source, *case.arguments(tmp_path), "-q", "--dry-run", "--plan-out", plan)
    refused("made with samples to look at: give --calibration", "resize", source, "--plan", plan, "-o", out)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.ones((21, 4), np.float32))
    refused("made with other samples", "resize", source, "--plan", plan, "--calibration", other, "-o", out)
    done("resize", source, "--layers", "3", "-q", "--dry-run", "--plan-out", plan, "--force")
    refused("made with none", "resize", source, "--plan", plan, "--calibration", other, "-o", out)


# -- beside a plan -------------------------------------------------------------------------------------------------


def test_every_option_is_the_plans_or_stands_beside_it() -> None:
    """So that an option that comes anew is thought of."""
    from bot_onnx._cli.commands.resize import _BESIDE_PLAN, command

    names = {param.name for param in command.get_params(click.Context(command))}
    assert names >= _BESIDE_PLAN
    of_the_plan = {name for name in names - _BESIDE_PLAN if name and not name.startswith((PREFIX, "_click"))}
    said = {"spec", "layers", "layers_by", "keep", "refit", "width", "round_to", "dims", "constants", "method", "seed"}
    said |= {"align", "requantize", "vocab_from", "vocab_keep", "vocab_size", *(role.value for role in SPEC_ROLES)}
    assert of_the_plan == said | OF_LEARNING | {"connect"}  # of several files there is no saved plan


def test_shapes_and_arrays_that_a_plan_was_made_on(tmp_path: Path) -> None:
    source, plan, data = save(residual_mlp_model(), tmp_path), tmp_path / "plan.json", tmp_path / "x.npz"
    np.savez(data, x=np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32))
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    done("resize", source, "--hidden", "12", "--inputs", data, "--input-shape", "x=6x4", "-q", "--plan-out", plan, "-o",
         tmp_path / "a" / "out.onnx")  # fmt: skip
    saved = json.loads(plan.read_text())
    assert saved["asked"]["inputs"] is True and saved["asked"]["input_shapes"] == {"x": [6, 4]}
    assert saved["costs"][0]["inputs"] == {"x": [6, 4]}
    refused("made on given inputs: give --inputs", "resize", source, "--plan", plan, "-o", tmp_path / "b" / "out.onnx")
    done("resize", source, "--plan", plan, "--inputs", data, "-q", "--plan-out", tmp_path / "again.json", "-o",
         tmp_path / "b" / "out.onnx")  # fmt: skip
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert (tmp_path / "again.json").read_text() == plan.read_text()
    stored = Plan.from_json(plan.read_text())
    for opened, more in ((bot_onnx.open(source, inputs=data), {}), (bot_onnx.open(source), {"inputs": data})):
        assert opened.replan(stored, **more) == stored
    other = bot_onnx.open(source, inputs=data, input_shapes={"x": (9, 4)}).replan(stored)
    assert other.costs is not None and other.costs[0].inputs == {"x": (9, 4)}


def test_a_plan_of_a_folder(tmp_path: Path) -> None:
    source, plan = folders.bert(tmp_path / "bert"), tmp_path / "plan.json"
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    done("resize", source, "--layers", "2", "-q", "--plan-out", plan, "-o", tmp_path / "a" / "small")
    done("resize", source, "--plan", plan, "-q", "-o", tmp_path / "b" / "small")
    made = files(tmp_path / "b" / "small")
    assert files(tmp_path / "a" / "small") == made and json.loads(made["config.json"])["num_hidden_layers"] == 2
    done("resize", source / "model.onnx", "--plan", plan, "-q", "-o", tmp_path / "b" / "model.onnx")  # or of its file
    assert (tmp_path / "b" / "model.onnx").read_bytes() == made["model.onnx"]
    inside = tmp_path / "b" / "small" / "plan.json"
    shutil.copy(plan, inside)
    result = run("resize", source, "--plan", inside, "--force", "-o", tmp_path / "b" / "small")
    assert result.exit_code == 1 and "plan.json" in result.stderr and inside.read_bytes() == plan.read_bytes()
    done("resize", source, "--plan", plan, "--dry-run", "-o", tmp_path / "none")
    with_model = bot_onnx.open(source).replan(Plan.from_json(plan.read_text()))
    assert with_model.write(tmp_path / "written").report.passed
    assert with_model.apply() == onnx.load_from_string(made["model.onnx"])


def test_a_plan_whose_result_is_quantised(tmp_path: Path) -> None:
    """It says how the floats come about; what becomes of them is asked beside it."""
    source, plan = CASES["encoder"].write(tmp_path), tmp_path / "plan.json"
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    done("resize", source, "--layers", "2", "--quantize", "fp16", "-q", "--plan-out", plan, "-o",
         tmp_path / "a" / "out.onnx")  # fmt: skip
    done("resize", source, "--plan", plan, "--quantize", "fp16", "-q", "-o", tmp_path / "b" / "out.onnx")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    wrong = rewritten(plan, lambda r: r["layers"][0].update(target=3))
    refused("layers[0].target", "resize", source, "--plan", wrong, "--quantize", "fp16", "-o", tmp_path / "c.onnx")
    refused("never written to", "resize", source, "--plan", plan, "--quantize", "fp16", "--force", "-o", plan)
    packed = rewritten(plan, lambda r: r["asked"].update(requantize=True))
    refused("choose one", "resize", source, "--plan", packed, "--quantize", "fp16", "-o", tmp_path / "c.onnx", code=2)


def test_words_serve_python_as_well(folder: Path) -> None:
    def asked(**changes: Any) -> Plan:
        return Plan.from_json(rewritten(folder / "plan.json", lambda r: r["asked"].update(changes)).read_text())

    with pytest.raises(PlanError, match=r"in Python: inputs\b"):
        bot_onnx.replan(folder / "model.onnx", asked(inputs=True))
    with pytest.raises(PlanError, match=r"in Python: calibration\b"):
        bot_onnx.replan(folder / "model.onnx", asked(calibration_sha256="0" * 64))
    with pytest.raises(PlanError, match=r"Plan\.to_json"):
        Plan.from_json("{}")
    with pytest.raises(TypeError, match="seed"):
        bot_onnx.replay(folder / "model.onnx", asked(), folder / "out.onnx", seed=3)  # type: ignore[call-arg]
