"""The pass of Olive, run by Olive, where that is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from bot_onnx.demo import model_bytes
from tests.zoo.export import quiet

pytest.importorskip("olive")


def test_olive_resizes_among_its_own_passes(tmp_path: Path) -> None:
    with quiet():
        from olive.workflows import run

        from bot_onnx.olive import package_config

    (tmp_path / "model.onnx").write_bytes(model_bytes())
    (tmp_path / "passes.json").write_text(json.dumps(package_config()))
    asked = {
        "input_model": {"type": "ONNXModel", "model_path": str(tmp_path / "model.onnx")},
        "passes": {
            "small": {"type": "BotOnnxResize", "spec": {"layers": 3, "hidden": 32}, "seed": 3},
            "half": {"type": "OnnxFloatToFloat16"},
        },
        "output_dir": str(tmp_path / "out"), "cache_dir": str(tmp_path / "cache"),
    }  # fmt: skip
    with quiet():
        run(asked, package_config=str(tmp_path / "passes.json"))
    made = onnx.load(tmp_path / "out" / "model.onnx")
    types = {tensor.data_type for tensor in made.graph.initializer if len(tensor.dims) == 2}
    assert types == {onnx.TensorProto.FLOAT16}
    assert {32} <= {size for tensor in made.graph.initializer for size in tensor.dims}


def test_what_cannot_be_had_is_refused_by_name(tmp_path: Path) -> None:
    with quiet():
        from olive.hardware.accelerator import DEFAULT_CPU_ACCELERATOR
        from olive.model import ONNXModelHandler
        from olive.passes.olive_pass import create_pass_from_dict

        from bot_onnx.errors import SpecError
        from bot_onnx.olive import BotOnnxResize

    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes())
    step = create_pass_from_dict(BotOnnxResize, {"spec": {"hiden": 32}}, True, DEFAULT_CPU_ACCELERATOR)
    with pytest.raises(SpecError, match="hiden"):
        step.run(ONNXModelHandler(model_path=str(path)), str(tmp_path / "out"))
    assert not list(tmp_path.glob("out*/*"))


def test_the_configuration_is_printed_whole() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "bot_onnx.olive"], capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(printed)["passes"]
    assert found["BotOnnxResize"]["module_path"] == "bot_onnx.olive.BotOnnxResize" and len(found) > 20
