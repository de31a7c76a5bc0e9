"""The training itself: AdamW with warm-up and cosine decay, saved now and then, the same on every run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bot_onnx._recover.dataset import Batches, Dataset
from bot_onnx._recover.extras import torch
from bot_onnx._recover.losses import Objective
from bot_onnx._recover.savepoint import Savepoint
from bot_onnx._recover.signals import Deferred
from bot_onnx._recover.student import Student
from bot_onnx._recover.teacher import Teacher
from bot_onnx._recover.types import Array, Feeds, Settings
from bot_onnx.errors import RecoverError

WARM_UP = 0.05  # part of the steps
WEIGHT_DECAY = 0.01
LARGEST_NORM = 1.0

#: Told after every step: number of steps done, in all, and the loss.
Progress = Callable[[int, int, float], None]


@dataclass(slots=True)
class Training:
    """Everything that takes part.

    Attributes:
        student, teacher, objective: who learns what from whom.
        data, batches: the samples, and which of them belong to each step.
        settings: of the training.
        savepoint: where the training is kept.
        save_every: seconds between two times that it is.
    """

    student: Student
    teacher: Teacher
    objective: Objective
    data: Dataset
    batches: Batches
    settings: Settings
    savepoint: Savepoint
    save_every: float

    def run(self, state: dict[str, Any] | None, progress: Progress | None) -> list[float]:
        """Train from a saved state, or from the start.

        Returns:
            The loss of every step.

        Raises:
            RecoverError: the loss is no number any more.
        """
        optimiser = self._optimiser()
        losses: list[float] = []
        if state is not None:
            losses = self._restore(state, optimiser)
        saved = time.monotonic()
        with Deferred() as signals:
            for step in range(len(losses), self.settings.steps):
                losses.append(self._step(step, optimiser))
                if progress is not None:
                    progress(step + 1, self.settings.steps, losses[-1])
                if signals.arrived is not None or time.monotonic() - saved >= self.save_every:
                    self._save(losses, optimiser)
                    saved = time.monotonic()
                signals.deliver()
            if state is None or len(losses) > len(state["losses"]):  # should the writing fail, nothing is lost
                self._save(losses, optimiser)
            signals.deliver()
        return losses

    def _step(self, step: int, optimiser: Any) -> float:
        chosen = self.batches.at(step)
        feeds = self.data.feeds(chosen)
        targets = as_tensors(self.teacher.answers(chosen, feeds))
        loss = self.objective(self.student(feeds), targets, mask_of(self.data, feeds))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RecoverError(
                f"the loss is {value} at step {step + 1}: train at a lower --rate than {self.settings.rate:g}, and "
                f"look at the data ({self.savepoint.path.name} holds the last checkpoint, if it was written)"
            )
        factor = rate_at(step, self.settings.steps)
        for group in optimiser.param_groups:
            group["lr"] = self.settings.rate * factor
        optimiser.zero_grad()
        loss.backward()
        torch().nn.utils.clip_grad_norm_(list(self.student.parameters.values()), LARGEST_NORM)
        optimiser.step()
        return value

    def _optimiser(self) -> Any:
        weights = [weight for weight in self.student.parameters.values() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
            {"params": list(self.objective.parameters.values()), "weight_decay": 0.0},
        ]
        return torch().optim.AdamW([group for group in groups if group["params"]], lr=self.settings.rate)

    def _save(self, losses: list[float], optimiser: Any) -> None:
        self.savepoint.save(
            {
                "losses": losses,
                "weights": {name: weight.detach() for name, weight in self.student.parameters.items()},
                "maps": {name: weight.detach() for name, weight in self.objective.parameters.items()},
                "optimiser": optimiser.state_dict(),
            }
        )

    def _restore(self, state: dict[str, Any], optimiser: Any) -> list[float]:
        """Take up a saved state; returns the losses so far.

        Raises:
            RecoverError: something is missing in it, or has another shape.
        """
        settings = [set(group) for group in optimiser.param_groups]
        try:
            losses = [float(loss) for loss in state["losses"]]
            with torch().no_grad():
                for kept, parameters in (("weights", self.student.parameters), ("maps", self.objective.parameters)):
                    for name, parameter in parameters.items():
                        _same_shape(state[kept][name], parameter)
                        parameter.copy_(state[kept][name])
            optimiser.load_state_dict(state["optimiser"])
            if [set(group) for group in optimiser.param_groups] != settings:
                raise ValueError("settings of the optimiser")
            for parameter, kept in optimiser.state.items():
                float(kept["step"])
                for moment in ("exp_avg", "exp_avg_sq"):
                    _same_shape(kept[moment], parameter)
        except Exception as error:  # whatever a value of another kind makes PyTorch meet
            raise self.savepoint.unreadable() from error
        return losses


def _same_shape(kept: Any, parameter: Any) -> None:
    if kept.shape != parameter.shape:
        raise ValueError(f"{tuple(kept.shape)} for {tuple(parameter.shape)}")


def rate_at(step: int, steps: int) -> float:
    """Factor of the learning rate: linear from 0 to 1, then half a cosine down to 0 (Loshchilov & Hutter 2017)."""
    rising = max(1, round(steps * WARM_UP))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def as_tensors(values: Mapping[str, Array]) -> dict[str, Any]:
    """Arrays as float32 torch tensors."""
    library = torch()
    return {name: library.from_numpy(array.astype("float32", copy=False)) for name, array in values.items()}


def mask_of(data: Dataset, feeds: Feeds) -> Any:
    """The mask of a batch as a float32 torch tensor ``[batch, tokens]``, or None."""
    return None if data.mask is None else torch().from_numpy(feeds[data.mask].astype("float32"))
