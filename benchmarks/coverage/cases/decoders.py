"""Causal language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.coverage.case import Case
from benchmarks.coverage.cases.transformer import BASE, GROUPED, Size, transformer

_SMALL = {"vocab_size": 97, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
_POSITIONS = {**_SMALL, "max_position_embeddings": 40}


def decoder(
    name: str,
    model: str,
    extra: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    size: Size = BASE,
    **more: Any,
) -> Case:
    """A causal language model without its cache."""
    given = _POSITIONS if extra is None else extra
    return transformer(name, model, extra=given, fields=fields, size=size, constants={"use_cache": False}, **more)


CASES = [
    decoder(
        "gpt2", "GPT2LMHeadModel", {"vocab_size": 97, "n_positions": 40, "bos_token_id": 0, "eos_token_id": 0},
        {"layers": "n_layer", "hidden": "n_embd", "heads": "n_head", "intermediate": "n_inner"},
    ),
    decoder("opt", "OPTForCausalLM", fields={"intermediate": "ffn_dim"}, extra=_POSITIONS),
    decoder("llama", "LlamaForCausalLM", size=GROUPED),
]  # fmt: skip
