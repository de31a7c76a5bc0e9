"""``bot-onnx quantize``: files that are what they are called, figures that are measured, and refusals."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._runs.runtime import session
from bot_onnx.demo import accuracy, held_out, model_bytes
from tests.graphs import Floats, GraphBuilder, save

SCHEMES = {"int8": "INT8 per channel", "int4": "4-bit blocks of 32", "fp16": "half precision"}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def told(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def refused(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    return " ".join(result.stderr.split())


def types(path: Path) -> set[int]:
    return {tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) > 1}


def outputs(path: Path, feeds: dict[str, Any]) -> Floats:
    return np.asarray(session(str(path), optimise=True, threads=1).run(None, feeds)[0])


def encoder(layers: int = 2, hidden: int = 32, heads: int = 2, vocab: int = 40) -> onnx.ModelProto:
    """Token ids to class scores by ``layers`` of attention and a perceptron; ids are ``[batch, 6]``."""
    b = GraphBuilder()
    head_dim = hidden // heads

    def norm(x: str) -> str:
        return b.op(
            "LayerNormalization", x, b.constant(np.ones(hidden, np.float32)), b.constant(np.zeros(hidden, "f4"))
        )

    def heads_of(x: str) -> str:
        split = b.op("Reshape", b.op("MatMul", x, b.weight(hidden, hidden)), b.ints(0, 0, heads, head_dim))
        return b.op("Transpose", split, perm=[0, 2, 1, 3])

    x = b.op("Gather", b.weight(vocab, hidden, name="table"), "ids")
    for _ in range(layers):
        n = norm(x)
        q, k, v = (heads_of(n) for _ in range(3))
        score = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
        weights = b.op("Softmax", b.op("Div", score, b.constant(np.float32(head_dim**0.5))), axis=-1)
        joined = b.op("Transpose", b.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        joined = b.op("Reshape", joined, b.ints(0, 0, hidden))
        x = b.op("Add", x, b.op("MatMul", joined, b.weight(hidden, hidden)))
        inside = b.op("Relu", b.op("MatMul", norm(x), b.weight(hidden, 2 * hidden)))
        x = b.op("Add", x, b.op("MatMul", inside, b.weight(2 * hidden, hidden)))
    y = b.op("MatMul", norm(x), b.weight(hidden, 7))
    return b.model([("ids", ["batch", 6])], [y], integer_inputs=["ids"], rank=3)


def convolutions() -> onnx.ModelProto:
    b = GraphBuilder()
    x = b.op("Relu", b.op("Conv", "image", b.weight(8, 3, 3, 3), b.weight(8), pads=[1, 1, 1, 1]))
    y = b.op("Relu", b.op("Conv", x, b.weight(8, 8, 3, 3), b.weight(8), pads=[1, 1, 1, 1]))
    flat = b.op("Flatten", b.op("GlobalAveragePool", b.op("Add", x, y)))
    return b.model([("image", ["batch", 3, 8, 8])], [flat])


@pytest.fixture
def digits(tmp_path: Path) -> tuple[Path, Path]:
    """The demo's model, and its images as samples."""
    path, data = tmp_path / "vit.onnx", tmp_path / "digits.npz"
    path.write_bytes(model_bytes())
    np.savez(data, image=held_out().images)
    return path, data


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "calibrated"),
    [("int8", True), ("int4", False), ("fp16", False), pytest.param("int8", False, marks=pytest.mark.slow)],
)
def test_the_demo_keeps_its_accuracy(kind: str, calibrated: bool, digits: tuple[Path, Path], tmp_path: Path) -> None:
    source, data = digits
    out = tmp_path / "out.onnx"
    given = ("--calibration" if calibrated else "--inputs", data)
    found = told("quantize", source, "--to", kind, "-o", out, *given)
    images = held_out()
    logits, floats = outputs(out, images.feeds()), outputs(source, images.feeds())
    assert accuracy(logits, images.labels) > accuracy(floats, images.labels) - 0.02
    (close,) = found["closeness"]
    assert close["scale"] == pytest.approx(np.abs(floats).max(), rel=1e-4)
    assert 0 < close["max_difference"] <= (0.01 if kind == "fp16" else 0.2) * close["scale"]
    if calibrated:  # the very samples, each once, but 16 at a time
        assert close["rows"] == found["calibrated"] == len(images.images)
        assert close["agreement"] == pytest.approx(np.mean(logits.argmax(1) == floats.argmax(1)), abs=0.01)
    assert found["made_up"] is False and found["report"]["passed"]
    before, after = found["costs"]
    assert before["size_bytes"] == source.stat().st_size and after["size_bytes"] == out.stat().st_size
    assert after["size_bytes"] < 0.6 * before["size_bytes"]
    assert before["latency"] > 0 and after["latency"] > 0


