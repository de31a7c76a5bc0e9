"""One training run: a start, a schedule, a curve of validation losses."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from benchmarks.transfer.corpora import MASK, Images, Text
from benchmarks.transfer.networks import EXAMPLES, SEQUENCE

MASKED = 0.3  #: share of BERT's tokens: twice the usual, for a step tells twice as much then

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: AdamW, linear warm-up, cosine to a tenth of the peak, gradients clipped at norm 1.

    Attributes:
        steps: of the schedule. batch: examples a step. rate: peak learning rate.
        warm_up: share of the steps. weight_decay: on matrices and tables.
        evaluations: validation losses over the run, the last one at its end.
        validation: sequences of each, times :data:`EXAMPLES`.
        seed: of the batches (the start brings its own).
    """

    steps: int
    batch: int = 16
    rate: float = 2e-3
    warm_up: float = 0.1
    weight_decay: float = 0.05
    evaluations: int = 25
    validation: int = 256
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, …"""
        ramp = max(1, round(self.steps * self.warm_up))
        if step < ramp:
            return self.rate * (step + 1) / ramp
        done = (step - ramp) / max(1, self.steps - ramp)
        return self.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True, slots=True)
class Curve:
    """Validation losses of a run.

    Attributes:
        steps: after how many; 0 is the start itself.
        losses: mean cross-entropy in nats.
        seconds: wall time of the training steps alone.
    """

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    seconds: float


class Task:
    """Batches and the loss of an architecture."""

    def __init__(self, architecture: str, data: Text | Images, device: str = "cpu") -> None:
        self.architecture, self._data, self.device = architecture, data, device
        self._length = SEQUENCE.get(architecture, 0)

    def training_loss(self, network: nn.Module, batch: int, generator: torch.Generator) -> torch.Tensor:
        """Loss of a random batch."""
        if isinstance(self._data, Images):
            chosen = torch.randint(0, len(self._data.training), (batch,), generator=generator)
            return self._images(network, self._data.training[chosen], self._data.training_labels[chosen])
        starts = torch.randint(0, len(self._data.training) - self._length - 1, (batch,), generator=generator)
        return self._text(network, self._data.training, starts, generator)

    def inputs(self, count: int) -> NDArray[Any]:
        """Inputs of the network, evenly spaced in the training data."""
        if isinstance(self._data, Images):
            chosen = torch.linspace(0, len(self._data.training) - 1, count).long()
            return np.asarray(self._data.training[chosen].numpy())
        starts = torch.linspace(0, len(self._data.training) - self._length - 1, count).long()
        return np.asarray(self._data.training[starts[:, None] + torch.arange(self._length)].numpy())

    @torch.no_grad()
    def validation_loss(self, network: nn.Module, count: int) -> float:
        """Mean loss of the same ``count`` sequences, times :data:`EXAMPLES`, every time."""
        network.eval()
        generator = torch.Generator().manual_seed(1)
        losses = []
        count *= EXAMPLES[self.architecture]
        if isinstance(self._data, Images):
            for rows in torch.arange(min(count, len(self._data.validation))).split(500):
                loss = self._images(network, self._data.validation[rows], self._data.validation_labels[rows])
                losses.append(loss.item())
        else:
            tokens = len(self._data.validation)
            starts = torch.linspace(0, tokens - self._length - 2, min(count, tokens // self._length)).long()
            for part in starts.split(64):
                losses.append(self._text(network, self._data.validation, part, generator).item())
        network.train()
        return sum(losses) / len(losses)

    def _images(self, network: nn.Module, patches: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(network(patches.to(self.device)), labels.to(self.device))

    def _text(
        self, network: nn.Module, tokens: torch.Tensor, starts: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        rows = tokens[starts[:, None] + torch.arange(self._length + 1)]
        if self.architecture == "gpt":
            logits = network(rows[:, :-1].to(self.device))
            return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten().to(self.device))
        rows = rows[:, :-1]
        hidden = torch.rand(rows.shape, generator=generator) < MASKED
        logits = network(rows.masked_fill(hidden, MASK).to(self.device))
        return F.cross_entropy(logits[hidden.to(self.device)], rows[hidden].to(self.device))


def train(network: nn.Module, task: Task, recipe: Recipe) -> Curve:
    """Train in place and record the curve."""
    network.to(task.device).train()
    matrices = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.rate,
        betas=(0.9, 0.98),
    )
    generator = torch.Generator().manual_seed(recipe.seed)
    marks = sorted({round(recipe.steps * k / recipe.evaluations) for k in range(1, recipe.evaluations + 1)})
    steps, losses, seconds = [0], [task.validation_loss(network, recipe.validation)], 0.0
    began = time.perf_counter()
    for step in range(recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate_at(step)
        loss = task.training_loss(network, recipe.batch, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if step + 1 in marks:
            seconds += time.perf_counter() - began
            steps.append(step + 1)
            losses.append(task.validation_loss(network, recipe.validation))
            began = time.perf_counter()
    return Curve(tuple(steps), tuple(losses), seconds)
