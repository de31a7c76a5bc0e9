"""The catalogue: which architectures there are, their sizes, and the targets that the tests resize them to.

Nothing here imports PyTorch, so that a test whose exports are cached starts at once; the networks themselves are in
:mod:`tests.zoo.networks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

IMAGE = 32  # pixels a side
PATCH = 8
CLASSES = 10
ROBERTA_PAD = 1  # RoBERTa counts positions from pad + 1, so its table holds two rows that no token reaches


class Unbuildable(Exception):
    """The architecture has no configuration of that size; the message says which relation it demands."""


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a transformer.

    Attributes:
        layers: blocks.
        hidden: width of the residual stream.
        heads, head_dim: query heads and the width of each.
        kv_heads: key / value heads; equal to ``heads`` in every architecture but llama.
        intermediate: width of the feed-forward part.
        vocab: tokens; unused by image models.
        positions: rows of the position table of a text model; image models have one a patch and special token.
    """

    layers: int
    hidden: int
    heads: int
    head_dim: int
    kv_heads: int
    intermediate: int
    vocab: int = 97
    positions: int = 40


class Built(NamedTuple):
    """A network ready to export.

    Attributes:
        module: in eval mode, returns a tensor or a tuple of tensors.
        inputs: example inputs in the order of ``forward``.
        input_names, output_names: names in the exported graph.
        dynamic_axes: input or output name -> {axis: name of its size at run time}.
    """

    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    dynamic_axes: dict[str, dict[int, str]]


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is known of an architecture without building it."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    grouped: bool = False  # fewer kv heads than heads
    free_head_dim: bool = False  # hidden need not be heads * head_dim
    fixed_ratio: bool = False  # the feed-forward width is given as a multiple of hidden

    @property
    def vision(self) -> bool:
        """True if the input is an image."""
        return self.inputs == ("pixel_values",)


_ENCODER = ("input_ids", "attention_mask", "token_type_ids")
_DECODER = ("input_ids", "attention_mask")

ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture(_ENCODER, ("last_hidden_state", "pooler_output")),
    "bert_mlm": Architecture(_ENCODER, ("logits",)),
    "roberta": Architecture(_ENCODER, ("last_hidden_state", "pooler_output")),
    "gpt2": Architecture(_DECODER, ("logits",)),
    "deit": Architecture(("pixel_values",), ("logits",)),
    "vit": Architecture(("pixel_values",), ("logits",), fixed_ratio=True),
    "llama": Architecture(_DECODER, ("logits",), grouped=True, free_head_dim=True),
}

_BASE = Size(layers=4, hidden=64, heads=4, head_dim=16, kv_heads=4, intermediate=128)


def base_size(arch: str) -> Size:
    """The source size of the tests: 4 layers of width 64; llama has two query heads to a key / value head."""
    return replace(_BASE, kv_heads=2) if ARCHITECTURES[arch].grouped else _BASE


def half(size: Size) -> Size:
    """Half of everything, whole heads."""
    return replace(
        size,
        layers=size.layers // 2,
        hidden=size.hidden // 2,
        heads=size.heads // 2,
        kv_heads=size.kv_heads // 2,
        intermediate=size.intermediate // 2,
    )


def double(size: Size) -> Size:
    """Twice the width, whole heads, two layers more."""
    return replace(
        size,
        layers=size.layers + 2,
        hidden=size.hidden * 2,
        heads=size.heads * 2,
        kv_heads=size.kv_heads * 2,
        intermediate=size.intermediate * 2,
    )


def ratio(size: Size) -> Size:
    """Three quarters of everything; grouped heads go up by half instead, so that groups keep two members."""
    up = size.kv_heads != size.heads
    return replace(
        size,
        layers=size.layers * 3 // 4,
        hidden=size.hidden * 3 // 4,
        heads=size.heads * 3 // (2 if up else 4),
        kv_heads=size.kv_heads * 3 // (2 if up else 4),
        intermediate=size.intermediate * 3 // 4,
    )


def head_dim(size: Size) -> Size:
    """Heads of half the width, twice as many: only the way the attention axis is cut changes."""
    return replace(size, heads=size.heads * 2, head_dim=size.head_dim // 2, kv_heads=size.kv_heads * 2)


TARGETS: dict[str, Callable[[Size], Size]] = {"half": half, "double": double, "ratio": ratio, "head_dim": head_dim}


def check(arch: str, size: Size) -> None:
    """Raise :class:`Unbuildable` if ``arch`` has no configuration of that size.

    Raises:
        Unbuildable: names the relation that the size breaks.
        KeyError: no such architecture.
    """
    traits = ARCHITECTURES[arch]
    if not traits.free_head_dim and size.hidden != size.heads * size.head_dim:
        raise Unbuildable(f"{arch}: hidden {size.hidden} must be heads {size.heads} x head_dim {size.head_dim}")
    if not traits.grouped and size.kv_heads != size.heads:
        raise Unbuildable(f"{arch}: no grouped heads, kv_heads {size.kv_heads} must be heads {size.heads}")
    if size.heads % size.kv_heads:
        raise Unbuildable(f"{arch}: heads {size.heads} must be a multiple of kv_heads {size.kv_heads}")
    if arch == "llama" and size.head_dim % 2:
        raise Unbuildable(f"llama: rotary embeddings need an even head_dim, not {size.head_dim}")
    if traits.fixed_ratio and int(size.hidden * (size.intermediate / size.hidden)) != size.intermediate:
        raise Unbuildable(f"{arch}: intermediate {size.intermediate} is no exact multiple of hidden {size.hidden}")


def max_sequence(arch: str, size: Size) -> int:
    """The longest sequence that a text model of that size accepts."""
    return size.positions - (ROBERTA_PAD + 1 if arch == "roberta" else 0)


def feeds(arch: str, size: Size, batch: int, sequence: int = 0, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Random inputs of the exported graph.

    Args:
        arch: name in :data:`ARCHITECTURES`.
        size: of the model; gives the vocabulary.
        batch: examples.
        sequence: tokens (unused by image models); the last third of every other example is padding.
        seed: of the random numbers.

    Returns:
        Input name -> int64 array ``(batch, sequence)``, or float32 ``(batch, 3, 32, 32)`` for ``pixel_values``.
    """
    rng = np.random.default_rng(seed)
    if ARCHITECTURES[arch].vision:
        return {"pixel_values": rng.standard_normal((batch, 3, IMAGE, IMAGE)).astype(np.float32)}
    mask = np.ones((batch, sequence), np.int64)
    mask[1::2, sequence - sequence // 3 :] = 0
    tokens = rng.integers(ROBERTA_PAD + 1, size.vocab, (batch, sequence), dtype=np.int64)
    values = {
        "input_ids": np.where(mask == 1, tokens, ROBERTA_PAD),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 1 if arch == "roberta" else 2, (batch, sequence), dtype=np.int64),
    }
    return {name: values[name] for name in ARCHITECTURES[arch].inputs}


def build(arch: str, size: Size, seed: int = 0) -> Built:
    """Build a network with random weights, biases and norm scales.

    Args:
        arch: name in :data:`ARCHITECTURES`.
        size: of the network.
        seed: of the weights.

    Raises:
        Unbuildable: the architecture has no configuration of that size.
        ModuleNotFoundError: torch, transformers or timm is not installed.
    """
    check(arch, size)
    from tests.zoo import networks

    return networks.build(arch, size, seed)
