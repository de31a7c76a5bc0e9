"""``bot-onnx sweep``: every combination once, ranked by its score, whatever happens in between."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._cli.app import commands
from bot_onnx.errors import OutputError
from tests.graphs import residual_mlp_model, save

pytest.importorskip("optuna", reason="needs the extra 'sweep'")

DIGITS = Path(bot_onnx.__file__).parent / "demo" / "digits_vit.onnx"
#: Larger files are better; counted beside the score's own file, to see what was run.
SCORE = """
import os, pathlib, time

def score(path):
    with open(pathlib.Path(__file__).with_name("calls"), "a") as calls:
        calls.write(path + "\\n")
    time.sleep(float(os.environ.get("SLOW", "0")))
    return os.path.getsize(path)

def picky(path):
    size = os.path.getsize(path)
    if size < 2500:
        raise RuntimeError("too small")
    return float("nan") if size > 4000 else size
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network of 3 layers, 8 wide, and two specs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    save(residual_mlp_model(), tmp_path)
    for name, spec in {"small": {"hidden": 4}, "tiny": {"hidden": 4, "layers": 1}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(spec))
    (tmp_path / "my.py").write_text(SCORE)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ("sweep", "model.onnx", "--jobs", "1", *arguments))


def found(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


SPECS = ("--spec", "small.json", "--spec", "tiny.json")
WAYS = ("--method", "bot,front", "--wavelet", "haar,db2")


def calls(place: Path) -> int:
    file = place / "calls"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_every_combination_is_made_and_ranked_and_the_best_stays(place: Path) -> None:
    told = found(run(*SPECS, *WAYS, "--score", "my.py:score", "-o", "best.onnx", "--json"))
    trials = told["trials"]
    made = {
        (t["combination"]["spec"], t["combination"]["method"], *t["combination"]["options"].values()) for t in trials
    }
    assert made == {
        (spec, *way) for spec in ("small", "tiny") for way in (("bot", "haar"), ("bot", "db2"), ("front",))
    }  # fmt: skip
    scores = [trial["outcome"]["score"] for trial in trials]
    assert scores == sorted(scores, reverse=True) and calls(place) == 6
    assert told["best"] == trials[0] and Path("best.onnx").stat().st_size == scores[0]
    assert sorted(entry.name for entry in place.iterdir() if entry.name != "__pycache__") == [
        "best.onnx", "calls", "model.onnx", "my.py", "small.json", "sweep.db", "tiny.json",
    ]  # fmt: skip


def test_the_best_has_the_bytes_that_resize_gives_it(place: Path) -> None:
    told = found(run(*SPECS, *WAYS, "--seed", "3", "-o", "best.onnx", "--json"))
    best = told["best"]["combination"]
    alone = place / "alone" / "best.onnx"
    bot_onnx.resize("model.onnx", f"{best['spec']}.json", alone, method=best["method"], options=best["options"], seed=3)
    assert alone.read_bytes() == Path("best.onnx").read_bytes()
    report = bot_onnx.verify("best.onnx", against="model.onnx")
    [cosine] = [compared.cosine for compared in report.comparisons]
    assert told["best"]["outcome"]["score"] == pytest.approx(cosine)


def test_minimize_turns_the_ranking(place: Path) -> None:
    told = found(run(*SPECS, *WAYS, "--score", "my.py:score", "--minimize", "-o", "best.onnx", "--json"))
    scores = [trial["outcome"]["score"] for trial in told["trials"]]
    assert scores == sorted(scores) and Path("best.onnx").stat().st_size == scores[0]


def test_what_is_finished_is_not_made_again(place: Path) -> None:
    line = (*SPECS, *WAYS, "--score", "my.py:score", "--json")
    found(run(*line, "--trials", "2"))
    assert calls(place) == 2
    told = found(run(*line))
    assert calls(place) == 6 and told["resumed"] == 2 and len(told["trials"]) == 6
    told = found(run(*line, "-o", "best.onnx"))
    assert calls(place) == 7 and told["resumed"] == 6  # the best one, whose file was not asked for before
    assert Path("best.onnx").stat().st_size == told["best"]["outcome"]["score"]


def test_refused_and_failed_combinations_have_their_reasons_and_the_others_go_on(place: Path) -> None:
    Path("wrong.json").write_text('{"dims": {"nosuch": 4}}')
    Path("wide.json").write_text('{"hidden": 6}')
    line = (*SPECS, "--spec", "wrong.json", "--spec", "wide.json", "--wavelet", "haar,nosuch", "--score", "my.py:picky")
    told = found(run(*line, "--json"))
    by = {(t["combination"]["spec"], t["combination"]["options"]["wavelet"]): t["outcome"] for t in told["trials"]}
    assert {key: outcome["status"] for key, outcome in by.items() if key[1] == "nosuch"} == {
        (spec, "nosuch"): "refused" for spec in ("small", "tiny", "wide", "wrong")
    }
    assert "nosuch" in by["small", "nosuch"]["reason"]
    assert by["wrong", "haar"]["status"] == "refused" and by["small", "haar"]["status"] == "scored"
    assert by["tiny", "haar"]["status"] == "failed"
    assert by["tiny", "haar"]["reason"] == "the score raised RuntimeError: too small"
    assert by["wide", "haar"]["status"] == "failed" and by["wide", "haar"]["reason"] == "the score is nan"
    shown = run(*line)
    assert shown.exit_code == 0 and "refused (" in shown.output and "failed (tiny, bot wavelet=haar)" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80


def test_nothing_scored_is_an_error_after_the_table(place: Path) -> None:
    result = run("--spec", "small.json", "--wavelet", "nosuch", "-o", "best.onnx")
    assert result.exit_code == 1 and "none of the 1 combinations has a score" in result.output
    assert not Path("best.onnx").exists() and "refused (small, bot wavelet=nosuch)" in result.output


def test_keep_and_table(place: Path) -> None:
    told = found(run(*SPECS, "--wavelet", "haar,db2", "--keep", "models", "--table", "t.csv", "--json"))
    kept = [Path(trial["kept"]) for trial in told["trials"]]
    assert sorted(place.joinpath("models").iterdir()) == sorted(place / path for path in kept) and len(kept) == 4
    for trial, path in zip(told["trials"], kept, strict=True):
        assert trial["combination"]["spec"] in path.name and trial["combination"]["options"]["wavelet"] in path.name
        assert bot_onnx.verify(path).passed
    with open("t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["wavelet"] for row in rows] == [t["combination"]["options"]["wavelet"] for t in told["trials"]]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]


def test_models_of_two_sweeps_stay_beside_one_another(place: Path) -> None:
    line = ("--spec", "small.json", "--score", "my.py:score", "--keep", "models", "--json")
    kept = {trial["kept"]: Path(trial["kept"]).read_bytes() for trial in found(run(*line, "--study", "1.db"))["trials"]}
    save(residual_mlp_model(2), place)
    for study, flags in (("2.db", ()), ("3.db", ("--align", "none"))):
        (trial,) = found(run(*line, "--study", study, *flags))["trials"]
        assert trial["kept"] not in kept
        kept[trial["kept"]] = Path(trial["kept"]).read_bytes()
    assert len(kept) == 3 and all(Path(path).read_bytes() == model for path, model in kept.items())


def test_a_kept_model_replaces_neither_the_source_nor_a_file_of_another(place: Path) -> None:
    line = ("--spec", "small.json", "--keep", "models")
    (trial,) = found(run(*line, "--json"))["trials"]
    kept, source = Path(trial["kept"]), Path("model.onnx").read_bytes()
    for content in (source, b"mine"):
        kept.write_bytes(content)
        before = sorted(place.iterdir())
        shown = run(*line, "--study", "new/other.db")
        assert shown.exit_code == 1 and f"{kept} is there, and not as this study has kept it" in shown.stderr
        assert kept.read_bytes() == content and sorted(place.iterdir()) == before
    kept.write_bytes(source)
    for flags in ((), ("--force",)):
        shown = CliRunner().invoke(cli, ["sweep", str(kept), "--jobs", "1", *line, "--study", "other.db", *flags])
        assert shown.exit_code == 1 and "is a source of this command" in shown.stderr, shown.output
        assert kept.read_bytes() == source


def test_specs_are_not_replaced_from_python_either(place: Path) -> None:
    for output in ({"output": "small.json", "force": True}, {"study": "small.json"}):
        with pytest.raises(OutputError, match="is a source of this command"):
            bot_onnx.sweep("model.onnx", ["small.json"], **output)
    assert json.loads(Path("small.json").read_text()) == {"hidden": 4}


def test_models_that_are_to_stay_and_are_not_there_are_made_again(place: Path) -> None:
    line = (*SPECS, "--score", "my.py:score", "--json")
    assert [trial["kept"] for trial in found(run(*line))["trials"]] == [None, None]
    made = found(run(*line, "--keep", "models"))
    assert made["resumed"] == 2 and calls(place) == 4
    kept = {Path(trial["kept"]): Path(trial["kept"]).read_bytes() for trial in made["trials"]}
    assert {len(model) for model in kept.values()} == {int(trial["outcome"]["score"]) for trial in made["trials"]}
    lost, changed = kept
    lost.unlink()
    assert [trial["kept"] for trial in found(run(*line, "--keep", "models"))["trials"]] == list(map(str, kept))
    assert calls(place) == 5 and lost.read_bytes() == kept[lost]
    changed.write_bytes(kept[lost])
    assert run(*line, "--keep", "models").exit_code == 1 and changed.read_bytes() == kept[lost]
    found(run(*line, "--keep", "models", "--force"))
    assert calls(place) == 6 and {path: path.read_bytes() for path in kept} == kept


def test_a_replaced_model_takes_the_data_file_that_only_it_read_along(place: Path) -> None:
    save(residual_mlp_model(3, 64, 64), place)  # smaller weights stay inside
    (place / "apart").mkdir()
    bot_onnx.resize("model.onnx", {"hidden": 64}, "apart/model.onnx", external=True)
    for name, hidden in (("small", 48), ("tiny", 32)):
        Path(f"{name}.json").write_text(json.dumps({"hidden": hidden}))
    line = ("sweep", "apart/model.onnx", "--jobs", "1", "-o", "best.onnx", "--json")
    found(CliRunner().invoke(cli, [*line, *SPECS[:2]]))
    before = {entry.name for entry in place.glob("best.onnx.*.data")}
    found(CliRunner().invoke(cli, [*line, *SPECS[2:], "--study", "two.db", "--force"]))
    after = {entry.name for entry in place.glob("best.onnx.*.data")}
    assert len(before) == len(after) == 1 and before != after
    assert bot_onnx.verify("best.onnx").passed


def test_the_source_may_lie_in_a_folder(place: Path) -> None:
    told = found(run(*SPECS, "-o", "best.onnx", "--json"))
    Path("model").mkdir()
    Path("model.onnx").rename("model/model.onnx")
    again = found(CliRunner().invoke(cli, ["sweep", "model", *SPECS, "--json"]))
    assert [t["outcome"]["score"] for t in again["trials"]] == [t["outcome"]["score"] for t in told["trials"]]
    assert Path("sweep.db").exists() and [entry.name for entry in Path("model").iterdir()] == ["model.onnx"]


def test_weights_beside_the_model_come_along(place: Path) -> None:
    save(residual_mlp_model(3, 64, 64), place)  # smaller weights stay inside
    bot_onnx.resize("model.onnx", {"hidden": 64}, "apart.onnx", external=True)
    Path("model.onnx").unlink()
    for name, hidden in (("small", 48), ("tiny", 32)):
        Path(f"{name}.json").write_text(json.dumps({"hidden": hidden}))
    result = CliRunner().invoke(
        cli, ["sweep", "apart.onnx", "--jobs", "1", *SPECS, "-o", "out/best.onnx", "--keep", "models", "--json"]
    )
    assert result.exit_code == 0, result.output
    for path in (Path("out/best.onnx"), *Path("models").glob("*.onnx")):
        assert bot_onnx.verify(path).passed
    assert len(list(Path("out").iterdir())) == 3 and len(list(Path("models").iterdir())) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("--seed", "1"), "another --seed"),
        (("--method", "front"), "another --method"),
        (("--align", "none"), "another --align"),
        (("--score", "my.py:picky"), "another --score"),
        (("--minimize",), "another --minimize"),
        (("--input-shape", "x=3x4"), "another --input-shape"),
    ],
)
def test_a_study_of_other_options_is_refused_by_name(place: Path, change: tuple[str, ...], told: str) -> None:
    line = ("--spec", "small.json", "--score", "my.py:score")
    found(run(*line, "--json"))
    result = run(*line, *change)
    assert result.exit_code == 1 and f"sweep.db is a study of {told}" in result.output, result.output