@pytest.mark.parametrize("kind", list(SCHEMES))
def test_inspect_says_the_scheme_and_a_resize_works(kind: str, tmp_path: Path) -> None:
    source = save(encoder(), tmp_path)
    out = tmp_path / f"model-{kind}.onnx"
    found = told("quantize", source, "--to", kind)
    assert Path(found["output"]) == out and found["scheme"].startswith(SCHEMES[kind])
    assert found["made_up"] and "ids 2x6" in found["compared_on"]
    if kind != "fp16":
        assert SCHEMES[kind] in " ".join(run("inspect", out).output.split())
    packed = {TensorProto.INT8, TensorProto.UINT8}  # the latter of the look-up
    wanted = {"int8": packed, "int4": {TensorProto.UINT8, TensorProto.FLOAT}, "fp16": {TensorProto.FLOAT16}}
    assert types(out) == wanted[kind]
    smaller = bot_onnx.resize(out, {"layers": 1}, tmp_path / "smaller.onnx")
    assert smaller.report.passed


def test_kinds_follow_one_another_in_one_process(tmp_path: Path) -> None:
    """The scripts of onnxruntime put themselves where modules are looked for once, and all but fp16 need them later."""
    source = save(encoder(), tmp_path)
    code = (
        "import bot_onnx, sys; before = list(sys.path)\n"
        f"for kind in ('fp16', 'int8'): bot_onnx.quantize({str(source)!r}, {str(tmp_path)!r} + f'/{{kind}}', to=kind)\n"
        "print(sys.path == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_what_was_left_is_told_with_the_reason(tmp_path: Path) -> None:
    source = save(encoder(layers=1), tmp_path)
    found = told("quantize", source, "--to", "int4")
    groups = {(entry["why"], entry["op"]): (entry["tensors"], entry["numbers"]) for entry in found["left"]}
    assert groups[("op", "Gather")] == (1, 40 * 32)
    assert groups[("small", "")] == (7, 3 * 2 * 32 + 1)  # gains and shifts of three norms, and √head_dim
    assert found["tensors"] == 7  # q, k, v, output, two of the perceptron, head
    printed = run("quantize", source, "--to", "int4", "--force").output
    assert "read by Gather" in printed and "inputs are made up" in printed


def test_convolutions_take_calibrated_scales(tmp_path: Path) -> None:
    source, data, out = save(convolutions(), tmp_path), tmp_path / "images.npz", tmp_path / "q.onnx"
    message = refused("quantize", source, "--to", "int8", "-o", out)
    assert "nothing to quantise to int8" in message and "read by Conv" in message and "--calibration" in message
    assert not out.exists()
    np.savez(data, image=np.random.default_rng(0).standard_normal((20, 3, 8, 8)).astype(np.float32))
    found = told("quantize", source, "--to", "int8", "--calibration", data, "-o", out)
    assert found["calibrated"] == 20 and types(out) == {TensorProto.INT8}
    assert "calibrated scales" in found["scheme"] and found["closeness"][0]["relative"] < 0.05


def test_refusals_say_what_and_what_else(tmp_path: Path) -> None:
    source, out = save(encoder(layers=1), tmp_path), tmp_path / "q.onnx"
    told("quantize", source, "--to", "int8", "-o", out)
    assert "exists already" in refused("quantize", source, "--to", "int8", "-o", out)
    assert "never written to" in refused("quantize", source, "--to", "int8", "-o", source, "--force")
    again = refused("quantize", out, "--to", "int4", "-o", tmp_path / "again.onnx")
    assert "quantised already (INT8 per channel" in again and "--requantize" in again
    half = tmp_path / "half.onnx"
    told("quantize", source, "--to", "fp16", "-o", half)
    assert "has: FLOAT16" in refused("quantize", half, "--to", "fp16", "-o", tmp_path / "again.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.onnx", "model.onnx", "q.onnx"]


def test_half_precision_holds_no_more_than_it_does(tmp_path: Path) -> None:
    model = encoder(layers=1)
    table = next(tensor for tensor in model.graph.initializer if tensor.name == "table")
    values = onnx.numpy_helper.to_array(table).copy()
    values[3, 4:6] = 70_000
    table.CopyFrom(onnx.numpy_helper.from_array(values, "table"))
    message = refused("quantize", save(model, tmp_path), "--to", "fp16")
    assert "tensor 'table'" in message and "2 values beyond 65,504 (up to 70000)" in message


def test_values_between_that_overflow_are_refused(tmp_path: Path) -> None:
    b = GraphBuilder()
    large = b.op("MatMul", "x", b.constant(np.full((4, 6), 6e4, np.float32)))
    y = b.op("MatMul", large, b.constant(np.full((6, 3), 1e-4, np.float32)))
    model = b.model([("x", ["batch", 4])], [y])
    np.savez(tmp_path / "x.npz", x=np.full((2, 4), 50, np.float32))
    out = tmp_path / "q.onnx"
    given = ("-o", out, "--calibration", tmp_path / "x.npz")
    assert f"value {large!r}" in (message := refused("quantize", save(model, tmp_path), "--to", "fp16", *given))
    assert "1.2e+07, beyond 65,504" in message and not out.exists()


def test_masks_stay_masks_in_half_precision(tmp_path: Path) -> None:
    b = GraphBuilder()
    mask = b.constant(np.array([[0, 0, np.finfo(np.float32).min]], np.float32), "mask")
    scores = b.op("Softmax", b.op("Add", b.op("MatMul", "x", b.weight(4, 3)), mask), axis=-1)
    source = save(b.model([("x", ["batch", 4])], [scores]), tmp_path)
    found = told("quantize", source, "--to", "fp16", "-o", tmp_path / "q.onnx")
    assert any("stands for infinity in mask" in note for note in found["notes"])
    assert outputs(tmp_path / "q.onnx", {"x": np.ones((2, 4), np.float32)})[:, 2].max() == 0


def test_weights_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be too large for one message, with a smaller limit."""
    import bot_onnx._surgery.requantise as writer

    monkeypatch.setattr(writer, "LARGE_BYTES", 1000)
    source, out = tmp_path / "model.onnx", tmp_path / "q.onnx"
    onnx.save(
        encoder(layers=1, hidden=256), source, save_as_external_data=True, location="weights.bin", size_threshold=100
    )
    for kind in SCHEMES:
        found = told("quantize", source, "--to", kind, "-o", out, "--force")
        files = [out, *tmp_path.glob("q.onnx.*.data")]
        assert len(files) == 2 and found["costs"][1]["size_bytes"] == sum(file.stat().st_size for file in files)
        assert np.isfinite(outputs(out, {"ids": np.arange(6)[None]})).all()


@pytest.mark.parametrize("calibrated", [False, True])
def test_what_a_message_cannot_hold_is_refused(
    calibrated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bot_onnx._quantise.convert as convert

    monkeypatch.setattr(convert, "_MESSAGE_BYTES", 1000)
    np.savez(tmp_path / "ids.npz", ids=np.zeros((2, 6), np.int64))
    how = ("int8", "--calibration", tmp_path / "ids.npz") if calibrated else ("fp16",)
    assert "up to 2 GiB" in refused("quantize", save(encoder(layers=1), tmp_path), "--to", *how)


def test_a_quantiser_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime.quantization as quantisers

    def fail(*given: Any, **named: Any) -> None:
        raise RuntimeError("nothing\nworks {here}")

    monkeypatch.setattr(quantisers, "quantize_dynamic", fail)
    handlers = list(logging.root.handlers)
    result = run("quantize", save(encoder(layers=1), tmp_path), "--to", "int8")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "quantiser to int8 refuses" in result.stderr and "nothing works {here}" in result.stderr
    assert logging.root.handlers == handlers


def test_large_constants_of_nodes_are_written(tmp_path: Path) -> None:
    """Tensors in nodes have no place of their own in the file: they go with their nodes."""
    b = GraphBuilder()
    table = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    b.nodes.append(
        helper.make_node("Constant", [], ["shift"], name="shift", value=onnx.numpy_helper.from_array(table, "shift"))
    )
    y = b.op("Add", b.op("MatMul", "x", b.weight(32, 32)), "shift")
    source = save(b.model([("x", [64, 32])], [y]), tmp_path)
    found = told("quantize", source, "--to", "int4", "-o", tmp_path / "q.onnx")
    assert found["closeness"][0]["relative"] < 0.2
    assert session(str(tmp_path / "q.onnx")).run(None, {"x": np.zeros((64, 32), np.float32)})[0] == pytest.approx(table)
