"""HuggingFace configs: recognised by content, translated family by family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bot_onnx._target import TargetSpec
from bot_onnx.errors import SpecError

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_act": "gelu",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_inner": None,
    "n_ctx": 1024,
    "n_positions": 1024,
    "vocab_size": 50257,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
}
VIT = {
    "model_type": "vit",
    "hidden_size": 192,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
}
T5 = {
    "model_type": "t5",
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_decoder_layers": 4,
    "num_heads": 8,
    "vocab_size": 32128,
}
BART = {
    "model_type": "bart",
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "num_hidden_layers": 6,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
    "max_position_embeddings": 1024,
    "vocab_size": 50265,
}
DISTILBERT = {"model_type": "distilbert", "dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12}
SWIN = {
    "model_type": "swin",
    "embed_dim": 96,
    "hidden_size": 768,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "mlp_ratio": 4.0,
}
FALCON = {
    "model_type": "falcon",
    "hidden_size": 4544,
    "num_hidden_layers": 32,
    "num_attention_heads": 71,
    "num_kv_heads": 71,
    "multi_query": True,
    "new_decoder_architecture": False,
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            BERT,
            {"layers": 6, "hidden": 384, "heads": 6, "head_dim": 64, "intermediate": 1536, "vocab": 30522}
            | {"positions": 512, "soft": ("head_dim", "vocab", "positions")},
        ),
        (
            GPT2,
            {"layers": 12, "hidden": 768, "heads": 12, "head_dim": 64, "intermediate": 3072, "vocab": 50257}
            | {"positions": 1024, "soft": ("head_dim", "intermediate", "vocab", "positions")},
        ),
        (
            LLAMA,
            {"layers": 16, "hidden": 2048, "heads": 32, "kv_heads": 8, "head_dim": 64, "intermediate": 8192}
            | {"soft": ("vocab", "positions")},
        ),
        (VIT, {"layers": 12, "hidden": 192, "heads": 3, "vocab": None, "positions": None, "soft": ("head_dim",)}),
        (T5, {"layers": [6, 4], "hidden": 512, "heads": 8, "head_dim": 64, "intermediate": 2048, "soft": ("vocab",)}),
        (BART, {"layers": 6, "hidden": 768, "heads": 12, "intermediate": 3072, "positions": 1026}),
        (DISTILBERT, {"layers": 6, "hidden": 768, "heads": 12, "intermediate": 3072}),
        (SWIN, {"layers": [2, 2, 6, 2], "hidden": 96, "heads": 3, "head_dim": 32, "intermediate": 384}),
        (FALCON, {"heads": 71, "kv_heads": 1, "intermediate": 18176, "soft": ("kv_heads", "head_dim", "intermediate")}),
        ({"model_type": "llava", "text_config": LLAMA}, {"layers": 16, "hidden": 2048}),
        ({"hidden_size": 64, "num_hidden_layers": 2, "initializer_range": 0.02}, {"hidden": 64, "layers": 2}),
    ],
)
def test_families(config: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = TargetSpec.parse(config, where="config.json")
    assert {key: getattr(spec, key) for key in expected} == expected


def test_a_file_and_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    assert TargetSpec.load(tmp_path) == TargetSpec.load(tmp_path / "config.json")
    assert TargetSpec.load(tmp_path).name == "bert"


def test_our_keys_stay_ours() -> None:
    assert TargetSpec.parse({"head_dim": 32}).soft == ()
    with pytest.raises(SpecError, match="'n_embd' is not known"):
        TargetSpec.parse({"layers": 3, "n_embd": 4})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BERT | {"hidden_size": "384"}, "^config.json: key 'hidden_size' must be a whole number above 0, not '384'"),
        (BERT | {"num_hidden_layers": 0}, "key 'num_hidden_layers'"),
        (SWIN | {"depths": [2, True]}, r"key 'depths\[1\]'"),
        (BART | {"decoder_ffn_dim": 1024}, "encoder_ffn_dim 3072 and decoder_ffn_dim 1024 differ"),
        ({"model_type": "clip", "text_config": BERT, "vision_config": VIT}, "several towers .*text_config, vision_con"),
        ({"model_type": "odd", "width_multiplier": 3}, "none of the known size keys"),
    ],
)
def test_refusals(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TargetSpec.parse(config, where="config.json")
