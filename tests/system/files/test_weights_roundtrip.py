"""Weights go home: a resized file's weights, in the framework's own model of that size, compute what the file does.

And back: weights of the framework's model, put into the resized graph, compute what the framework's own export does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.inputs import feeds, input_specs, open_sizes
from bot_onnx._runs.runtime import session
from tests.system.oracle.compare import distance, run_at_two_sizes
from tests.system.oracle.test_oracle import spec_of
from tests.zoo.architectures import TARGETS, Size, base_size, build
from tests.zoo.export import cached_export, quiet

pytestmark = pytest.mark.exporter
TOLERANCE = 1e-4
ARCHITECTURES = ("bert", "roberta", "gpt2", "deit", "vit", "llama")
EXPORTERS = ("torchscript17", "dynamo18")
QUICK = {
    ("bert", "torchscript17", "half"),
    ("roberta", "dynamo18", "half"),
    ("gpt2", "torchscript17", "half"),
    ("deit", "dynamo18", "half"),
    ("vit", "torchscript17", "half"),
    ("llama", "torchscript17", "half"),
}
CASES = [
    pytest.param(arch, exporter, target, marks=() if (arch, exporter, target) in QUICK else pytest.mark.slow)
    for arch in ARCHITECTURES
    for exporter in EXPORTERS
    for target in ("half", "double")
]


def resized(arch: str, exporter: str, size: Size, folder: Path) -> Path:
    """The network of the zoo at another size."""
    out = folder / "resized.onnx"
    bot_onnx.resize(cached_export(arch, base_size(arch), exporter), spec_of(arch, size), out, against=False)
    return out


def wrapped(arch: str) -> str:
    """Beginning of the keys of the module that was exported, before the framework's own."""
    return "" if arch == "vit" else "model."


def framework(arch: str, size: Size, seed: int = 1) -> tuple[Any, Any]:
    """What was exported at another size, and in it the framework's own model, with other weights."""
    with quiet():
        built = build(arch, size, seed)
    return built, built.module if arch == "vit" else built.module.model


def difference(path: Path, built: Any) -> float:
    """Largest relative difference of outputs between a file and a framework's module, at two input sizes."""
    import torch

    specs = input_specs(onnx.load(path, load_external_data=False).graph)
    runner, worst = session(str(path)), 0.0
    for sizes in next(open_sizes(specs)):
        values = feeds(specs, sizes)
        with torch.no_grad():
            found = built.module(*(torch.from_numpy(values[name]) for name in built.input_names))
        for a, b in zip(runner.run(None, values), found if isinstance(found, tuple) else (found,), strict=True):
            worst = max(worst, float(np.abs(a - b.numpy()).max() / np.abs(a).max()))
    return worst


@pytest.mark.parametrize(("arch", "exporter", "target"), CASES)
def test_the_framework_computes_what_the_resized_file_does(
    arch: str, exporter: str, target: str, tmp_path: Path
) -> None:
    import torch

    size = TARGETS[target](base_size(arch))
    file = resized(arch, exporter, size, tmp_path)
    built, own = framework(arch, size)
    assert difference(file, built) > TOLERANCE  # with weights of its own it computes something else
    state = bot_onnx.state_dict(file, strip=wrapped(arch))
    own.load_state_dict({key: torch.from_numpy(values) for key, values in state.items()}, strict=True)
    assert difference(file, built) <= TOLERANCE

    # The way back, with the weights of a framework's model that has been trained on: here, drawn anew.
    native = cached_export(arch, size, exporter)
    _, trained = framework(arch, size, seed=0)  # what the native export was made from
    weights = {key: values.numpy() for key, values in trained.state_dict().items()}
    out = tmp_path / "trained.onnx"
    bot_onnx.import_weights(file, weights, out)
    assert distance(run_at_two_sizes(out), run_at_two_sizes(native)) <= 1e-6
    assert distance(run_at_two_sizes(out), run_at_two_sizes(file)) > TOLERANCE
