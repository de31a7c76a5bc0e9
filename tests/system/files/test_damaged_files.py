"""Kinds of damage that ``python -m tests.system.fuzz`` has found: each is refused in one line, or does no harm."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper

from bot_onnx import api
from bot_onnx._cli import cli
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.journal import settle
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._resample.parallel import Background, share
from bot_onnx._runs.read_overrides import read_given
from bot_onnx._surgery.provenance import read_lineage, read_provenance
from bot_onnx._target import TargetSpec
from bot_onnx.errors import BotError, CheckpointError, DataError, GraphError, SpecError
from tests.graphs import GraphBuilder, residual_mlp_model, save
from tests.system.fuzz.seeds import SEEDS

NO_OBJECTS = ["", "[]", "null", "3", '"x"', "{", "[" * 100_000, '{"promise": {"tolerance": 1e999, "factors": []}}']


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def refused(result: Result, what: str) -> None:
    assert result.exit_code == 1 and what in result.stderr, result.output
    assert result.stderr.count("\n") == 1 and "defect" not in result.stderr


@pytest.mark.parametrize("told", NO_OBJECTS)
def test_provenance_that_is_no_object_says_nothing(told: str) -> None:
    assert read_provenance({"bot_onnx": told}).keys() <= {"promise"}
    assert read_lineage({"bot_onnx": told}) is None


@pytest.mark.parametrize("told", ["[]", "{", "3"])
def test_weights_come_into_a_file_with_damaged_provenance(tmp_path: Path, told: str) -> None:
    pytest.importorskip("safetensors")
    model = residual_mlp_model(2, 8, 16)
    model.metadata_props.add(key="bot_onnx", value=told)
    path = save(model, tmp_path)
    names = {tensor.name: f"net.{tensor.name}" for tensor in model.graph.initializer}
    (tmp_path / "names.json").write_text(json.dumps(names))
    given = ["--names", tmp_path / "names.json"]
    weights, out = tmp_path / "w.safetensors", tmp_path / "out.onnx"
    assert command("export", path, *given, "-o", weights).exit_code == 0
    result = command("import", path, *given, "--from", weights, "-o", out)
    assert result.exit_code == 0, result.output
    (entry,) = [entry for entry in onnx.load(out).metadata_props if entry.key == "bot_onnx"]
    assert list(json.loads(entry.value)) == ["weights_sha256"]


def test_eight_bit_floats_of_a_checkpoint_are_named(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    from bot_onnx._checkpoint.files import SafetensorsFile

    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2, 4], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    opened = SafetensorsFile(tmp_path / "w.safetensors")
    assert opened.shapes == {"a": (2, 4)}
    with pytest.raises(CheckpointError, match="'a' as F8_E4M3"):
        opened.read("a")


@pytest.mark.parametrize("inside", ["main", "branch"])
def test_references_outside_of_functions(tmp_path: Path, inside: str) -> None:
    model = SEEDS["control"].build()
    nodes = model.graph.node if inside == "main" else model.graph.node[-2].attribute[0].g.node
    nodes[0].attribute.add(name="axis", ref_attr_name="nothing", type=onnx.AttributeProto.INT)
    nodes[0].op_type = "Softmax"
    del nodes[0].input[1:]
    result = command("inspect", save(model, tmp_path))
    refused(result, "takes its 'axis' from the attribute 'nothing' of a function")


def test_a_function_of_another_version(tmp_path: Path) -> None:
    model = SEEDS["functions"].build()
    model.opset_import[1].version = 21
    refused(command("inspect", save(model, tmp_path)), "functions cannot be written out")


def forged(path: Path, member: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
    return path


def lines(folder: Path) -> Path:
    (folder / "lines.txt").write_text("one line\nand another\n")
    return folder / "lines.txt"


def test_arrays_that_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "none.npz")
    for path, what in {
        tmp_path / "one.npy": "one array without a name",
        tmp_path / "none.npz": "holds no arrays",
        tmp_path: "no regular file",
        tmp_path / "gone.npz": "there is no file",
        lines(tmp_path): "lines.txt is no .npz file, and no other kind is taken here: give an .npz file",
        forged(tmp_path / "text.npz", b"plain"): "'x' in .* is no array",
        forged(tmp_path / "short.npz", b"\x93NUMPY\x01\x00\x10\x00"): "no .npz file of plain arrays",
    }.items():
        with pytest.raises(DataError, match=what) as caught:
            read_given(path)
        assert "\n" not in str(caught.value)


def test_inputs_that_are_no_numbers(tmp_path: Path) -> None:
    path = save(residual_mlp_model(2, 8, 16), tmp_path)
    with pytest.raises(DataError, match="'x' is given with NaN"):
        api.inspect(path, inputs={"x": np.full((2, 4), np.nan, np.float32)})


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_no_thread_is_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(residual_mlp_model(2, 64, 128), tmp_path)
    api.resize(path, {"hidden": 32}, tmp_path / "with.onnx")
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    api.resize(path, {"hidden": 32}, tmp_path / "without.onnx")
    assert (tmp_path / "with.onnx").read_bytes() == (tmp_path / "without.onnx").read_bytes()
    done: list[int] = []
    share(done.append, [1, 2, 3])
    with Background() as background:
        failed = background.submit(lambda: open_model(tmp_path / "gone.onnx"))
        assert background.submit(lambda: 3).result() == 3
    assert done == [1, 2, 3] and isinstance(failed.exception(), GraphError)


def test_a_runtime_without_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    from bot_onnx._runs.runtime import session

    real, seen = onnxruntime.InferenceSession, []

    def threadless(model: Any, options: Any, **named: Any) -> Any:
        seen.append(options.intra_op_num_threads)
        if options.intra_op_num_threads != 1:
            raise RuntimeError("pthread_create failed")
        return real(model, options, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", threadless)
    assert session(str(save(residual_mlp_model(2, 8, 16), tmp_path))) and seen == [0, 1]


def test_text_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text('{"name": "\\ud800", "hidden": 4}')
    with pytest.raises(SpecError, match="half of a character"):
        TargetSpec.load(str(tmp_path / "spec.json"))


@pytest.mark.parametrize("location", ["", "sub/w.bin", "../w.bin", "/etc/hostname", "a\0b"])
def test_a_plan_beside_a_model_whose_data_lie_anywhere(tmp_path: Path, location: str) -> None:
    model = residual_mlp_model(2, 8, 16)
    tensor = model.graph.initializer[0]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(content)
    result = command("resize", path, "--hidden", "4", "--dry-run", "--plan-out", tmp_path / "plan.json")
    if location == "sub/w.bin":
        assert result.exit_code == 0, result.output
        assert named_files(path) == [tmp_path / "sub" / "w.bin"]
        over = command(
            "resize", path, "--hidden", "4", "--dry-run", "--force", "--plan-out", tmp_path / "sub" / "w.bin"
        )
        refused(over, "--plan-out")
        assert (tmp_path / "sub" / "w.bin").read_bytes() == content
    else:
        refused(result, repr(tensor.name))


def test_zero_points_that_do_not_fit(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.op("DynamicQuantizeLinear", "x", outputs=3)
    x, scale, zero = b.nodes[-1].output
    weight = b.constant(np.ones((8, 5), np.int8))
    x = b.op("MatMulInteger", x, weight, zero, b.constant(np.zeros(16, np.int8)))
    x = b.op("Mul", b.op("Cast", x, to=1), b.op("Mul", scale, b.constant(np.float32(0.01))))
    refused(command("inspect", save(b.model([("x", ["n", 8])], [x]), tmp_path)), "do not go with their scales")


def test_the_body_of_a_scan_keeps_its_number_of_axes(tmp_path: Path) -> None:
    path = save(SEEDS["control"].build(), tmp_path)
    result = api.resize(path, {"width": 2.0}, tmp_path / "out.onnx")
    assert result.report.passed and api.verify(tmp_path / "out.onnx").passed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals as POSIX has them")
def test_a_model_that_makes_the_runtime_abort(tmp_path: Path) -> None:
    model = SEEDS["control"].build()
    model.graph.input[0].type.tensor_type.shape.dim.add(dim_param="more")  # a Scan then makes values of another rank
    path = save(model, tmp_path)
    arguments = [
        sys.executable,
        "-m",
        "bot_onnx",
        "resize",
        str(path),
        "--width",
        "2",
        "-o",
        str(tmp_path / "out.onnx"),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.onnx"]


@pytest.mark.parametrize(
    "note", ["[" * 100_000, "3", '{"model": 3, "made": null, "obsolete": [4], "second": null}', '{"model": "../x"}']
)
def test_a_journal_that_is_none_settles_nothing(tmp_path: Path, note: str) -> None:
    scratch = tmp_path / ".out.onnx.123456789012.partial"
    scratch.mkdir()
    (scratch / "journal").write_text(note)
    settle(scratch)
    assert [entry.name for entry in tmp_path.rglob("*")] == [scratch.name, "journal"]


def test_a_single_number_can_be_named(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    b = GraphBuilder()
    x = b.op("Mul", b.op("MatMul", "x", b.weight(4, 8)), b.constant(np.float32(2), "gain"))
    path = save(b.model([("x", ["n", 4])], [b.op("MatMul", x, b.weight(8, 3))]), tmp_path)
    (tmp_path / "names.json").write_text('{"w0": "a", "w2": "b", "gain": "gain"}')
    result = command("export", path, "--names", tmp_path / "names.json", "-o", tmp_path / "out.safetensors")
    assert result.exit_code == 0, result.output
    (tmp_path / "names.json").write_text('{"gain": {"joined": ["a", "b"]}}')
    result = command("export", path, "--names", tmp_path / "names.json", "-o", tmp_path / "other.safetensors")
    refused(result, "a single number is neither joined nor a part")


def test_every_seed_can_be_resized(tmp_path: Path) -> None:
    for name, seed in SEEDS.items():
        path = save(seed.build(), tmp_path, f"{name}.onnx")
        assert api.resize(path, seed.spec, tmp_path / f"{name}-out.onnx").report.passed, name


def test_casts_to_no_type_and_products_of_one_operand(tmp_path: Path) -> None:
    for number, damage in enumerate(("to", "operand")):
        model = residual_mlp_model(2, 8, 16)
        node = model.graph.node[0]
        if damage == "to":
            cast = helper.make_node("Cast", [node.output[0]], ["casted"], to=1)
            cast.attribute[0].i = 2**31
            model.graph.node.append(cast)
            model.graph.output.append(helper.make_tensor_value_info("casted", TensorProto.FLOAT, None))
        else:
            next(n for n in model.graph.node if n.op_type == "MatMul").input.pop()
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(BotError) as caught:
            api.inspect(path)
        assert "\n" not in str(caught.value)
