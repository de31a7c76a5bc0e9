"""A sentence encoder's folder goes in, and one comes out whose framework and ONNX file give the same embeddings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bot_onnx
from tests.zoo.export import quiet
from tests.zoo.real import MissingModelError, minilm_l6, minilm_l6_folder

pytestmark = [pytest.mark.exporter, pytest.mark.thorough]
TEXTS = ["a cat sits on the mat", "stock markets fell sharply", "the kitten lies on a rug", "x"]


def pooled(states: Any, mask: Any, folder: Path) -> np.ndarray:
    """Embeddings as the folder's own ``1_Pooling`` and ``modules.json`` say: the mean over words, normalised."""
    told = json.loads((folder / "1_Pooling/config.json").read_text())
    assert told["pooling_mode_mean_tokens"] and told["word_embedding_dimension"] == states.shape[-1]
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    assert "Normalize" in (folder / "modules.json").read_text()
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def test_the_embeddings_of_a_resized_minilm_are_those_of_onnxruntime(tmp_path: Path) -> None:
    try:
        published, graph = minilm_l6_folder(), minilm_l6("torchscript17")
    except MissingModelError as missing:
        pytest.skip(str(missing))
    source, out = tmp_path / "minilm", tmp_path / "small"
    shutil.copytree(published, source)
    (source / "onnx").mkdir()
    shutil.copy(graph, source / "onnx/model.onnx")
    bot_onnx.resize(source, {"layers": 3, "hidden": 192}, out)
    bot_onnx.export_weights(out / "onnx/model.onnx", out / "model.safetensors", like=source, strip="model.")

    with quiet():
        import onnxruntime
        import torch
        import transformers

        words = transformers.AutoTokenizer.from_pretrained(out)(TEXTS, padding=True, return_tensors="np")
        network = transformers.AutoModel.from_pretrained(out).eval()
    assert network.config.hidden_size == 192 and network.config.num_hidden_layers == 3
    feeds = {name: np.asarray(array, np.int64) for name, array in words.items()}
    with torch.no_grad():
        states = network(**{name: torch.from_numpy(array) for name, array in feeds.items()}).last_hidden_state.numpy()
    session = onnxruntime.InferenceSession(out / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    (shown,) = session.run(["last_hidden_state"], {port.name: feeds[port.name] for port in session.get_inputs()})
    mask = feeds["attention_mask"].astype(np.float32)
    ours, theirs = pooled(shown, mask, out), pooled(states, mask, out)
    assert ours.shape == (4, 192)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
