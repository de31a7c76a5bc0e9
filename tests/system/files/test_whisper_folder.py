"""A Whisper as Optimum lays it out goes in, in one command, and three files come out that fit each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bot_onnx
from tests.encoder_decoders import MELS
from tests.pair_graphs import run

pytestmark = [pytest.mark.exporter, pytest.mark.thorough]


def test_encoder_decoder_and_cache_fit_each_other(tmp_path: Path) -> None:
    from tests.whisper_folder import FRAMES, write

    source, out = write(tmp_path / "whisper"), tmp_path / "small"
    bot_onnx.resize_together(source, {"layers": 1, "hidden": 32}, out)
    assert {path.name for path in out.iterdir()} >= {path.name for path in source.iterdir()}
    config = json.loads((out / "config.json").read_text())
    assert (config["d_model"], config["encoder_layers"], config["decoder_layers"]) == (32, 1, 1)
    assert (out / "preprocessor_config.json").read_bytes() == (source / "preprocessor_config.json").read_bytes()

    draw = np.random.default_rng(0)
    features = draw.standard_normal((2, MELS, 2 * FRAMES), np.float32)
    ids = draw.integers(3, 90, (2, 6))
    states = run(out / "encoder_model.onnx", {"input_features": features})["last_hidden_state"]
    assert states.shape == (2, FRAMES, 32)
    heard = {"encoder_hidden_states": states}
    whole = run(out / "decoder_model.onnx", {"input_ids": ids, **heard})["logits"]
    begun = run(out / "decoder_model.onnx", {"input_ids": ids[:, :5], **heard})
    past = {name.replace("present", "past_key_values"): array for name, array in begun.items() if name != "logits"}
    last = run(out / "decoder_with_past_model.onnx", {"input_ids": ids[:, 5:], **past})["logits"]
    np.testing.assert_allclose(last[:, 0], whole[:, 5], rtol=1e-4, atol=1e-4)
