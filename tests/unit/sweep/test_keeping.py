"""Names of kept models say what they are made of, and stand for nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from bot_onnx._sweep.keeping import Keeping, sha256_of
from bot_onnx._sweep.types import Combination
from bot_onnx.errors import OutputError
from tests.graphs import residual_mlp_model, save

A, B = Combination("a", "bot", {"wavelet": "haar"}), Combination("b", "bot", {"wavelet": "haar"})


class Noted(dict[str, list[str]]):
    """Notes without a study."""

    def kept(self, name: str) -> list[str]:
        return self.get(name, [])

    def note_kept(self, name: str, sha256: str) -> None:
        self.setdefault(name, []).append(sha256)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(residual_mlp_model(), tmp_path)


@pytest.fixture
def keeping(tmp_path: Path, model: Path) -> Keeping:
    specs = {"a": {"hidden": 4}, "b": {"hidden": 6}}
    return Keeping(tmp_path / "kept", {"source": "1" * 64}, specs, [model], False, Noted())


@pytest.mark.parametrize(
    "change",
    [
        lambda one: (replace(one, made_of={**one.made_of, "source": "2" * 64}), A),
        lambda one: (replace(one, made_of={**one.made_of, "--align": "none"}), A),
        lambda one: (replace(one, specs={"a": {"hidden": 5}}), A),
        lambda one: (one, B),
        lambda one: (one, replace(A, method="front")),
        lambda one: (one, replace(A, options={"wavelet": "db2"})),
    ],
)
def test_another_model_has_another_name(
    keeping: Keeping, change: Callable[[Keeping], tuple[Keeping, Combination]]
) -> None:
    other, combination = change(keeping)
    assert other.path(combination) != keeping.path(A) == replace(keeping).path(replace(A))


def test_what_is_kept_is_found_as_long_as_it_is_the_same(keeping: Keeping, model: Path) -> None:
    assert keeping.find(A) is None
    keeping.check([A, B])
    keeping.keep(model, A, sha256_of(model))
    kept = keeping.path(A)
    assert keeping.find(A) == kept and kept.read_bytes() == model.read_bytes()
    later = replace(keeping, _found={})
    later.check([A, B])
    assert later.find(A) == kept
    onnx.save(residual_mlp_model(2), kept)
    later = replace(keeping, _found={})
    assert later.find(A) is None
    with pytest.raises(OutputError, match="not as this study has kept it"):
        later.check([A, B])
    replace(later, force=True).check([A, B])


def test_files_of_others_stay(keeping: Keeping, model: Path) -> None:
    kept = keeping.path(A)
    kept.parent.mkdir()
    kept.write_text("no model")
    for notes in (None, keeping.notes):
        with pytest.raises(OutputError, match="not as this study has kept it"):
            replace(keeping, notes=notes).check([A])
    with pytest.raises(OutputError, match="exists already"):
        keeping.keep(model, A, sha256_of(model))
    assert kept.read_text() == "no model"
    replace(keeping, force=True).keep(model, A, sha256_of(model))
    assert kept.read_bytes() == model.read_bytes()


def test_a_source_stays_even_by_force(keeping: Keeping, model: Path) -> None:
    kept = keeping.path(A)
    kept.parent.mkdir()
    shutil.move(model, kept)
    model.symlink_to(kept)
    forced = replace(keeping, force=True)
    with pytest.raises(OutputError, match="is a source of this command"):
        forced.check([A])
    onnx.save(residual_mlp_model(2), model.with_name("other.onnx"))
    with pytest.raises(OutputError, match="is a source of this command"):
        forced.keep(model.with_name("other.onnx"), A, "3" * 64)


def test_a_model_that_comes_out_otherwise_replaces_what_was_kept(keeping: Keeping, model: Path) -> None:
    keeping.keep(model, A, sha256_of(model))
    onnx.save(residual_mlp_model(2), other := model.with_name("other.onnx"))
    keeping.keep(other, A, sha256_of(other))
    assert keeping.path(A).read_bytes() == other.read_bytes()
    assert replace(keeping, _found={}).find(A) == keeping.path(A)
