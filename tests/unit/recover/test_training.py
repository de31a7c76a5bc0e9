"""A student learns what its source knows, the same on every run, interrupted or not."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import bot_onnx
from bot_onnx._recover.course import Course, pieces
from bot_onnx._recover.jobs import Recovery, Settings, recover
from bot_onnx._runs.runtime import session
from bot_onnx._surgery.provenance import read_lineage
from bot_onnx.demo import accuracy, held_out
from bot_onnx.errors import OutputError, RecoverError
from tests.unit.recover.samples import SMALL, folder
from tests.zoo.architectures import base_size
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter
SHORT = Settings(steps=6, batch=16, threads=1)


def run(output: Path, settings: Settings = SHORT, **arguments: Any) -> Recovery:
    here = folder()
    return recover(
        here / "small.onnx", here / "teacher.onnx", here / "digits.npz", output, settings=settings, **arguments
    )


def correct(path: Path) -> float:
    test = held_out()
    return accuracy(session(str(path)).run(None, test.feeds())[0], test.labels)


def weights(path: Path) -> dict[str, bytes]:
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(path).graph.initializer}


class Killed(BaseException):
    """Stands for whatever ends a process between two steps."""


def killing_at(step: int) -> Any:
    def told(done: int, steps: int, loss: float) -> None:
        if done == step:
            raise Killed

    return told


@pytest.mark.thorough
def test_the_digits_classifier_is_back_within_two_points(tmp_path: Path) -> None:
    here = folder()
    recovery = run(tmp_path / "out.onnx", Settings(steps=240, batch=32, rate=3e-3, threads=1))
    assert correct(here / "small.onnx") < 0.7
    assert correct(tmp_path / "out.onnx") > correct(here / "teacher.onnx") - 0.02
    (before,), (after,) = recovery.before, recovery.after
    assert before.agreement is not None and after.agreement is not None and after.agreement > before.agreement + 0.3
    assert before.divergence is not None and after.divergence is not None and after.divergence < before.divergence / 5
    assert recovery.loss[1] < recovery.loss[0] / 3 and recovery.notes == (
        "arrays of digits.npz that are no inputs: labels",
    )
    assert [entry.what for entry in recovery.compared] == ["output", *["hidden"] * (SMALL["layers"] + 1)]
    assert {entry.how for entry in recovery.compared[1:]} == {"squares, through a linear map"}
    assert weights(tmp_path / "out.onnx").keys() == weights(here / "small.onnx").keys()
    told = {entry.key: entry.value for entry in onnx.load(tmp_path / "out.onnx").metadata_props}["bot_onnx"]
    assert json.loads(told)["recovered"]["steps"] == 240
    lineage = read_lineage({"bot_onnx": told})
    assert lineage is not None and (lineage.promise.kept, lineage.promise.why) == (None, "trained since")


@pytest.mark.thorough
def test_a_killed_run_goes_on_to_the_very_same_weights(tmp_path: Path) -> None:
    run(tmp_path / "whole.onnx")
    with pytest.raises(Killed):
        run(tmp_path / "resumed.onnx", save_every=0.0, progress=killing_at(4))
    assert [path.name for path in tmp_path.glob("resumed*")] == ["resumed.onnx.recover"]
    recovery = run(tmp_path / "resumed.onnx")
    assert recovery.resumed == 3  # the fourth was not saved any more
    assert not (tmp_path / "resumed.onnx.recover").exists()
    assert (tmp_path / "resumed.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    other = run(tmp_path / "other.onnx", Settings(steps=6, batch=16, threads=1, seed=1))
    assert weights(other.output) != weights(tmp_path / "whole.onnx")


def test_a_second_run_reads_what_the_teacher_answered_in_the_first(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(tmp_path / "first.onnx", teacher_cache=cache)
    entries = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
    assert len(entries) > 16 * SHORT.steps
    run(tmp_path / "second.onnx", teacher_cache=cache)
    run(tmp_path / "alone.onnx", Settings(steps=6, batch=16, threads=1), teacher_cache_bytes=0)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()} == entries
    made = {(tmp_path / f"{name}.onnx").read_bytes() for name in ("first", "second", "alone")}
    assert len(made) == 1


def test_a_checkpoint_of_another_training_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "out.onnx", save_every=0.0, progress=killing_at(3))
    with pytest.raises(RecoverError, match=r"another training \(rate 0\.001, not 0\.01\).*--restart"):
        run(tmp_path / "out.onnx", Settings(steps=6, batch=16, threads=1, rate=0.01))
    (tmp_path / "other.npz").write_bytes((folder() / "digits.npz").read_bytes())
    np.savez(tmp_path / "other.npz", image=np.load(folder() / "digits.npz")["image"][:100])
    with pytest.raises(RecoverError, match=r"\(other data\)"):
        recover(
            folder() / "small.onnx",
            folder() / "teacher.onnx",
            tmp_path / "other.npz",
            tmp_path / "out.onnx",
            settings=SHORT,
        )
    assert run(tmp_path / "out.onnx", Settings(steps=2, batch=16, threads=1), restart=True).resumed == 0
    (tmp_path / "again.onnx.recover").write_bytes(b"not a checkpoint")
    with pytest.raises(RecoverError, match=r"again\.onnx\.recover is no checkpoint"):
        run(tmp_path / "again.onnx")


def _without(state: dict[str, Any], *path: Any) -> dict[str, Any]:
    """``state`` without one entry of it, or with weights of another shape."""
    inner = state
    for key in path[:-1]:
        inner = inner[key]
    if isinstance(path[-1], str) and path[-1].startswith("cut "):
        name = next(iter(inner))
        inner[name] = inner[name].reshape(-1)[1:]
    else:
        del inner[path[-1]]
    return state


MISSING: tuple[tuple[Any, ...], ...] = (
    ("losses",),
    ("validated",),
    ("best",),
    ("scaler",),
    ("weights",),
    ("maps",),
    ("optimiser",),
    ("optimiser", "param_groups"),
    ("optimiser", "param_groups", 0, "lr"),
    ("optimiser", "state", 0, "exp_avg"),
    ("weights", "cut "),
    ("fingerprint",),
)


@pytest.mark.thorough
def test_a_checkpoint_in_which_something_is_missing(tmp_path: Path) -> None:
    out, kept = tmp_path / "out.onnx", tmp_path / "out.onnx.recover"
    with pytest.raises(Killed):
        run(out, save_every=0.0, progress=killing_at(3))
    whole = kept.read_bytes()
    for path in MISSING:
        kept.write_bytes(whole)
        torch.save(_without(torch.load(kept, weights_only=True), *path), kept)
        with pytest.raises(RecoverError, match=r"no checkpoint of a training that can be read; .*--restart"):
            run(out)
        assert [entry.name for entry in tmp_path.iterdir()] == ["out.onnx.recover"], path


WATCHED = Settings(steps=6, batch=16, threads=1, validate_every=2, keep_best=True, patience=3)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_killed_run_goes_on_in_its_log_and_with_what_it_has_seen(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []
    whole = run(tmp_path / "whole.onnx", WATCHED, log=tmp_path / "whole.csv", validated=lambda *told: seen.append(told))
    assert [step for step, _ in whole.validated] == [2, 4, 6] and seen == list(whole.validated)
    with pytest.raises(Killed):
        run(tmp_path / "cut.onnx", WATCHED, save_every=0.0, progress=killing_at(4), log=tmp_path / "cut.csv")
    killed = rows(tmp_path / "cut.csv")
    assert [row["step"] for row in killed] == ["1", "2", "3", "4"]  # the fourth was logged and not saved
    with (tmp_path / "cut.csv").open("a") as file:
        file.write("5,0.1")  # a row that a kill cut off
    resumed = run(tmp_path / "cut.onnx", WATCHED, log=tmp_path / "cut.csv")
    assert resumed.resumed == 3 and resumed.validated == whole.validated and resumed.written == whole.written
    assert (tmp_path / "cut.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    tables = [rows(tmp_path / f"{name}.csv") for name in ("whole", "cut")]
    assert tables[1][:3] == killed[:3]
    times = [[float(row.pop("seconds")) for row in table] for table in tables]
    assert tables[0] == tables[1] and all(found == sorted(found) for found in times)
    assert [row["validation_loss"] != "" for row in tables[0]] == [False, True] * 3
    assert float(tables[0][0]["learning_rate"]) == SHORT.rate and float(tables[0][5]["validation_loss"]) == seen[2][1]


def test_a_log_with_few_rows_replaces_a_log_and_nothing_else(tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path / "out.onnx", log=tmp_path / "run.csv", log_every=4, force=True)
        assert [row["step"] for row in rows(tmp_path / "run.csv")] == ["4", "6"]
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(OutputError, match=r"mine\.csv exists and is no log"):
        run(tmp_path / "other.onnx", log=tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "a,b\n1,2\n"
    (tmp_path / "inside").mkdir()
    for name in ("other.onnx", "inside/../other.onnx", "inside/../other.onnx.recover"):
        with pytest.raises(OutputError, match="written by the training itself"):
            run(tmp_path / "other.onnx", log=tmp_path / name)
    assert not (tmp_path / "other.onnx").exists()


def test_patience_ends_a_training_and_the_best_weights_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By losses that are given: lowest after step 2, then higher twice."""
    given = {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.5, 5: 0.5}
    add = Course.add
    monkeypatch.setattr(Course, "add", lambda self, loss, weights: add(self, given[len(self.losses)], weights))
    asked = Settings(steps=40, batch=16, threads=1, validate_every=1, patience=2, keep_best=True)
    with pytest.raises(Killed):
        run(tmp_path / "best.onnx", asked, save_every=0.0, progress=killing_at(4))
    best = run(tmp_path / "best.onnx", asked, log=tmp_path / "run.csv")
    assert (best.resumed, best.stopped, best.written) == (3, 4, 2)
    assert [row["step"] for row in rows(tmp_path / "run.csv")] == ["4"]  # the one step that this run did
    last = run(tmp_path / "last.onnx", replace(asked, keep_best=False))
    assert (last.stopped, last.written) == (4, 4) and weights(last.output) != weights(best.output)
    with pytest.raises(Killed):
        run(tmp_path / "short.onnx", replace(asked, patience=0), progress=killing_at(3))
    assert best.validated == ((1, 3.0), (2, 1.0), (3, 2.0), (4, 1.5))


