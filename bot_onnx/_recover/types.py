"""What a recovery is asked for and what it found, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from bot_onnx import _html

Array = NDArray[Any]
Feeds = dict[str, Array]
OutputLoss = Literal["auto", "divergence", "squares", "similarity"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
OUTPUT_LOSSES: tuple[OutputLoss, ...] = ("auto", "divergence", "squares", "similarity")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the student is trained.

    Attributes:
        steps: number of updates.
        batch: samples an update.
        rate: largest learning rate (after the warm-up, before the cosine decay).
        seed: of the split, the order of the samples, and everything else that is drawn.
        hidden: weight of the hidden-state loss beside the output loss; 0: outputs alone.
        output_loss: how outputs are compared; see :mod:`bot_onnx._recover.losses`.
        temperature: that both sides' logits are divided by for the KL divergence.
        held_out: part of the samples that is kept for the quality report.
        threads: of PyTorch and onnxruntime; 0: as many as there are processors.
        outputs: names of the outputs that are learnt; empty: all that both models have.
        accumulate: batches whose gradients, weighted by their samples, make one update.
        validate_every: updates between two times that the loss is measured on samples held out; 0: never.
        patience: times in a row that this loss does not improve, after which the training ends; 0: it never does.
        keep_best: the weights with the lowest such loss are the ones written.
        device: where it computes; see :func:`bot_onnx._recover.place.find_place`.
        precision: of its products; see there.
    """

    steps: int = 1000
    batch: int = 32
    rate: float = 1e-3
    seed: int = 0
    hidden: float = 1.0
    output_loss: OutputLoss = "auto"
    temperature: float = 2.0
    held_out: float = 0.1
    threads: int = 0
    outputs: tuple[str, ...] = ()
    accumulate: int = 1
    validate_every: int = 0
    patience: int = 0
    keep_best: bool = False
    device: Device = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True, slots=True)
class OutputQuality:
    """How close one output of the student is to the teacher's, on held-out samples.

    Attributes:
        output: name.
        cosine: mean cosine similarity over the last axis; None where the shapes differ.
        error: mean squared difference over the variance of the teacher's output; None where the shapes differ.
        agreement: part of the rows whose largest logit or probability is at the same place; None for other outputs.
        divergence: mean KL divergence from the teacher in nats; None where these are neither logits nor probabilities.
        similarity: correlation of the cosine similarities of all pairs of samples with those that the teacher sees;
            None for logits and probabilities, and where there are too few samples.
    """

    output: str
    cosine: float | None = None
    error: float | None = None
    agreement: float | None = None
    divergence: float | None = None
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One pair of values that the loss compares: what it is, and how."""

    what: str
    student: str
    teacher: str
    how: str


#: Fields of :class:`OutputQuality` that a table shows, with its words.
MEASURES = {
    "agreement": "same largest logit",
    "divergence": "KL (nats)",
    "similarity": "similarity of pairs, r",
    "cosine": "cosine",
    "error": "error / variance",
}


@dataclass(frozen=True, slots=True, repr=False)
class Recovery:
    """A finished recovery.

    Attributes:
        output: the file that was written.
        student, teacher: the files that it came from.
        settings: of the training.
        samples, held_out: numbers of samples trained on and kept apart.
        tensors, parameters: number of initializers that were trained, and of their elements.
        fixed: float initializers that were left as they are, and why.
        compared: what the loss compares.
        loss: at the first step and, as a mean over the last tenth of the steps, at the end.
        before, after: quality on the held-out samples.
        resumed: step at which an earlier run was taken up; 0 where there was none.
        seconds: the whole took, earlier runs not included.
        notes: what else was found, in sentences.
        validated: steps done and the loss on samples held out, as often as it was measured.
        stopped: step after which the training ended before its last one, as it did not improve; None: it did not.
        written: steps after which the written weights were the model's.
        device: that it was trained on, in words. precision: of its products: ``fp32``, ``bf16`` or ``fp16``.
        teacher_device: that the teacher answered on: ``cpu`` or ``cuda``.
        weight_types: of the trained weights in the file, before and after: ``FLOAT``, ``FLOAT16``, ``BFLOAT16``. They
            were trained as float32 in any case.
        processes: that shared every batch.
    """

    output: Path
    student: Path
    teacher: Path
    settings: Settings
    samples: int
    held_out: int
    tensors: int
    parameters: int
    fixed: dict[str, str]
    compared: tuple[Compared, ...]
    loss: tuple[float, float]
    before: tuple[OutputQuality, ...]
    after: tuple[OutputQuality, ...]
    resumed: int
    seconds: float
    notes: tuple[str, ...] = field(default=())
    validated: tuple[tuple[int, float], ...] = ()
    stopped: int | None = None
    written: int | None = None
    device: str = "cpu"
    precision: str = "fp32"
    teacher_device: str = "cpu"
    weight_types: tuple[str, ...] = ("FLOAT",)
    processes: int = 1

    def measured(self) -> Iterator[tuple[str, str, float | None, float | None]]:
        """Output, field of its quality, and its value before and after; what neither has is left out."""
        for before, after in zip(self.before, self.after, strict=True):
            for name in MEASURES:
                values = getattr(before, name), getattr(after, name)
                if values != (None, None):
                    yield before.output, name, *values

    def __repr__(self) -> str:
        """The file, and how the loss fell, in a line."""
        first, last = self.loss
        return f"<Recovery {self.output}: {self.settings.steps} steps, loss {first:.4g} -> {last:.4g}>"

    def _repr_html_(self) -> str:
        facts = {"output": self.output, "student": self.student, "teacher": self.teacher,
                 "samples": f"{self.samples:,} trained on, {self.held_out:,} held out", "steps": self.settings.steps,
                 "trained": f"{self.tensors:,} tensors, {self.parameters:,} numbers",
                 "loss": f"{self.loss[0]:.4g} -> {self.loss[1]:.4g}", "seconds": f"{self.seconds:.1f}"}  # fmt: skip
        compared = ((entry.what, entry.student, entry.teacher, entry.how) for entry in self.compared)
        quality = ((output, MEASURES[name], *values) for output, name, *values in self.measured())
        return _html.block(
            _html.facts("Recovery", facts),
            _html.table("Compared", ("what", "student", "teacher", "by"), compared),
            _html.table("On the samples held out", ("output", "measure", "before", "after"), quality),
            *(_html.facts("", {"note": note}) for note in self.notes),
        )
