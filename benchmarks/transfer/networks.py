"""The three networks of the study: a pre-norm GPT, a post-norm BERT, a pre-norm ViT.

Matrices are stored (in, out), as they are multiplied: every exporter then keeps them under their own names, and the
weights of a resized file go back by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.transfer.corpora import PATCH, VOCAB

#: Tokens of a sequence. A masked token tells nothing of itself, and until attention has found its neighbours the
#: network learns how frequent tokens are and no more: among 128 of them that takes longer than a small study has.
SEQUENCE = {"gpt": 128, "bert": 16}
#: Sequences or images that are one of GPT's sequences' work.
EXAMPLES = {"gpt": 1, "bert": 8, "vit": 4}
PATCHES = (28 // PATCH) ** 2
CLASSES = 10
ARCHITECTURES = ("gpt", "bert", "vit")


@dataclass(frozen=True, slots=True)
class Size:
    """Size of a network; the feed-forward part is four times hidden, heads are 16 wide."""

    layers: int
    hidden: int

    @property
    def heads(self) -> int:
        """Number of heads."""
        return self.hidden // 16

    def spec(self) -> dict[str, int]:
        """The spec that asks for this size."""
        return {
            "layers": self.layers,
            "hidden": self.hidden,
            "heads": self.heads,
            "intermediate": 4 * self.hidden,
        }


class Linear(nn.Module):
    """y = x W + b, W ``(in, out)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class Block(nn.Module):
    """Attention and a feed-forward part, each around a residual sum."""

    def __init__(self, size: Size, *, causal: bool, post_norm: bool) -> None:
        super().__init__()
        hidden = size.hidden
        self.heads, self.causal, self.post_norm = size.heads, causal, post_norm
        self.norm_attention, self.norm_mlp = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query, self.key, self.value, self.output = (Linear(hidden, hidden) for _ in range(4))
        self.up, self.down = Linear(hidden, 4 * hidden), Linear(4 * hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.post_norm:
            x = self.norm_attention(x + self._attention(x))
            return self.norm_mlp(x + self._mlp(x))
        x = x + self._attention(self.norm_attention(x))
        return x + self._mlp(self.norm_mlp(x))

    def _attention(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, hidden = x.shape
        q, k, v = (
            part(x).reshape(batch, length, self.heads, hidden // self.heads).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, hidden))

    def _mlp(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x)))


class TextNetwork(nn.Module):
    """Token ids ``[batch, sequence]`` -> logits ``[batch, sequence, vocab]``; the head is the embedding."""

    def __init__(self, size: Size, sequence: int, *, causal: bool) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(VOCAB, size.hidden))
        self.positions = nn.Parameter(torch.empty(sequence, size.hidden))
        self.norm_first = None if causal else nn.LayerNorm(size.hidden)
        self.blocks = nn.ModuleList(Block(size, causal=causal, post_norm=not causal) for _ in range(size.layers))
        self.transform = None if causal else Linear(size.hidden, size.hidden)
        self.norm_last = nn.LayerNorm(size.hidden)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = F.embedding(tokens, self.tokens) + self.positions
        if self.norm_first is not None:
            x = self.norm_first(x)
        for block in self.blocks:
            x = block(x)
        if self.transform is not None:
            x = F.gelu(self.transform(x))
        return self.norm_last(x) @ self.tokens.T


class ImageNetwork(nn.Module):
    """Patches ``[batch, 49, 16]`` -> logits ``[batch, 10]``, read from a class token."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.patches = Linear(PATCH * PATCH, size.hidden)
        self.class_token = nn.Parameter(torch.empty(1, 1, size.hidden))
        self.positions = nn.Parameter(torch.empty(PATCHES + 1, size.hidden))
        self.blocks = nn.ModuleList(Block(size, causal=False, post_norm=False) for _ in range(size.layers))
        self.norm_last = nn.LayerNorm(size.hidden)
        self.head = Linear(size.hidden, CLASSES)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        first = self.class_token.expand(patches.shape[0], -1, -1)
        x = torch.cat([first, self.patches(patches)], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm_last(x)[:, 0])


def build(architecture: str, size: Size, *, deviation: float = 0.02, seed: int = 0) -> nn.Module:
    """A network with random weights: Normal(0, deviation²) matrices and tables, the residual writers / √(2 layers).

    Args:
        architecture: one of :data:`ARCHITECTURES`.
        size: of the network.
        deviation: standard deviation of the weights.
        seed: of the random numbers.
    """
    network = (
        ImageNetwork(size)
        if architecture == "vit"
        else TextNetwork(size, SEQUENCE[architecture], causal=architecture == "gpt")
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1:
                writes = name.endswith(("output.weight", "down.weight"))
                scale = deviation / (2 * size.layers) ** 0.5 if writes else deviation
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return network


def example(architecture: str, batch: int = 2) -> torch.Tensor:
    """An input of the right shape and type."""
    generator = torch.Generator().manual_seed(0)
    if architecture == "vit":
        return torch.randn(batch, PATCHES, PATCH * PATCH, generator=generator)
    return torch.randint(0, VOCAB, (batch, SEQUENCE[architecture]), generator=generator)


def export(network: nn.Module, architecture: str, path: Path) -> None:
    """Write the network as ONNX, the batch left open."""
    torch.onnx.export(
        network.eval(),
        (example(architecture),),
        str(path),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
