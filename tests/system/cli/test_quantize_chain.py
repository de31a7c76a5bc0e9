"""``resize --quantize``: one file, quantised, beside the figures of the source quantised alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import bot_onnx
from tests.graphs import save
from tests.system.cli.test_quantize import encoder, refused, run, told, types


def test_the_published_file_is_the_quantised_one(tmp_path: Path) -> None:
    source, out, plain = save(encoder(), tmp_path), tmp_path / "out.onnx", tmp_path / "plain.onnx"
    data = tmp_path / "ids.npz"
    np.savez(data, ids=np.random.default_rng(0).integers(0, 40, (20, 6)))
    asked = ("resize", source, "--layers", "1", "-o", out, "--plan-out", tmp_path / "plan.json")
    found = told(*asked, "--quantize", "int8", "--quantize-on", data)
    floats = bot_onnx.resize(source, {"layers": 1}, plain)
    assert TensorProto.INT8 in types(out) and found["output"] == str(out) == found["quantized"]["output"]
    assert found["report"]["passed"] and found["report"]["comparisons"]  # of the floats, against the source
    assert found["plan"]["size_bytes"][1] == plain.stat().st_size
    assert found["plan"]["parameters"][1] == floats.plan.parameters[1]
    rows = {cost["what"]: cost for cost in found["quantized"]["costs"]}
    assert list(rows) == ["source, float", "source, quantised", "resized, float", "resized, quantised"]
    assert rows["source, float"]["size_bytes"] == source.stat().st_size
    assert rows["resized, float"]["size_bytes"] == plain.stat().st_size
    assert rows["resized, quantised"]["size_bytes"] == out.stat().st_size
    alone = tmp_path / "alone.onnx"
    told("quantize", source, "--to", "int8", "--calibration", data, "-o", alone)
    assert rows["source, quantised"]["size_bytes"] == pytest.approx(alone.stat().st_size, rel=0.02)
    assert all(row["latency"] > 0 and row["why_not"] is None for row in rows.values())
    assert rows["source, quantised"]["agreement"] > 0.8 and rows["source, float"]["agreement"] is None
    assert found["quantized"]["calibrated"] == 20 and (tmp_path / "plan.json").exists()
    names = {"alone.onnx", "ids.npz", "model.onnx", "out.onnx", "plain.onnx", "plan.json"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_both_reports_are_printed(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    printed = run("resize", save(encoder(), tmp_path), "--layers", "1", "--quantize", "fp16", "-o", out).output
    assert "Checks" in printed and "source, quantised" in printed and "half precision" in printed
    assert types(out) == {TensorProto.FLOAT16}


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    source, packed, out = save(encoder(), tmp_path), tmp_path / "packed.onnx", tmp_path / "out.onnx"
    told("quantize", source, "--to", "int4", "-o", packed)
    message = refused("resize", packed, "--layers", "1", "--quantize", "int8", "-o", out)
    assert "quantised already" in message and "--requantize" in message
    for more in (("--quantize-on", source), ("--quantize", "int8", "--requantize")):
        assert run("resize", packed, "--layers", "1", "-o", out, *more).exit_code == 2
    before = source.read_bytes()
    assert "never written to" in refused(
        "resize", source, "--layers", "1", "--quantize", "int8", "-o", source, "--force"
    )
    assert source.read_bytes() == before and not out.exists()


def test_nothing_is_published_where_half_precision_overflows(tmp_path: Path) -> None:
    model, out = encoder(), tmp_path / "out.onnx"
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    table.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(table) * np.float32(1e6), "table"))
    source = save(model, tmp_path)
    assert "beyond 65,504" in refused("resize", source, "--layers", "1", "--quantize", "fp16", "-o", out)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_of_a_folder_both_files_come_by_the_names_of_optimum(tmp_path: Path) -> None:
    source, out = tmp_path / "net", tmp_path / "small"
    source.mkdir()
    save(encoder(), source)
    (source / "tokenizer.json").write_text("{}")
    found = told("resize", source, "--layers", "1", "--quantize", "int8", "-o", out)
    assert {path.name for path in out.glob("*.onnx")} == {"model.onnx", "model_quantized.onnx"}
    assert TensorProto.INT8 in types(out / "model_quantized.onnx") and TensorProto.INT8 not in types(out / "model.onnx")
    assert found["quantized"]["output"] == str(out / "model_quantized.onnx")
    assert found["quantized"]["report"]["passed"] and bot_onnx.verify(out / "model_quantized.onnx").passed
    assert "model\\_quantized.onnx is model.onnx, quantised to int8" in (out / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert (out / "tokenizer.json").exists()
    again = run("resize", out, "--file", "model_quantized.onnx", "--layers", "1", "--quantize", "int8", "-o", out / "x")
    assert again.exit_code == 1


def test_the_same_from_python(tmp_path: Path) -> None:
    source, out = save(encoder(), tmp_path), tmp_path / "halves.onnx"
    seen: list[str] = []
    made = bot_onnx.quantize(source, out, to="fp16", progress=lambda what, done, count: seen.append(what))
    assert isinstance(made, bot_onnx.Quantised) and made.output == out and made.report.passed and seen
    assert types(out) == {TensorProto.FLOAT16}
    with pytest.raises(bot_onnx.OutputError, match="exists already"):
        bot_onnx.quantize(source, out, to="fp16")
