"""Every bad input on the command line: exit code 1, one message that names the place and a way out, nothing left."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from bot_onnx._cli import cli
from tests.graphs import GraphBuilder, residual_mlp_model, save, tied_attention_model
from tests.zoo import real


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def refused(result: Result, folder: Path, before: set[str], *words: str) -> None:
    """One line of error with these words in it, exit code 1, and the folder as it was."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    message = " ".join(lines)
    assert message.startswith("error:") and message.count("error:") == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in message
    assert {entry.name for entry in folder.iterdir()} == before


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def external(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def rewrite(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())


def test_not_onnx(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("this is no model\n" * 50)
    refused(run("resize", tmp_path / "model.onnx", "--layers", 2), tmp_path, {"model.onnx"}, "not an ONNX model")


def test_truncated(tmp_path: Path) -> None:
    path = save(residual_mlp_model(), tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    refused(run("resize", path, "--layers", 2), tmp_path, {"model.onnx"}, "model.onnx")


def test_refused_by_the_checker(tmp_path: Path) -> None:
    path = save(residual_mlp_model(), tmp_path)
    rewrite(path, lambda model: model.graph.node[0].input.__setitem__(0, "nowhere"))
    refused(run("resize", path, "--layers", 2), tmp_path, {"model.onnx"}, "nowhere")


def test_missing_external_data(tmp_path: Path) -> None:
    path = external(residual_mlp_model(), tmp_path)
    (tmp_path / "weights.bin").unlink()
    refused(run("resize", path, "--layers", 2), tmp_path, {"model.onnx"}, "weights.bin")


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname"])
def test_external_data_outside_the_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(residual_mlp_model(), folder)
    (tmp_path / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())

    def move(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location

    rewrite(path, move)
    refused(run("resize", path, "--layers", 2), folder, names(folder), location)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite_weights_are_named_and_can_be_allowed(bad: float, tmp_path: Path) -> None:
    model = residual_mlp_model()
    tensor = next(t for t in model.graph.initializer if list(t.dims) == [8, 16])
    array = numpy_helper.to_array(tensor).copy()
    array[2, 3] = bad
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    path, out = save(model, tmp_path), tmp_path / "out.onnx"
    refused(run("resize", path, "--layers", 2, "-o", out), tmp_path, {"model.onnx"}, tensor.name, "--allow-nonfinite")
    assert run("resize", path, "--layers", 2, "-o", out, "--allow-nonfinite").exit_code == 0
    assert out.exists()


def test_no_repeated_layers(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.op("MatMul", b.op("Tanh", b.op("MatMul", "x", b.weight(4, 6))), b.weight(6, 3))
    path = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path)
    refused(run("resize", path, "--layers", 2), tmp_path, {"model.onnx"}, "layers")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--dim", "nosuch=4"), ("nosuch",)),
        (("--dim", "dim_4=8"), ("dim_4", "input")),
        (("--vocab", "100"), ("vocab",)),
        (("--heads", "3"), ("heads",)),
    ],
    ids=["unknown dim", "frozen dim", "no such role", "no heads here"],
)
def test_dims_that_cannot_be_had(flags: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    path = save(residual_mlp_model(), tmp_path)
    refused(run("resize", path, *flags), tmp_path, {"model.onnx"}, *words)


def test_hidden_that_contradicts_the_heads_it_is_tied_to(tmp_path: Path) -> None:
    path = save(tied_attention_model(heads=2, head_dim=4), tmp_path)
    flags = ("--hidden", 24, "--heads", 2, "--head-dim", 4)
    refused(run("resize", path, *flags), tmp_path, {"model.onnx"}, "hidden")


@pytest.mark.parametrize("spec", [{"layers": 0}, {"hidden": -8}, {"hiden": 8}, {"hidden": "wide"}], ids=str)
def test_malformed_specs(spec: dict[str, object], tmp_path: Path) -> None:
    path = save(residual_mlp_model(), tmp_path)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    key = next(iter(spec))
    refused(run("resize", path, "--spec", tmp_path / "spec.json"), tmp_path, {"model.onnx", "spec.json"}, key)


def test_output_equal_to_the_source(tmp_path: Path) -> None:
    path = save(residual_mlp_model(), tmp_path)
    content = path.read_bytes()
    (tmp_path / "link.onnx").symlink_to(path)
    for out in (path, tmp_path / "link.onnx"):
        result = run("resize", path, "--layers", 2, "-o", out, "--force")
        refused(result, tmp_path, {"model.onnx", "link.onnx"}, "source")
    assert path.read_bytes() == content


def test_existing_output(tmp_path: Path) -> None:
    path, out = save(residual_mlp_model(), tmp_path), tmp_path / "out.onnx"
    out.write_bytes(b"precious")
    refused(run("resize", path, "--layers", 2, "-o", out), tmp_path, {"model.onnx", "out.onnx"}, "--force")
    assert out.read_bytes() == b"precious"


def test_quantised_weights(tmp_path: Path) -> None:
    """Packed weights whose scale is computed cannot be turned into floats; silence would write nonsense."""
    b = GraphBuilder()
    x = b.op("MatMul", "x", b.weight(4, 8))
    zero = b.constant(np.int8(0))
    scale = b.op("ReduceMax", b.op("Abs", "x"), keepdims=0)
    for _ in range(3):
        packed = b.constant(np.random.default_rng(1).integers(-90, 90, (8, 8)).astype(np.int8))
        x = b.op("Add", x, b.op("Relu", b.op("MatMul", x, b.op("DequantizeLinear", packed, scale, zero))))
    b.op("MatMul", x, b.weight(8, 3))
    path = save(b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]]), tmp_path)
    refused(run("resize", path, "--hidden", 4), tmp_path, {"model.onnx"}, "quantised")


def test_a_full_disk(tmp_path: Path) -> None:
    """The limit of a file's size stands for a disk that is full: the system refuses the write in the middle."""
    source = real.minilm_l3()
    limit = 4 << 20
    process = subprocess.run(
        [sys.executable, "-m", "bot_onnx", "resize", str(source), "--layers", "2", "-o", str(tmp_path / "out.onnx")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert process.returncode == 1
    assert process.stderr.count("error:") == 1 and "Traceback" not in process.stderr
    assert not names(tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_kill_in_the_middle(number: signal.Signals, tmp_path: Path) -> None:
    """Whatever ends the process while the file is written or verified, no file is left."""
    out = tmp_path / "out.onnx"
    arguments = ["resize", str(real.minilm_l3()), "--hidden", "1536", "-o", str(out), "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bot_onnx", *arguments],
        stderr=subprocess.DEVNULL,
        # A shell starts what it puts in the background with SIGINT ignored, and that is handed down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 60
        while not _writing(process.pid) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, "it finished before it could be ended"
        process.send_signal(number)
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
        process.wait()
    assert not names(tmp_path)


def _writing(pid: int) -> bool:
    """Whether the process holds an unnamed (or hidden) file of some megabytes open: the output in the making."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        for entry in folder.iterdir():
            target = os.readlink(entry)
            if ("(deleted)" in target or ".partial" in target) and entry.stat().st_size > 1 << 20:
                return True
    except OSError:
        return False
    return False
