"""Networks of the transformers library, from a class name and configuration values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.coverage.builders.inputs import examples
from benchmarks.coverage.builders.torchvision_import import import_torchvision
from benchmarks.coverage.case import Built

#: Outputs that are no results: caches, and what repeats them.
_SKIPPED = ("past_key_values", "cache_params", "mems", "state", "loss")


def tensors_of(result: Any) -> list[Tensor]:
    """All floating-point tensors in a nested result, caches left out, each once, in order."""
    found: list[Tensor] = []
    pending = [result]
    while pending:
        item = pending.pop(0)
        if isinstance(item, Tensor):
            if item.is_floating_point() and not any(item is other for other in found):
                found.append(item)
        elif isinstance(item, Mapping):
            pending[:0] = [value for key, value in item.items() if key not in _SKIPPED]
        elif isinstance(item, list | tuple):
            pending[:0] = list(item)
    return found


class Positional(nn.Module):
    """Call a network by keyword with tensors that come by position; returns its float tensors as a tuple."""

    def __init__(self, model: nn.Module, names: Sequence[str], constants: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.constants = dict(constants)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """One tensor for every name."""
        return tuple(tensors_of(self.model(**dict(zip(self.names, tensors, strict=True)), **self.constants)))


class Cached(nn.Module):
    """Call a decoder with its cache as plain tensors, key and value of every layer in turn; returns it grown."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """``input_ids`` (batch, sequence), mask (batch, past + sequence), cache (batch, heads, past, head_dim)."""
        from transformers import DynamicCache

        past = DynamicCache([(cache[2 * i], cache[2 * i + 1]) for i in range(self.layers)])
        result = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=past, use_cache=True)
        present = result.past_key_values
        flat = [tensor for layer in present.layers for tensor in (layer.keys, layer.values)]
        return (result.logits, *flat)


def make_model(model: str, config: Mapping[str, Any]) -> nn.Module:
    """Make a network from the name of its class and the arguments of its configuration."""
    import_torchvision()
    import transformers

    kind = getattr(transformers, model)
    made = kind(kind.config_class(**config)).eval()
    if made._can_set_experts_implementation():
        # The other ways to compute experts depend on which of them the example happens to reach, or have no ONNX form.
        made.set_experts_implementation("batched_mm")
    network: nn.Module = made
    return network


def build(
    model: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Sequence[Any]],
    constants: Mapping[str, Any] | None = None,
) -> Built:
    """Build a network without a cache.

    Args:
        model: name of the class in transformers.
        config: arguments of its configuration.
        inputs: see :mod:`benchmarks.coverage.builders.inputs`.
        constants: further keyword arguments of its call.
    """
    tensors, axes = examples(inputs)
    module = Positional(make_model(model, config), tuple(inputs), constants or {})
    return Built(module.eval(), tensors, tuple(inputs), axes)


def build_cached(model: str, config: Mapping[str, Any], layers: int, kv_heads: int, head_dim: int) -> Built:
    """Build a causal language model that takes a cache and returns it grown."""
    names = [f"{part}" for i in range(layers) for part in (f"{i}.key", f"{i}.value")]
    inputs = {"input_ids": ["ids", "batch", "sequence"], "attention_mask": ["mask", "batch", "total"]}
    inputs |= {f"past_key_values.{name}": ["float", "batch", kv_heads, "past", head_dim] for name in names}
    tensors, axes = examples(inputs)
    module = Cached(make_model(model, config), layers)
    outputs = ("logits", *(f"present.{name}" for name in names))
    return Built(module.eval(), tensors, tuple(inputs), axes, outputs)


@torch.no_grad()
def count_outputs(built: Built) -> int:
    """How many tensors a built network returns."""
    return len(built.module(*built.inputs))
