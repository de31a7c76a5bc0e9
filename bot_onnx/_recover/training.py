"""The training itself: AdamW with warm-up and cosine decay, saved now and then, the same on every run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._recover.course import Course, pieces, restored
from bot_onnx._recover.dataset import Batches, Dataset, Indices
from bot_onnx._recover.extras import torch
from bot_onnx._recover.log import Teller
from bot_onnx._recover.losses import Objective
from bot_onnx._recover.place import Place, on_cpu, widened
from bot_onnx._recover.ranks import ALONE, Ranks
from bot_onnx._recover.savepoint import Savepoint
from bot_onnx._recover.signals import Deferred
from bot_onnx._recover.student import Student, moved_parameter
from bot_onnx._recover.teacher import Teacher
from bot_onnx._recover.types import Array, Feeds, Settings
from bot_onnx.errors import RecoverError

WARM_UP = 0.05  # part of the steps
WEIGHT_DECAY = 0.01
LARGEST_NORM = 1.0

#: Told after every step: number of steps done, in all, and the loss.
Progress = Callable[[int, int, float], None]
#: Told before that of a step after which the loss on samples held out was measured: number of steps done, that loss.
Validated = Callable[[int, float], None]


@dataclass(slots=True)
class Training:
    """Everything that takes part.

    Attributes:
        student, teacher, objective: who learns what from whom.
        data, batches: the samples, and which of them belong to each step.
        settings: of the training.
        savepoint: where the training is kept.
        save_every: seconds between two times that it is.
        validation: batches of samples held out, on which the loss is measured in between.
        chunk: samples that the student takes at a time; None: any number.
        course: what was seen.
        place: where it computes; :meth:`to` goes there.
        ranks: the processes that share every batch; the first one saves.
    """

    student: Student
    teacher: Teacher
    objective: Objective
    data: Dataset
    batches: Batches
    settings: Settings
    savepoint: Savepoint
    save_every: float
    validation: Sequence[Indices] = ()
    chunk: int | None = None
    course: Course = field(default_factory=Course)
    place: Place = field(default_factory=Place)
    ranks: Ranks = ALONE
    _scaler: Any = None

    def to(self, place: Place) -> None:
        """Compute elsewhere, and see on the first batch whether it can be done there.

        Raises:
            RecoverError: an op fails there, or gives no numbers.
        """
        self.place = place
        if not place.on_cpu:
            self.student.to(place.device)
            maps = self.objective.parameters
            maps.update({name: moved_parameter(parameter, place.device) for name, parameter in maps.items()})
        if place == Place():
            return
        chosen = pieces(self.batches.at(0), self.settings, self.chunk)[0]
        try:
            with torch().no_grad():
                loss = self.ranks.total(float(self._loss(chosen)))
        except RecoverError:  # another process
            raise
        except Exception as error:  # whatever an op raises
            with place.autocast():
                failing = self.student.failing(self.data.feeds(chosen))
            raise self._elsewhere(f"its {failing or 'loss'} fails there: {one_line(error)}") from error
        if not math.isfinite(loss):
            raise self._elsewhere(f"the loss there is {loss} before the first step")

    def _elsewhere(self, what: str) -> RecoverError:
        return RecoverError(
            f"the student cannot be trained on {self.place.told()}: {what}; take --precision fp32"
            + ("" if self.place.on_cpu else ", or --device cpu")
        )

    def run(
        self,
        state: dict[str, Any] | None,
        progress: Progress | None,
        tellers: Sequence[Teller] = (),
        validated: Validated | None = None,
    ) -> Course:
        """Train from a saved state, or from the start, until the last step or until nothing improves any more.

        Args:
            state: that was saved, or None.
            progress, validated: see there.
            tellers: get a row of every step.

        Raises:
            RecoverError: the loss is no number any more.
        """
        optimiser = self._optimiser()
        self._scaler = self.place.scaler()
        if state is not None:
            self.course = self._restore(state, optimiser)
        self.ranks.level(self._parameters())
        course, settings = self.course, self.settings
        begun, saved = len(course.losses), time.monotonic()
        with Deferred() as signals:
            while len(course.losses) < settings.steps and not course.is_over(settings):
                course.losses.append(self._step(len(course.losses), optimiser))
                found = self._validate() if course.is_due(settings) else None
                self._tell(found, progress, tellers, validated)
                number = self.ranks.largest(signals.arrived)  # all stop behind the same step
                if number or time.monotonic() - saved >= self.save_every:
                    self._save(optimiser)
                    saved = time.monotonic()
                signals.deliver(number)
            if state is None or len(course.losses) > begun:  # should the writing fail, nothing is lost
                self._save(optimiser)
            signals.deliver(signals.arrived)
        return course

    def weights(self) -> dict[str, Array]:
        """Those that are written: the last, or the best where these are kept."""
        if self.course.best is None:
            return self.student.weights()
        return {name: weight.detach().cpu().numpy().copy() for name, weight in self.course.best.items()}

    def _tell(
        self, found: float | None, progress: Progress | None, tellers: Sequence[Teller], validated: Validated | None
    ) -> None:
        done, loss = len(self.course.losses), self.course.losses[-1]
        last = done == self.settings.steps or self.course.is_over(self.settings)
        rate = self.settings.rate * rate_at(done - 1, self.settings.steps)
        for teller in tellers:
            teller.row(done, last, {"loss": loss, "validation_loss": found, "learning_rate": rate})
        if found is not None and validated is not None:
            validated(done, found)
        if progress is not None:
            progress(done, self.settings.steps, loss)

    def _validate(self) -> float:
        """The mean loss over the batches held out, taken up in the course."""
        with torch().no_grad():
            losses = [self.ranks.total(float(self._loss(chosen))) for chosen in self.validation]
        value = sum(losses) / len(losses)
        if not math.isfinite(value):
            raise self._diverged(f"the loss on samples held out is {value} after step {len(self.course.losses)}")
        self.course.add(value, self.student.parameters if self.settings.keep_best else None)
        return value

    def _loss(self, chosen: Indices) -> Any:
        """What the share of a batch contributes to its loss."""
        share = self.ranks.share(len(chosen), self.chunk or 1)
        own = chosen[share.start : share.end]
        feeds = self.data.feeds(own, chosen)
        targets = self.place.tensors(self.teacher.answers(own, feeds))
        with self.place.autocast():
            found = self.student(feeds)
        mask = mask_of(self.data, feeds)
        return self.objective(widened(found), targets, None if mask is None else mask.to(self.place.device), share)

    def _step(self, step: int, optimiser: Any) -> float:
        chosen = self.batches.at(step)
        optimiser.zero_grad()
        value = 0.0
        for piece in pieces(chosen, self.settings, self.chunk):
            loss = self._loss(piece) * (len(piece) / len(chosen))
            value += self.ranks.total(float(loss.detach()))
            if not math.isfinite(value):
                raise self._diverged(f"the loss is {value} at step {step + 1}")
            self._scaler.scale(loss).backward()
        self.ranks.add_gradients(self._parameters())
        factor = rate_at(step, self.settings.steps)
        for group in optimiser.param_groups:
            group["lr"] = self.settings.rate * factor
        self._scaler.unscale_(optimiser)
        torch().nn.utils.clip_grad_norm_(list(self.student.parameters.values()), LARGEST_NORM)
        self._scaler.step(optimiser)
        self._scaler.update()
        return value

    def _diverged(self, what: str) -> RecoverError:
        return RecoverError(
            f"{what}: train at a lower --rate than {self.settings.rate:g}{self._wider()}, and look at the data "
            f"({self.savepoint.path.name} holds the last checkpoint, if it was written)"
        )

    def _wider(self) -> str:
        return "" if self.place.precision == "fp32" else ", or with --precision fp32"

    def _parameters(self) -> list[Any]:
        """Everything that is trained: weights, and maps that are thrown away."""
        weights = (weight for weight in self.student.parameters.values() if weight.requires_grad)
        return [*weights, *self.objective.parameters.values()]

    def _optimiser(self) -> Any:
        weights = [weight for weight in self.student.parameters.values() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
            {"params": list(self.objective.parameters.values()), "weight_decay": 0.0},
        ]
        return torch().optim.AdamW([group for group in groups if group["params"]], lr=self.settings.rate)

    def _save(self, optimiser: Any) -> None:
        if not self.ranks.leads:
            return
        state = {
            **self.course.state(),
            "weights": dict(self.student.parameters),
            "maps": dict(self.objective.parameters),
            "optimiser": optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        self.savepoint.save(on_cpu(state))  # what another device goes on with, too

    def _restore(self, state: dict[str, Any], optimiser: Any) -> Course:
        """Take up a saved state; returns the course so far.

        Raises:
            RecoverError: something is missing in it, or has another shape.
        """
        settings = [set(group) for group in optimiser.param_groups]
        try:
            course = restored(state, self.student.parameters if self.settings.keep_best else None)
            with torch().no_grad():
                for kept, parameters in (("weights", self.student.parameters), ("maps", self.objective.parameters)):
                    for name, parameter in parameters.items():
                        _same_shape(state[kept][name], parameter)
                        parameter.copy_(state[kept][name])
            optimiser.load_state_dict(state["optimiser"])
            if [set(group) for group in optimiser.param_groups] != settings:
                raise ValueError("settings of the optimiser")
            self._scaler.load_state_dict(state["scaler"])
            for parameter, kept in optimiser.state.items():
                float(kept["step"])
                for moment in ("exp_avg", "exp_avg_sq"):
                    _same_shape(kept[moment], parameter)
        except Exception as error:  # whatever a value of another kind makes PyTorch meet
            raise self.savepoint.unreadable() from error
        return course


def _same_shape(kept: Any, parameter: Any) -> None:
    if kept.shape != parameter.shape:
        raise ValueError(f"{tuple(kept.shape)} for {tuple(parameter.shape)}")


def rate_at(step: int, steps: int) -> float:
    """Factor of the learning rate: linear from 0 to 1, then half a cosine down to 0 (Loshchilov & Hutter 2017)."""
    rising = max(1, round(steps * WARM_UP))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def mask_of(data: Dataset, feeds: Feeds) -> Any:
    """The mask of a batch as a float32 torch tensor ``[batch, tokens]``, or None."""
    return None if data.mask is None else torch().from_numpy(feeds[data.mask].astype("float32"))
