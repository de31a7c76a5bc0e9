"""The keys in which HuggingFace configs write sizes: those of most families, and a record of each that differs.

A family with keys of its own is one entry of ``FAMILIES``. What reads a config as a spec, what writes the config of a
resized folder and what writes one beside exported weights all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bot_onnx._structure import Role

#: Keys in which a config may write the same thing; the first one that has a value counts.
COMMON: Final[dict[str, tuple[str, ...]]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depths"),
    "hidden": ("embed_dim", "hidden_size", "n_embd", "d_model", "dim", "emb_dim", "hidden_sizes"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "head_dim": ("head_dim", "d_kv", "attention_head_size", "kv_channels"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "mlp_dim", "hidden_dim"),
    "vocab": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "n_ctx"),
}
#: Encoder and decoder write their own keys; where both stand, they take the place of the keys above.
PAIRS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "layers": (("encoder_layers", "decoder_layers"), ("num_layers", "num_decoder_layers")),
    "heads": (("encoder_attention_heads", "decoder_attention_heads"),),
    "intermediate": (("encoder_ffn_dim", "decoder_ffn_dim"),),
}
TOWERS: Final = ("text_config", "vision_config", "audio_config", "encoder", "decoder")


@dataclass(frozen=True, slots=True)
class Family:
    """How the configs of a family (``model_type``) differ from the common ones.

    Attributes:
        keys: its own key names by role key; they are looked for before the common ones.
        takes: the key that takes a size which the config derives where the key is missing, by role key.
        four_times: its MLP has 4 * hidden channels where the config says nothing.
        position_offset: rows that its position table has beyond what the config says (padding).
    """

    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    takes: Mapping[str, str] = field(default_factory=dict)
    four_times: bool = False
    position_offset: int = 0


#: By ``model_type``; the last entry of a family counts.
FAMILIES: Final[dict[str, Family]] = {
    **dict.fromkeys("bart mbart plbart mvp opt biogpt trocr".split(), Family(position_offset=2)),
    **dict.fromkeys("bloom openai-gpt xlm flaubert".split(), Family(four_times=True)),
    **dict.fromkeys(
        "gpt2 gptj gpt_bigcode codegen".split(), Family(four_times=True, takes={Role.INTERMEDIATE: "n_inner"})
    ),
    "gpt_neo": Family(four_times=True, takes={Role.INTERMEDIATE: "intermediate_size"}),
    "falcon": Family(four_times=True, takes={Role.INTERMEDIATE: "ffn_hidden_size"}),
    **dict.fromkeys(
        "llama mistral mixtral ministral gemma gemma2 gemma3_text qwen3 qwen3_moe glm glm4 helium arcee".split(),
        Family(takes={Role.HEAD_DIM: "head_dim"}),
    ),
}
_PLAIN: Final = Family()


def family_of(config: Mapping[str, Any]) -> Family:
    """The record of a config's family; that of the common ones, where it has none."""
    return FAMILIES.get(str(config.get("model_type")), _PLAIN)


def keys_of(config: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The keys that may say a size in a config, by role key, in the order in which they count."""
    own = family_of(config).keys
    return {role: tuple(dict.fromkeys((*own.get(role, ()), *common))) for role, common in COMMON.items()}


def size_keys(config: Mapping[str, Any]) -> frozenset[str]:
    """All keys that may say a size in a config, those of encoders and decoders among them."""
    single = {key for keys in keys_of(config).values() for key in keys}
    return frozenset(single | {key for pairs in PAIRS.values() for pair in pairs for key in pair})
