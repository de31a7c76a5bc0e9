"""Small networks for sequences of features: a Conformer, and recurrent ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.coverage.builders.inputs import examples
from benchmarks.coverage.builders.vision import Single
from benchmarks.coverage.case import Built

MELS = 16
CLASSES = 10
HEAD_DIM = 16


def _features(module: nn.Module) -> Built:
    tensors, axes = examples({"features": ["float", "batch", "time", MELS]})
    return Built(Single(module).eval(), tensors, ("features",), axes)


class Convolution(nn.Module):
    """The convolution module of a Conformer: gated pointwise, depthwise over time, batch norm, pointwise."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.widen = nn.Conv1d(hidden, 2 * hidden, 1)
        self.depthwise = nn.Conv1d(hidden, hidden, 7, padding=3, groups=hidden)
        self.statistics = nn.BatchNorm1d(hidden)
        self.narrow = nn.Conv1d(hidden, hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, hidden) -> the same."""
        y = nn.functional.glu(self.widen(self.norm(x).transpose(1, 2)), dim=1)
        y = nn.functional.silu(self.statistics(self.depthwise(y)))
        result: Tensor = self.narrow(y).transpose(1, 2)
        return result


class Attention(nn.Module):
    """Multi-head self-attention over time."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, hidden) -> the same."""
        x = self.norm(x)
        q, k, v = (
            linear(x).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) / HEAD_DIM**0.5, dim=-1)
        result: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return result


def _feed_forward(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden), nn.SiLU(), nn.Linear(2 * hidden, hidden))


class Block(nn.Module):
    """One Conformer block: half a feed-forward part, attention, convolution, half a feed-forward part, a norm."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first, self.second = _feed_forward(hidden), _feed_forward(hidden)
        self.attention, self.convolution = Attention(hidden), Convolution(hidden)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, hidden) -> the same."""
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        result: Tensor = self.norm(x + 0.5 * self.second(x))
        return result


class Conformer(nn.Module):
    """Convolutional subsampling by four, then Conformer blocks, then a linear head."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.subsample = nn.ModuleList(
            [nn.Conv2d(1, hidden // 4, 3, 2, padding=1), nn.Conv2d(hidden // 4, hidden // 4, 3, 2, padding=1)]
        )
        self.project = nn.Linear(hidden // 4 * (MELS // 4), hidden)
        self.blocks = nn.ModuleList([Block(hidden) for _ in range(layers)])
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, time, mels) -> (batch, time / 4, classes)."""
        x = features.unsqueeze(1)
        for convolution in self.subsample:
            x = torch.relu(convolution(x))
        x = self.project(x.transpose(1, 2).flatten(2))
        for block in self.blocks:
            x = block(x)
        result: Tensor = self.head(x)
        return result


def conformer(hidden: int, layers: int) -> Built:
    """A Conformer of ``layers`` blocks."""
    return _features(Conformer(hidden, layers))


class Recurrent(nn.Module):
    """A linear map, two recurrent layers, a linear head."""

    def __init__(self, kind: str, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.first = nn.Linear(MELS, hidden)
        self.recurrent = getattr(nn, kind)(hidden, hidden, 2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), CLASSES)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, time, mels) -> (batch, time, classes)."""
        result: Tensor = self.head(self.recurrent(torch.relu(self.first(features)))[0])
        return result


def recurrent(kind: str, hidden: int, bidirectional: bool = False) -> Built:
    """An LSTM, GRU or RNN of two layers."""
    return _features(Recurrent(kind, hidden, bidirectional))
