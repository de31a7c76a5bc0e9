"""Weights of networks with an encoder and a decoder go home, and come back: T5 (tied three times over) and Whisper.

Whisper's exports lose the names of position tables whatever the exporter; the source's checkpoint and graph tell them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx._runs.inputs import feeds, input_specs, open_sizes
from bot_onnx._runs.runtime import session
from bot_onnx.errors import CheckpointError
from tests.encoder_decoders import NAMES, Width, exported, framework_model
from tests.system.oracle.compare import distance, run_at_two_sizes
from tests.zoo.export import quiet

pytestmark = pytest.mark.exporter
TOLERANCE = 1e-4
TARGETS = {"half": Width(2, 32, 2, 64), "double": Width(5, 128, 8, 256)}
QUICK = {("t5", "torchscript17", "half"), ("whisper", "torchscript17", "half")}
CASES = [
    pytest.param(name, exporter, target, marks=() if (name, exporter, target) in QUICK else pytest.mark.slow)
    for name in NAMES
    for exporter in ("torchscript17", "dynamo18")
    for target in TARGETS
]


def difference(path: Path, model: Any) -> float:
    """Largest relative difference of the logits between a file and a framework's model, at two input sizes."""
    import torch

    specs = input_specs(onnx.load(path, load_external_data=False).graph)
    runner, worst = session(str(path)), 0.0
    for sizes in next(open_sizes(specs)):
        values = feeds(specs, sizes)
        with torch.no_grad():
            found = model(**{key: torch.from_numpy(array) for key, array in values.items()}, use_cache=False).logits
        (wanted,) = runner.run(None, values)
        worst = max(worst, float(np.abs(wanted - found.numpy()).max() / np.abs(wanted).max()))
    return worst


@pytest.mark.parametrize(("name", "exporter", "target"), CASES)
def test_the_framework_computes_what_the_resized_file_does(
    name: str, exporter: str, target: str, tmp_path: Path
) -> None:
    import torch

    source, file = exported(name, exporter), tmp_path / "resized.onnx"
    width = TARGETS[target]
    bot_onnx.resize(source, width._asdict(), file, against=False)
    origin = framework_model(name, Width())
    weights = {key: values.numpy() for key, values in origin.state_dict().items()}  # tied keys under all their names
    state = bot_onnx.state_dict(file, like=weights, source=source)
    own = framework_model(name, width, seed=1)
    trained = {key: values.clone().numpy() for key, values in own.state_dict().items()}
    own.load_state_dict({key: torch.from_numpy(values) for key, values in state.items()}, strict=True)
    assert difference(file, own) <= TOLERANCE

    out = tmp_path / "trained.onnx"
    names = None if name == "t5" else {key: value for key, value in lost_names(source, weights).items()}
    bot_onnx.import_weights(file, trained, out, names=names)
    assert difference(out, framework_model(name, width, seed=1)) <= TOLERANCE
    assert distance(run_at_two_sizes(out), run_at_two_sizes(file)) > TOLERANCE


def lost_names(source: Path, weights: dict[str, Any]) -> dict[str, str]:
    """Keys of the tensors whose names the exporter lost for good, from the values of the source."""
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    tables = {key: values for key, values in weights.items() if "embed_positions" in key}
    return {
        name: key
        for name, values in arrays.items()
        for key, table in tables.items()
        if "." not in name and np.array_equal(values, table)
    }


def test_from_pretrained_loads_the_folder(tmp_path: Path) -> None:
    source, file, folder = exported("t5", "torchscript17"), tmp_path / "resized.onnx", tmp_path / "home"
    width = TARGETS["half"]
    bot_onnx.resize(source, width._asdict(), file, against=False)
    origin = framework_model("t5", Width())
    with quiet():
        origin.save_pretrained(tmp_path / "source")
    folder.mkdir()
    bot_onnx.export_weights(
        file, folder / "model.safetensors", like=tmp_path / "source", config=tmp_path / "source" / "config.json"
    )
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_layers"], config["num_decoder_layers"], config["d_kv"]) == (2, 2, 16)
    with quiet():
        model, loading = type(origin).from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values())
    assert difference(file, model.eval()) <= TOLERANCE


def test_position_tables_without_a_name_are_not_guessed() -> None:
    with pytest.raises(CheckpointError, match="--like"):
        bot_onnx.state_dict(exported("whisper", "torchscript17"))
