"""The distillation that operators are trained by: all that is known here of :mod:`bot_onnx._recover`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot_onnx._onnxfile.reader import Source
from bot_onnx._recover.data import DataOptions, Origin
from bot_onnx._recover.extras import converter
from bot_onnx._recover.jobs import Job
from bot_onnx._recover.savepoint import Savepoint
from bot_onnx._recover.training import mask_of
from bot_onnx._recover.types import Settings


class Distillation:
    """A start that learns from its source: the losses of its weights, batch by batch.

    Args:
        start: the resized model as its method makes it. source: what it was made from.
        data: that both see. options: how they are read.
        settings: of the training.

    Raises:
        RecoverError: the start cannot be trained, or the data do not fit. DataError: they cannot be read.
        MissingRuntimeError: the extra is not installed.

    Attributes:
        shapes: by name, of the initializers that can be trained.
        maps: torch parameters that are trained along and thrown away.
        data_sha256: of what was read. samples: number of those trained on.
        notes: what was found, in sentences.
    """

    def __init__(self, start: Source, source: Source, data: Path, options: DataOptions, settings: Settings) -> None:
        converter()
        job = Job([start, source], Origin.of(data), settings, options)
        self._training = job.training(Savepoint(start.path.with_suffix(".unused"), {}), float("inf"))
        self._own = {name: weight.detach() for name, weight in self._training.student.parameters.items()}
        self.shapes = {name: tuple(weight.shape) for name, weight in self._own.items()}
        self.maps = list(self._training.objective.parameters.values())
        self.data_sha256, self.samples = job.data.digest(), len(job.training_indices)
        self.notes = (*job.data.notes, *job.notes, *self._training.objective.notes)

    def loss(self, step: int, weights: Mapping[str, Any]) -> Any:
        """The loss of a step's batch with some weights exchanged, a torch number that gradients go through."""
        training = self._training
        chosen = training.batches.at(step)
        feeds = training.data.feeds(chosen)
        training.student.parameters = {**self._own, **weights}
        targets = training.place.tensors(training.teacher.answers(chosen, feeds))
        return training.objective(training.student(feeds), targets, mask_of(training.data, feeds))