def test_a_study_of_another_source_spec_or_score_is_refused(place: Path) -> None:
    line = ("--spec", "small.json", "--score", "my.py:score")
    found(run(*line, "--json"))
    Path("my.py").write_text(SCORE + "\n# changed\n")
    assert "a study of another --score" in run(*line).output
    Path("my.py").write_text(SCORE)
    Path("small.json").write_text('{"hidden": 6}')
    assert "a study of another --spec" in run(*line).output
    Path("small.json").write_text('{"hidden": 4}')
    save(residual_mlp_model(layers=4), place)
    assert "a study of another source" in run(*line).output


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("--spec", "none.json"), "none.json"),
        (("--spec", "small.json", "--spec", "small.json"), "stands there twice"),
        (("--spec", "small.json", "--method", "front", "--wavelet", "haar"), "it is one of bot"),
        (("--spec", "small.json", "--sampler", "tpe"), "give a number of trials"),
        (("--spec", "small.json", "-o", "model.onnx", "--force"), "model.onnx"),
        (("--spec", "small.json", "--study", "model.onnx"), "model.onnx"),
        (("--spec", "small.json", "-o", "my.py"), "my.py"),
        (("--spec", "small.json", "-o", "small.json", "--force"), "a source of this command"),
        (("--spec", "small.json", "--study", "x.db", "-o", "x.db"), "x.db"),
        (("--spec", "small.json", "--table", "x.db", "--study", "x.db"), "--study"),
        (("--spec", "small.json", "--score", "agreement"), "--inputs"),
        (("--spec", "small.json", "--inputs", "none.npz"), "none.npz"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(place: Path, line: tuple[str, ...], told: str) -> None:
    before = sorted(place.iterdir())
    result = run(*line)
    assert result.exit_code == 1 and told in result.output, result.output
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_draw_as_often_as_asked_and_make_each_combination_once(place: Path, sampler: str) -> None:
    line = (*SPECS, *WAYS, "--score", "my.py:score", "--sampler", sampler, "--json")
    first = found(run(*line, "--trials", "3"))
    told = found(run(*line, "--trials", "12"))
    keys = [json.dumps(trial["combination"]) for trial in told["trials"]]
    assert len(set(keys)) == len(keys) == calls(place) <= 6
    assert told["resumed"] == 3 and len(first["trials"]) <= 3


def test_two_sweeps_of_one_study_at_once_are_refused(place: Path) -> None:
    from bot_onnx._sweep.files import work_folder

    with work_folder(place / "sweep.db"):
        result = run("--spec", "small.json")
    assert result.exit_code == 1 and "another sweep is at work on it" in result.output
    assert not (place / ".sweep.db.trials").exists()


def test_agreement_on_samples(place: Path) -> None:
    import numpy as np

    np.savez("x.npz", x=np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32))
    Path("shallow.json").write_text('{"layers": 2}')
    line = ("--spec", "shallow.json", "--score", "agreement", "--inputs", "x.npz", "--json", "--study", "b.db")
    outcome = found(run(*line))["trials"][0]["outcome"]
    assert outcome["status"] == "scored" and 0 < outcome["score"] < 1 and (outcome["score"] * 50) % 1 == 0


