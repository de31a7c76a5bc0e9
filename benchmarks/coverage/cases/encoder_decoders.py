"""Networks with an encoder and a decoder, and those with two towers."""

from __future__ import annotations

from typing import Any

from benchmarks.coverage.case import Case, Recipe, Target
from benchmarks.coverage.cases.transformer import (
    BASE,
    HUGGINGFACE,
    SEQUENCE_TO_SEQUENCE,
    TEXT,
    Size,
    targets_of,
    transformer,
)

_BART_FIELDS = {
    "layers": ["encoder_layers", "decoder_layers"],
    "heads": ["encoder_attention_heads", "decoder_attention_heads"],
    "intermediate": ["encoder_ffn_dim", "decoder_ffn_dim"],
    "hidden": "d_model",
}
_BART = {"vocab_size": 97, "max_position_embeddings": 40, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_T5_FIELDS = {
    "layers": ["num_layers", "num_decoder_layers"], "hidden": "d_model", "heads": "num_heads", "intermediate": "d_ff"
}  # fmt: skip
_T5 = {"vocab_size": 97, "d_kv": 16, "relative_attention_num_buckets": 8, "decoder_start_token_id": 0}
_NO_CACHE = {"use_cache": False}


def clip() -> Case:
    """Two towers of different widths; ``width`` sizes both. The space in which they meet is an output, and stays."""

    def recipe(size: Size) -> Recipe:
        common = {"num_hidden_layers": size.layers, "num_attention_heads": size.heads}
        text = common | {
            "hidden_size": size.hidden, "intermediate_size": size.intermediate, "vocab_size": 97,
            "max_position_embeddings": 40, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
            "projection_dim": 32,
        }  # fmt: skip
        vision = common | {
            "hidden_size": size.hidden * 3 // 2, "intermediate_size": size.intermediate * 2, "image_size": 32,
            "patch_size": 8, "projection_dim": 32,
        }  # fmt: skip
        config = {"text_config": text, "vision_config": vision, "projection_dim": 32}
        inputs: dict[str, Any] = {**TEXT, "pixel_values": ["float", "images", 3, 32, 32]}
        return Recipe(HUGGINGFACE, {"model": "CLIPModel", "config": config, "inputs": inputs})

    targets = {
        name: Target({"width": size.hidden / BASE.hidden, "layers": size.layers}, recipe(size))
        for name, size in targets_of(BASE).items()
    }
    return Case("clip", "listed", recipe(BASE), targets)


CASES = [
    transformer("t5", "T5Model", fields=_T5_FIELDS, extra=_T5, inputs=SEQUENCE_TO_SEQUENCE, constants=_NO_CACHE),
    transformer(
        "t5_gated", "T5ForConditionalGeneration", fields=_T5_FIELDS,
        extra=_T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, inputs=SEQUENCE_TO_SEQUENCE,
        constants=_NO_CACHE,
    ),
    transformer(
        "bart", "BartModel", fields=_BART_FIELDS, extra=_BART, inputs=SEQUENCE_TO_SEQUENCE, constants=_NO_CACHE
    ),
    transformer(
        "whisper", "WhisperModel", fields=_BART_FIELDS, constants=_NO_CACHE,
        extra={
            "vocab_size": 97, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0,
            "num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 40,
        },
        inputs={
            "input_features": ["float", "batch", 16, 40], "decoder_input_ids": ["ids", "batch", "target"],
            "decoder_attention_mask": ["mask", "batch", "target"],
        },
    ),
    clip(),
]  # fmt: skip
