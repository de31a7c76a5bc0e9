"""The published specs, and what the ``specs`` command reads."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from bot_onnx._target import SpecSummary, TargetSpec, library, list_specs, show_spec, spec_schema
from bot_onnx.errors import SpecError

TABLE = {"ti": (3, 192, 3), "s": (6, 384, 6), "b": (12, 768, 12), "l": (24, 1024, 16)}
FAMILIES = {"bert": "ti s b l", "deit": "ti s b l", "gpt": "s b", "roberta": "s b"}


def test_the_twelve_are_there_in_order() -> None:
    expected = [f"{family}-{size}" for family, sizes in FAMILIES.items() for size in sizes.split()]
    assert list(library.names()) == expected
    assert [row.name for row in list_specs()] == expected


@pytest.mark.parametrize("row", list_specs(), ids=lambda row: row.name)
def test_sizes_are_the_published_ones(row: SpecSummary) -> None:
    layers, hidden, heads = TABLE[row.name.rpartition("-")[2]]
    assert (row.layers, row.hidden, row.heads) == (layers, hidden, heads)
    assert (row.head_dim, row.intermediate) == (hidden // heads, 4 * hidden) == (64, 4 * hidden)
    spec = TargetSpec.load(row.name)
    assert spec == show_spec(row.name)
    assert (spec.name, spec.layers, spec.hidden, spec.heads) == (row.name, layers, hidden, heads)
    assert (spec.head_dim, spec.intermediate) == (row.head_dim, row.intermediate)
    assert spec.reference is not None and spec.reference.model_dump(exclude_none=True) == row.reference
    assert (spec.vocab, spec.positions, spec.soft) == (None, None, ())


def test_references() -> None:
    facts = {row.name: row.reference for row in list_specs()}
    assert (facts["roberta-b"]["vocab"], facts["roberta-b"]["positions"]) == (50265, 514)
    assert (facts["bert-s"]["vocab"], facts["bert-s"]["sequence"]) == (30522, 128)
    assert (facts["gpt-b"]["vocab"], facts["gpt-b"]["positions"]) == (50257, 1024)
    assert (facts["deit-l"]["image"], facts["deit-l"]["patch"], facts["deit-l"]["positions"]) == (224, 16, 197)


def test_a_published_name_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bert-s").write_text(json.dumps({"hidden": 1}))
    monkeypatch.chdir(tmp_path)
    assert TargetSpec.load("bert-s").hidden == 384
    assert TargetSpec.load("./bert-s").hidden == 1


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match=r"did you mean 'roberta-b'\? Published: bert-ti, bert-s"):
        show_spec("robertab")


def test_the_wheel_folder_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "own.json").write_text('{"hidden": 5}')
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    assert library.names() == ("own",)
    assert TargetSpec.load("own").hidden == 5


def test_a_broken_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A folder "specs" beside the package is only ours in a checkout, where pyproject.toml stands beside it too.
    monkeypatch.setattr(resources, "files", lambda package: tmp_path / "bot_onnx")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "bot_onnx" / "spec" / "library.py"))
    (tmp_path / "specs").mkdir()
    with pytest.raises(SpecError, match="reinstall"):
        library.folder()


def test_schema_is_data() -> None:
    assert spec_schema() == TargetSpec.json_schema()