def test_what_depends_on_a_validation_needs_one(tmp_path: Path) -> None:
    for asked in (Settings(patience=1), Settings(keep_best=True)):
        with pytest.raises(RecoverError, match="--validate-every"):
            run(tmp_path / "out.onnx", asked)


def test_measuring_in_between_changes_no_weight(tmp_path: Path) -> None:
    made = [run(tmp_path / f"{every}.onnx", replace(SHORT, validate_every=every)).output for every in (0, 2)]
    assert made[0].read_bytes() == made[1].read_bytes()


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    """To rounding, where the loss is a mean over samples: logits alone, without padding."""
    common = {"steps": 5, "threads": 1, "hidden": 0.0}
    for chunk in (None, 4):
        large, many = Settings(batch=32, **common), Settings(batch=8, accumulate=4, **common)  # type: ignore[arg-type]
        chosen = np.arange(32)
        assert np.array_equal(np.concatenate(pieces(chosen, many, chunk)), chosen)
        assert [len(piece) for piece in pieces(chosen, many, chunk)] == [8] * 4
        assert [len(piece) for piece in pieces(chosen, large, chunk)] == [32]
    assert [len(piece) for piece in pieces(np.arange(7), Settings(batch=2, accumulate=9), None)] == [2, 2, 3]
    for name, settings in (("large", large), ("many", many)):
        run(tmp_path / f"{name}.onnx", settings, log=tmp_path / f"{name}.csv")
    losses = [[float(row["loss"]) for row in rows(tmp_path / f"{name}.csv")] for name in ("large", "many")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_rate_that_explodes_is_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecoverError, match=r"loss is (nan|inf) at step \d+: train at a lower --rate"):
        run(tmp_path / "out.onnx", Settings(steps=30, batch=16, threads=1, rate=1e30))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        run(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == b"mine"
    with pytest.raises(OutputError, match="never written to"):
        run(folder() / "small.onnx", force=True)


def test_outputs_alone_and_outputs_by_name(tmp_path: Path) -> None:
    recovery = run(tmp_path / "out.onnx", Settings(steps=1, batch=16, threads=1, hidden=0.0, outputs=("logits",)))
    assert [entry.what for entry in recovery.compared] == ["output"]
    with pytest.raises(RecoverError, match=r"'scores' is no output of both models: they have logits in common"):
        run(tmp_path / "none.onnx", Settings(steps=1, outputs=("scores",)))


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    model = onnx.load(folder() / "teacher.onnx")
    model.graph.input[0].name = "picture"
    for node in model.graph.node:
        for slot, name in enumerate(node.input):
            if name == "image":
                node.input[slot] = "picture"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(RecoverError, match="input 'image' belongs to only one of the models"):
        recover(folder() / "small.onnx", tmp_path / "other.onnx", folder() / "digits.npz", tmp_path / "out.onnx")


def test_a_fixed_batch_is_gone_through_in_chunks(tmp_path: Path) -> None:
    """The same training as with an open batch axis, up to rounding."""
    for name in ("small", "teacher"):
        model = onnx.load(folder() / f"{name}.onnx")
        for port in (*model.graph.input, *model.graph.output):
            port.type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, tmp_path / f"{name}.onnx")
    few = Settings(steps=2, batch=16, threads=1, held_out=0.02)
    paths = (tmp_path / "small.onnx", tmp_path / "teacher.onnx", folder() / "digits.npz", tmp_path / "out.onnx")
    chunked, whole = recover(*paths, settings=few), run(tmp_path / "whole.onnx", few)
    assert chunked.loss == pytest.approx(whole.loss, rel=1e-4)
    ours, theirs = (onnx.load(result.output).graph.initializer for result in (chunked, whole))
    values = [
        {t.name: numpy_helper.to_array(t) for t in side if t.data_type == 1 and len(t.dims)} for side in (ours, theirs)
    ]
    assert values[0].keys() == values[1].keys()
    assert max(np.abs(values[0][name] - array).max() for name, array in values[1].items()) < 1e-3


