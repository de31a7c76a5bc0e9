"""Files that become shorter, or others, while something reads them: an error for who calls from Python as well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.weight_files import WeightFile
from bot_onnx._verify import runner as running
from bot_onnx.errors import GraphError
from tests.graphs import residual_mlp_model, save

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells whose page it is")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(
        residual_mlp_model(3, 64, 128), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    return path


def when_running(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> list[int]:
    """Call ``change`` once, right before the first model that is verified runs."""
    done: list[int] = []
    real = running.Runner.run

    def run(self: running.Runner, feeds: dict[str, np.ndarray]) -> dict[str, object]:
        if not done:
            done.append(1)
            change()
        return real(self, feeds)

    monkeypatch.setattr(running.Runner, "run", run)
    return done


@LINUX
def test_a_map_that_loses_its_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\1" * (1 << 16))
    file = WeightFile(path)
    try:
        with pytest.raises(GraphError, match=r"weights\.bin became shorter while it was read"), surviving():
            os.truncate(path, 5000)
            shown = np.frombuffer(file.buffer, np.uint8)
            assert shown[:4096].sum() == 4096  # what is left of the file
            assert shown[8192:].sum() == 0
        del shown
    finally:
        file.close()
    with surviving():  # the next call begins anew
        pass


@LINUX
def test_signals_about_other_files_go_where_they_went(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 16))
    code = (
        "import mmap, numpy\n"
        "from bot_onnx._onnxfile.lost_files import surviving\n"
        f"file = open({str(tmp_path / 'file')!r}, 'r+b')\n"
        "shown = numpy.frombuffer(mmap.mmap(file.fileno(), 0), numpy.uint8)\n"
        "file.truncate(0)\n"
        "with surviving():\n"
        "    print(shown.sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-7, "")


@LINUX
@pytest.mark.parametrize("size", [0, 10_000])
@pytest.mark.parametrize("command", ["resize", "verify", "verify against"])
def test_a_source_that_becomes_shorter_while_models_run(
    model: Path, command: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = model.with_name("out.onnx")
    data = model.with_name("weights.bin")
    if command == "verify against":
        bot_onnx.resize(model, {"hidden": 128}, out, external=False)
    before = {path.name for path in model.parent.iterdir()}
    done = when_running(monkeypatch, lambda: os.truncate(data, size))
    with pytest.raises(GraphError, match=r"weights\.bin (became shorter|was changed) while it was read"):
        if command == "resize":
            bot_onnx.resize(model, {"hidden": 128}, out)
        elif command == "verify":
            bot_onnx.verify(model)
        else:
            bot_onnx.verify(out, against=model)
    assert done and {path.name for path in model.parent.iterdir()} == before


@pytest.mark.parametrize("against", [False, True])
def test_verifying_what_changes_says_so(model: Path, against: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out, data = model.with_name("out.onnx"), model.with_name("weights.bin")
    bot_onnx.resize(model, {"hidden": 128}, out, external=False)

    def other() -> None:
        values = bytearray(data.read_bytes())
        values[1000:2000] = bytes(1000)
        data.write_bytes(values)

    when_running(monkeypatch, other)
    with pytest.raises(GraphError, match=r"weights\.bin was changed while it was read"):
        bot_onnx.verify(out, against=model) if against else bot_onnx.verify(model)


@pytest.mark.parametrize("way", ["export", "import", "state_dict"])
def test_checkpoints_that_change_meanwhile(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors")
    from bot_onnx._checkpoint.files import SafetensorsFile

    made = residual_mlp_model(2, 16, 32)
    path, kept = save(made, tmp_path), tmp_path / "kept.safetensors"
    names = {tensor.name: f"net.{tensor.name}.weight" for tensor in made.graph.initializer}
    bot_onnx.export_weights(path, kept, names=names)
    real = SafetensorsFile.__init__

    def opened(self: SafetensorsFile, path: Path) -> None:
        real(self, path)
        os.utime(kept, ns=(1, 1))

    monkeypatch.setattr(SafetensorsFile, "__init__", opened)
    before = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(GraphError, match=r"kept\.safetensors was changed while it was read"):
        if way == "export":
            bot_onnx.export_weights(path, tmp_path / "out.safetensors", like=kept, names=names)
        elif way == "import":
            bot_onnx.import_weights(path, kept, tmp_path / "out.onnx", names=names)
        else:
            bot_onnx.state_dict(path, like=kept, names=names)
    assert {entry.name for entry in tmp_path.iterdir()} == before
