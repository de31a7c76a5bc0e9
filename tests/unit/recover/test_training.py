"""A student learns what its source knows, the same on every run, interrupted or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import bot_onnx
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
