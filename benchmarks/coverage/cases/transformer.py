"""Short ways to write down a case of the transformers library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.coverage.case import Case, Recipe, Target

HUGGINGFACE = "benchmarks.coverage.builders.huggingface:build"
CACHED = "benchmarks.coverage.builders.huggingface:build_cached"

TOKENS = ["ids", "batch", "sequence"]
TEXT = {"input_ids": TOKENS, "attention_mask": ["mask", "batch", "sequence"]}
IMAGE = {"pixel_values": ["float", "batch", 3, 32, 32]}
WAVE = {"input_values": ["float", "batch", "samples"]}
SEQUENCE_TO_SEQUENCE = {**TEXT, "decoder_input_ids": ["ids", "batch", "target"]}


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a transformer, by the keys of a spec."""

    layers: int = 4
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 16
    intermediate: int = 128


BASE = Size()
GROUPED = replace(BASE, kv_heads=2)
SINGLE = replace(BASE, kv_heads=1)


def targets_of(size: Size) -> dict[str, Size]:
    """Half of everything; twice the width and two layers more; three quarters (grouped heads: one and a half)."""
    grouped = size.kv_heads != size.heads
    kv = size.kv_heads
    up = 2 * kv if kv > 1 else 1
    return {
        "smaller": replace(
            size, layers=size.layers // 2, hidden=size.hidden // 2, heads=size.heads // 2, kv_heads=max(1, kv // 2),
            intermediate=size.intermediate // 2,
        ),
        "larger": replace(
            size, layers=size.layers + 2, hidden=2 * size.hidden, heads=2 * size.heads, kv_heads=up,
            intermediate=2 * size.intermediate,
        ),
        "other": replace(
            size, layers=size.layers - 1, hidden=size.hidden * 3 // 4,
            heads=size.heads * 3 // (2 if grouped and kv > 1 else 4),
            kv_heads=kv * 3 // 2 if grouped and kv > 1 else max(1, kv * 3 // 4),
            intermediate=size.intermediate * 3 // 4,
        ),
    }  # fmt: skip


def spec_of(size: Size, keys: Sequence[str]) -> dict[str, Any]:
    """The spec that asks for a size."""
    return {key: getattr(size, key) for key in keys}


def transformer(
    name: str,
    model: str,
    *,
    fields: Mapping[str, str | Sequence[str]] | None = None,
    extra: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Sequence[Any]] = TEXT,
    constants: Mapping[str, Any] | None = None,
    size: Size = BASE,
    keys: Sequence[str] = ("layers", "hidden", "heads", "intermediate"),
    spec: Mapping[str, Any] | None = None,
) -> Case:
    """A case of the transformers library, one size of width throughout.

    Args:
        name: of the case.
        model: class in transformers.
        fields: spec key -> argument(s) of the configuration, where they have other names than HuggingFace's usual
            ones. An empty list: the configuration has none.
        extra: further arguments of the configuration.
        inputs: see :mod:`benchmarks.coverage.builders.inputs`.
        constants: further keyword arguments of the call.
        size: of the source.
        keys: of the spec that are given.
        spec: added to every spec.
    """
    names: dict[str, Sequence[str]] = {
        "layers": ["num_hidden_layers"], "hidden": ["hidden_size"], "heads": ["num_attention_heads"],
        "intermediate": ["intermediate_size"], "head_dim": [],
        "kv_heads": ["num_key_value_heads"] if size.kv_heads != size.heads else [],
    }  # fmt: skip
    names |= {key: [value] if isinstance(value, str) else value for key, value in (fields or {}).items()}

    def recipe(wanted: Size) -> Recipe:
        config = {argument: getattr(wanted, key) for key, arguments in names.items() for argument in arguments}
        options = {"model": model, "config": config | dict(extra or {}), "inputs": dict(inputs)}
        return Recipe(HUGGINGFACE, options | ({"constants": dict(constants)} if constants else {}))

    asked = [*keys, *(["kv_heads"] if size.kv_heads not in (1, size.heads) else [])]
    targets = {
        target: Target(spec_of(wanted, asked) | dict(spec or {}), recipe(wanted))
        for target, wanted in targets_of(size).items()
    }
    return Case(name, "listed", recipe(size), targets)
