"""Causal language models, each without its cache and with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.coverage.case import Case, Recipe
from benchmarks.coverage.cases.transformer import BASE, CACHED, GROUPED, SINGLE, Size, targets_of, transformer

_TOKENS = {"vocab_size": 97, "bos_token_id": 0, "eos_token_id": 0}
_USUAL = {**_TOKENS, "pad_token_id": 0, "max_position_embeddings": 40}


def decoder(
    name: str,
    model: str,
    extra: Mapping[str, Any] | None = None,
    fields: Mapping[str, str | Sequence[str]] | None = None,
    size: Size = BASE,
    cached: bool = True,
    **more: Any,
) -> list[Case]:
    """A causal language model, and the same with its cache as inputs and outputs."""
    plain = transformer(
        name, model, fields=fields, extra=_USUAL | dict(extra or {}), size=size, constants={"use_cache": False}, **more
    )
    return [plain, with_cache(plain, size)] if cached else [plain]


def with_cache(plain: Case, size: Size) -> Case:
    """The same network with past keys and values as inputs, and present ones as outputs."""

    def recipe(source: Recipe, wanted: Size) -> Recipe:
        options = {key: source.options[key] for key in ("model", "config")}
        options |= {"layers": wanted.layers, "kv_heads": wanted.kv_heads, "head_dim": wanted.head_dim}
        return Recipe(CACHED, options)

    sizes = targets_of(size)
    targets = {
        name: replace(target, native=recipe(target.native, sizes[name]))
        for name, target in plain.targets.items()
        if target.native is not None
    }
    return replace(plain, name=f"{plain.name}_cache", source=recipe(plain.source, size), targets=targets)


CASES = [
    *decoder(
        "gpt2", "GPT2LMHeadModel", {"n_positions": 40},
        {"layers": "n_layer", "hidden": "n_embd", "heads": "n_head", "intermediate": "n_inner"},
    ),
    *decoder("opt", "OPTForCausalLM", {"word_embed_proj_dim": None}, {"intermediate": "ffn_dim"}),
    *decoder(
        "bloom", "BloomForCausalLM", fields={"layers": "n_layer", "heads": "n_head", "intermediate": []},
        keys=("layers", "hidden", "heads"),
    ),
    *decoder("gpt_neox", "GPTNeoXForCausalLM", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    *decoder("phi", "PhiForCausalLM"),
    *decoder("llama", "LlamaForCausalLM", size=GROUPED, fields={"head_dim": "head_dim"}),
    *decoder("qwen2", "Qwen2ForCausalLM", size=GROUPED, fields={"head_dim": "head_dim"}),
    *decoder("mistral", "MistralForCausalLM", size=GROUPED, fields={"head_dim": "head_dim"}),
    *decoder(
        "gemma", "GemmaForCausalLM", size=SINGLE, fields={"head_dim": "head_dim", "kv_heads": "num_key_value_heads"}
    ),
    *decoder("falcon", "FalconForCausalLM", {"multi_query": True}, {"intermediate": "ffn_hidden_size"}, SINGLE),
    *decoder("mixtral", "MixtralForCausalLM", {"num_local_experts": 4}, size=GROUPED, fields={"head_dim": "head_dim"},
             cached=False),
    transformer(
        "mamba", "MambaForCausalLM", extra=_TOKENS | {"state_size": 8, "pad_token_id": 0},
        inputs={"input_ids": ["ids", "batch", 9]}, constants={"use_cache": False},
        fields={"heads": [], "intermediate": []}, keys=("layers", "hidden"),
    ),
]  # fmt: skip
