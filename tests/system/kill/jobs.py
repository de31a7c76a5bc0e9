"""The commands that are killed: what they need, and what they may leave behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from tests.graphs import residual_mlp_model

#: A model that no command writes to, in every folder: reading it is "any command on that folder".
BYSTANDER = "bystander.onnx"
_WIDTHS = {"old": 64, "new": 128}  # the source has 256


@dataclass(frozen=True)
class Job:
    """A command that replaces a good output by another one.

    Attributes:
        command: arguments that make the ``old`` or the ``new`` output from what lies in a folder of inputs, without
            ``--force``.
        outputs: names that the output's files begin with.
        fresh: whether there is no old output.
        goes_on: whether it keeps its work, from which the same command goes on.
    """

    command: Callable[[Path, str], list[str]]
    outputs: tuple[str, ...]
    fresh: bool = False
    goes_on: bool = False

    def arguments(self, inputs: Path, folder: Path, which: str) -> list[str]:
        """The whole command line."""
        return [*self.command(inputs, which), "-o", str(folder / self.outputs[0]), "--force", "-q"]


def _resize(*options: str, source: str = "source.onnx") -> Callable[[Path, str], list[str]]:
    return lambda inputs, which: ["resize", str(inputs / source), "--hidden", str(_WIDTHS[which]), *options]


def _export(inputs: Path, which: str) -> list[str]:
    naming = ["--names", str(inputs / "names.json"), "--hf", str(inputs / "config.json")]
    return ["export", str(inputs / f"{which}.onnx"), *naming]


def _import(inputs: Path, which: str) -> list[str]:
    naming = ["--names", str(inputs / "names.json"), "--from", str(inputs / f"{which}.safetensors")]
    return ["import", str(inputs / f"{which}.onnx"), *naming, "--external"]


def _recover(inputs: Path, which: str) -> list[str]:
    data = ["--teacher", str(inputs / "source.onnx"), "--data", str(inputs / "data.npz"), "--hidden-weight", "0"]
    steps = {"old": "2", "new": "4"}[which]
    return ["recover", str(inputs / "old.onnx"), *data, "--steps", steps, "--save-every", "0", "--restart"]


JOBS = {
    "resize": Job(_resize(), ("out.onnx",)),
    "resize-new": Job(_resize("--external"), ("out.onnx",), fresh=True),
    "resize-external": Job(_resize("--external"), ("out.onnx",)),
    "resize-shards": Job(_resize("--shard-size", "100kB"), ("out.onnx",)),
    "resize-resume": Job(_resize("--resume"), ("out.onnx",), goes_on=True),
    "resize-resume-external": Job(_resize("--resume", "--external"), ("out.onnx",), goes_on=True),
    "resize-resume-shards": Job(_resize("--resume", "--shard-size", "100kB"), ("out.onnx",), goes_on=True),
    "export-hf": Job(_export, ("model.safetensors", "config.json")),
    "import": Job(_import, ("out.onnx",)),
    "requantize": Job(_resize("--requantize", source="quantised.onnx"), ("out.onnx",)),
    "recover": Job(_recover, ("out.onnx",)),
}

#: Those that need no PyTorch.
QUICK = tuple(name for name in JOBS if name != "recover")


def make_inputs(folder: Path, run: Callable[[list[str]], int]) -> None:
    """Write everything that the commands read.

    Args:
        folder: an empty one.
        run: runs a command and returns its exit code.
    """
    model = residual_mlp_model(4, 256, 512)
    onnx.save(model, folder / "source.onnx")
    names = {tensor.name: f"net.{tensor.name}.weight" for tensor in model.graph.initializer}
    (folder / "names.json").write_text(json.dumps(names))
    config = {"model_type": "bert", "hidden_size": 256, "intermediate_size": 512}
    (folder / "config.json").write_text(json.dumps(config))
    onnx.save(residual_mlp_model(2, 8, 16), folder / BYSTANDER)
    np.savez(folder / "data.npz", x=np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32))
    for which, width in _WIDTHS.items():
        small = str(folder / f"{which}.onnx")
        assert run(["resize", str(folder / "source.onnx"), "--hidden", str(width), "-o", small, "-q"]) == 0
        weights = str(folder / f"{which}.safetensors")
        assert run(["export", small, "--names", str(folder / "names.json"), "-o", weights, "-q"]) == 0
    assert run(["quantise", str(folder / "source.onnx"), str(folder / "quantised.onnx")]) == 0


def quantise(source: str, target: str) -> None:
    """Quantise a model as users do, for the command that quantises again."""
    import tempfile

    from onnxruntime.quantization import quantize_dynamic

    tempfile.tempdir = os.path.dirname(target)
    quantize_dynamic(source, target)


def empty(folder: Path) -> None:
    """Make a folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
