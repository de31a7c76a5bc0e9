"""The target spec: what it accepts, and what every refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bot_onnx._target import TargetSpec, parse_assignments, parse_layers
from bot_onnx._target.reader import MAX_BYTES
from bot_onnx.errors import SpecError


def test_every_key_is_read_and_survives_json() -> None:
    data = {
        "name": "small",
        "layers": {"encoder": 6, "decoder": 4},
        "hidden": 384,
        "heads": 6,
        "kv_heads": 2,
        "head_dim": 64,
        "intermediate": 1536,
        "vocab": 1000,
        "positions": 128,
        "width": 0.5,
        "round_to": 8,
        "dims": {"dim_96": 48},
        "constants": {"/Div": "1/sqrt(head_dim*3)", "/Mul": 2},
        "soft": ["vocab"],
        "reference": {"image": 224},
    }
    spec = TargetSpec.parse(data)
    assert spec.layers == {"encoder": 6, "decoder": 4}
    assert spec.constants == {"/Div": "1/sqrt(head_dim*3)", "/Mul": 2.0}
    assert TargetSpec.model_validate_json(spec.model_dump_json()) == spec
    assert list(spec.requested()) == ["hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocab", "positions"]


@pytest.mark.parametrize("layers", [6, [2, 2, 6, 2], {"encoder": 3}])
def test_layers_have_three_forms(layers: Any) -> None:
    assert TargetSpec(layers=layers).layers == layers


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"hiden": 3}, r"^spec: key 'hiden' is not known; did you mean 'hidden'\? Known keys: name, layers"),
        ({"hidden_size": 3, "heads": 2}, "key 'hidden_size' is not known; did you mean 'hidden'"),
        ({"reference": {"imag": 3}}, "key 'imag' in 'reference' is not known; did you mean 'image'"),
        (
            {"name": ""},
            "key 'name' must have at least 1 character, not '': give at least one character, or drop the key",
        ),
        ({"hidden": 0}, "key 'hidden' must be greater than 0, not 0: give a number above 0"),
        ({"hidden": -4}, "key 'hidden' .*above 0"),
        ({"hidden": "384"}, "key 'hidden' must be a valid integer, not '384': .*without quotes"),
        ({"hidden": 38.4}, "key 'hidden' .*whole number"),
        ({"hidden": True}, "key 'hidden' .*whole number"),
        ({"hidden": 2**40}, "key 'hidden' .*smaller"),
        ({"width": 0}, "key 'width' .*above 0"),
        ({"width": float("nan")}, "key 'width' .*finite|key 'width' .*above 0"),
        ({"width": float("inf")}, "key 'width' .*finite"),
        ({"round_to": 0}, "key 'round_to'"),
        ({"dims": {"x": 0}}, r"key 'dims\.x' .*above 0"),
        ({"dims": [1]}, "key 'dims' .*object"),
        ({"layers": 0}, "key 'layers': .*above 0"),
        ({"layers": True}, "key 'layers': .*object by chain name"),
        ({"layers": "6"}, "key 'layers': .*object by chain name"),
        ({"layers": []}, "key 'layers': is empty"),
        ({"layers": {}}, "key 'layers': is empty"),
        ({"layers": [3, -1]}, "key 'layers': entry 1 must be above 0"),
        ({"layers": {"decoder": 1.5}}, "key 'layers': entry 'decoder' must be a whole number"),
        ({"constants": {"/Div": "import os"}}, "key 'constants': node '/Div': formula 'import os' cannot be read"),
        ({"constants": {"/Div": None}}, "node '/Div' needs a formula or a finite number"),
        ({"constants": 3}, "key 'constants': must be an object"),
        ({"soft": ["layers"]}, r"key 'soft\[0\]'"),
        ({"name": ""}, "key 'name'"),
    ],
)
def test_refusals_name_the_key_and_a_way_out(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TargetSpec.parse(data)
    with pytest.raises(SpecError, match=message):
        TargetSpec(**data)


def test_further_findings_are_listed() -> None:
    with pytest.raises(SpecError, match=r"key 'hidden' .*\(also wrong: heads\)"):
        TargetSpec(hidden=0, heads=0)


def test_no_object_is_refused() -> None:
    with pytest.raises(SpecError, match="the spec must be"):
        TargetSpec.model_validate(3)


def test_merge_puts_flags_over_the_spec() -> None:
    spec = TargetSpec(name="a", hidden=8, heads=2, dims={"x": 1}, constants={"n": 1.0}, vocab=9, soft=("vocab",))
    merged = spec.merge({"hidden": 4, "heads": None, "dims": {"y": 2}, "constants": {"n": "1/2"}, "layers": [1, 2]})
    assert (merged.name, merged.hidden, merged.heads, merged.layers) == ("a", 4, 2, [1, 2])
    assert merged.dims == {"x": 1, "y": 2}
    assert merged.constants == {"n": "1/2"}
    assert merged.soft == ("vocab",)
    assert spec.merge({"vocab": 5}).soft == ()
    assert spec.hidden == 8
    with pytest.raises(SpecError, match=r"^command line: key 'hidden'"):
        spec.merge({"hidden": 0})
    with pytest.raises(SpecError, match=r"^command line: key 'depth' is not known"):
        spec.merge({"depth": 3})


def test_merge_drops_what_a_config_had_derived() -> None:
    spec = TargetSpec(hidden=8, heads=2, head_dim=4, intermediate=32, soft=("head_dim", "intermediate"))
    narrower = spec.merge({"hidden": 4})
    assert (narrower.head_dim, narrower.intermediate, narrower.soft) == (None, None, ())
    fewer = spec.merge({"heads": 1})
    assert (fewer.head_dim, fewer.intermediate, fewer.soft) == (None, 32, ("intermediate",))
    typed = TargetSpec(hidden=8, head_dim=4)
    assert typed.merge({"hidden": 16}).head_dim == 4


def test_load_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text('\ufeff{"hidden": 384, "layers": 6}', encoding="utf-8")
    assert TargetSpec.load(path) == TargetSpec.load(str(path)) == TargetSpec(hidden=384, layers=6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"hidden": 3,\n  "heads" 4}', "not valid JSON at line 2 column 11"),
        (b"", "not valid JSON at line 1 column 1"),
        (b"[1]", "is a JSON object .*not a list"),
        (b'{"hidden": 3, "hidden": 4}', "key 'hidden' stands twice"),
        (b'{"width": NaN}', "NaN is not a JSON number"),
        (b"\x08\x0a\xff\xfe", "not a text file"),
        (b"[" * 200_000, "JSON"),
        (b'{"hidden": ' + b"9" * 5000 + b"}", "JSON cannot be read"),
        (b'{"hidden": 0}', "key 'hidden'"),
    ],
)
def test_load_says_what_is_wrong_with_a_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=message) as caught:
        TargetSpec.load(path)
    assert str(caught.value).startswith(str(path))


def test_load_refuses_a_model_and_a_folder(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    with model.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(SpecError, match="is this the model"):
        TargetSpec.load(model)
    with pytest.raises(SpecError, match="cannot be read"):
        TargetSpec.load(tmp_path)
    with pytest.raises(SpecError, match=r"spec 'bert-x': no such file.*did you mean 'bert-.*Published: bert-ti"):
        TargetSpec.load("bert-x")


def test_json_schema_describes_every_key() -> None:
    schema = TargetSpec.json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["properties"]) == set(TargetSpec.model_fields)
    assert all("description" in entry for entry in schema["properties"].values())
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_flags() -> None:
    assert parse_layers("6") == 6
    assert parse_layers("2,2, 6,2") == [2, 2, 6, 2]
    assert parse_layers("encoder=6, decoder=4") == {"encoder": 6, "decoder": 4}
    assert parse_assignments(["a=b=3", "c = 1/sqrt(x)"], "--constant") == {"a=b": "3", "c": "1/sqrt(x)"}
    for text in ("six", "2,,3", "encoder=x", "encoder="):
        with pytest.raises(SpecError, match="--layers"):
            parse_layers(text)
    with pytest.raises(SpecError, match="--dim: 'a' is given twice"):
        parse_assignments(["a=1", "a=2"], "--dim")
    with pytest.raises(SpecError, match="NAME=VALUE"):
        parse_assignments(["a"], "--dim")