def test_the_command_is_listed() -> None:
    assert "sweep" in commands()


@pytest.mark.thorough
@pytest.mark.exporter
def test_recovery_is_a_part_of_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.recover.samples import folder

    monkeypatch.chdir(tmp_path)
    Path("half.json").write_text('{"hidden": 32}')
    line = ["sweep", str(folder() / "teacher.onnx"), "--jobs", "1", "--spec", "half.json", "--wavelet", "haar,db2"]
    line += ["--align", "none", "--json"]

    def scored(*more: str) -> dict[str, float]:
        told = found(CliRunner().invoke(cli, [*line, *more]))
        return {t["combination"]["options"]["wavelet"]: t["outcome"]["score"] for t in told["trials"]}

    plain = scored("--study", "plain.db")
    taught = ("--recover", "10", "--data", str(folder() / "digits.npz"), "-o", "best.onnx")
    better = scored("--study", "taught.db", *taught)
    assert all(better[wavelet] != plain[wavelet] for wavelet in ("haar", "db2"))
    report = bot_onnx.verify("best.onnx", against=folder() / "teacher.onnx")
    cosines = [compared.cosine for compared in report.comparisons if compared.cosine is not None]
    assert max(better.values()) == pytest.approx(sum(cosines) / len(cosines), rel=1e-5)
    result = CliRunner().invoke(cli, [*line, "--study", "taught.db", *taught, "--force", "--rate", "0.1"])
    assert result.exit_code == 1 and "another --recover" in result.output


@pytest.mark.parametrize("given", [("--recover", "5"), ("--data", "x.npz")])
def test_recovery_needs_data_and_data_recovery(place: Path, given: tuple[str, ...]) -> None:
    result = run("--spec", "small.json", *given)
    assert result.exit_code == 2 and "--recover" in result.output