def test_a_text_encoder_of_another_width_learns_distances(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", *(f"w{place}" for place in range(1, 90))]
    tool = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[PAD]"))
    tool.pre_tokenizer = pre_tokenizers.Whitespace()
    tool.save(str(tmp_path / "tokenizer.json"))
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(words[1:], rng.integers(2, 12))) for _ in range(200)]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    teacher, small = cached_export("bert", base_size("bert"), "dynamo18"), tmp_path / "small.onnx"
    bot_onnx.resize(teacher, {"layers": 2, "hidden": 16}, small, against=False)
    recovery = recover(
        small,
        teacher,
        tmp_path / "lines.txt",
        tmp_path / "out.onnx",
        settings={"steps": 60, "rate": 3e-3, "threads": 1},
    )
    assert {entry.how for entry in recovery.compared if entry.what == "output"} == {
        "squares, through a linear map + similarity of samples"
    }
    assert recovery.loss[1] < 0.7 * recovery.loss[0]
    for before, after in zip(recovery.before, recovery.after, strict=True):
        assert (after.cosine, after.agreement) == (None, None)
        assert before.similarity is not None and after.similarity is not None
        assert after.similarity > before.similarity + 0.1


def test_a_quantised_student_is_trained_and_written_as_floats(tmp_path: Path) -> None:
    bot_onnx.quantize(folder() / "small.onnx", tmp_path / "packed.onnx", to="int8")
    made = recover(
        tmp_path / "packed.onnx", folder() / "teacher.onnx", folder() / "digits.npz", tmp_path / "out.onnx",
        settings=replace(SHORT, steps=2),
    )  # fmt: skip
    assert any("were quantised" in note and "--quantize" in note for note in made.notes)
    stored = {tensor.data_type for tensor in onnx.load(made.output).graph.initializer}
    assert onnx.TensorProto.FLOAT in stored and not stored & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert not any("were quantised" in note for note in run(tmp_path / "plain.onnx", replace(SHORT, steps=2)).notes)
