"""A Whisper with random weights in a folder as Optimum lays it out: encoder, decoder, decoder with a cache, configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.encoder_decoders import MELS, VOCAB, Width, framework_model

FRAMES = 20
BASE = Width(layers=2)


def write(folder: Path, width: Width = BASE) -> Path:
    """Export all three by TorchScript, under Optimum's names of files, inputs and outputs."""
    import torch
    from transformers import EncoderDecoderCache

    model: Any = framework_model("whisper", width)
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    taken = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": MELS, "sampling_rate": 16000}
    (folder / "preprocessor_config.json").write_text(json.dumps(taken, indent=2))

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model.model.encoder

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.encoder(features).last_hidden_state  # type: ignore[no-any-return]

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.head = model.model.decoder, model.proj_out

        def forward(self, ids: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
            made = self.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=True)
            cache = made.past_key_values
            own, other = cache.self_attention_cache.layers, cache.cross_attention_cache.layers
            pairs = [(a.keys, a.values, b.keys, b.values) for a, b in zip(own, other, strict=True)]
            return self.head(made.last_hidden_state), *(tensor for layer in pairs for tensor in layer)

    class WithPast(Decoder):
        def forward(self, ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
            layers = [past[place : place + 4] for place in range(0, len(past), 4)]
            own = [(keys, values) for keys, values, _, _ in layers]
            other = [(keys, values) for _, _, keys, values in layers]
            cache = EncoderDecoderCache([(*a, *b) for a, b in zip(own, other, strict=True)])
            states = ids.new_zeros((ids.shape[0], FRAMES, width.hidden), dtype=torch.float32)  # nothing reads them
            made = self.decoder(input_ids=ids, encoder_hidden_states=states, past_key_values=cache, use_cache=True)
            kept = [(layer.keys, layer.values) for layer in made.past_key_values.self_attention_cache.layers]
            return self.head(made.last_hidden_state), *(tensor for layer in kept for tensor in layer)

    ids, features = torch.randint(3, VOCAB, (2, 5)), torch.randn(2, MELS, 2 * FRAMES)
    states = Encoder()(features)
    encoder, decoder, with_past = Encoder().eval(), Decoder().eval(), WithPast().eval()
    past = decoder(ids, states)[1:]
    caches = [
        f"{i}.{side}.{kind}"
        for i in range(width.layers)
        for side in ("decoder", "encoder")
        for kind in ("key", "value")
    ]
    batch, spoken = {0: "batch"}, {0: "batch", 1: "decoder_sequence_length"}
    _export(
        folder / "encoder_model.onnx", encoder, (features,), {"input_features": batch}, {"last_hidden_state": batch}
    )
    _export(
        folder / "decoder_model.onnx", decoder, (ids, states),
        {"input_ids": spoken, "encoder_hidden_states": {0: "batch", 1: "encoder_sequence_length"}},
        {"logits": spoken} | {f"present.{name}": _length(name, "decoder_sequence_length") for name in caches},
    )  # fmt: skip
    _export(
        folder / "decoder_with_past_model.onnx", with_past, (ids[:, :1], *past),
        {"input_ids": batch} | {f"past_key_values.{name}": _length(name, "past") for name in caches},
        {"logits": batch} | {f"present.{n}": _length(n, "past + 1") for n in caches if ".decoder." in n},
    )  # fmt: skip
    return folder


def _length(name: str, of_decoder: str) -> dict[int, str]:
    return {0: "batch", 2: of_decoder if ".decoder." in name else "encoder_sequence_length_out"}


def _export(path: Path, network: Any, values: tuple[Any, ...], inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    import torch

    from tests.zoo.export import quiet

    with quiet(), torch.no_grad():
        torch.onnx.export(
            network, values, str(path), dynamo=False, opset_version=17, input_names=list(inputs),
            output_names=list(outputs), dynamic_axes=inputs | outputs,
        )  # fmt: skip
