"""What a finished recovery reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bot_onnx._recover.quality import got_worse
from bot_onnx._recover.training import Training
from bot_onnx._recover.types import OutputQuality, Recovery

if TYPE_CHECKING:
    from bot_onnx._recover.jobs import Job


def recovery(
    job: Job,
    training: Training,
    quality: tuple[tuple[OutputQuality, ...], tuple[OutputQuality, ...]],
    resumed: int,
    out: Path,
) -> Recovery:
    """The report of a finished training, but for its time.

    Args:
        job, training: that are done. quality: before and after. resumed: steps that an earlier run did.
        out: the file that was written.
    """
    trained = [parameter for parameter in training.student.parameters.values() if parameter.requires_grad]
    before, after = quality
    course, losses = training.course, training.course.losses
    loss = losses[0], float(np.mean(losses[-max(1, len(losses) // 10) :]))
    return Recovery(
        output=out,
        student=job.networks[0].path,
        teacher=job.networks[1].path,
        settings=job.settings,
        samples=len(job.training_indices),
        held_out=len(job.held_out),
        tensors=len(trained),
        parameters=sum(parameter.numel() for parameter in trained),
        fixed=job.trainable.fixed,
        compared=training.objective.compared,
        loss=loss,
        before=before,
        after=after,
        resumed=resumed,
        seconds=0.0,
        notes=(
            *job.data.notes,
            *job.notes,
            *training.objective.notes,
            *_warnings(before, after, loss, job.settings.rate),
        ),
        validated=tuple(course.validated),
        stopped=len(losses) if len(losses) < job.settings.steps else None,
        written=len(losses) if course.best is None else course.validated[course.lowest][0],
        device=training.place.told(),
        precision=training.place.precision,
        teacher_device=training.teacher.device,
        weight_types=job.types,
        processes=job.ranks.world,
    )


def _warnings(
    before: Sequence[OutputQuality], after: Sequence[OutputQuality], loss: tuple[float, float], rate: float
) -> list[str]:
    """A sentence an output that is worse: training that went up goes up further with more of it."""
    first, last = loss
    way_out = "train for more steps" if last <= first else f"the loss rose, so train at a lower rate than {rate:g}"
    worse = got_worse(before, after)
    return [f"Output {name!r} is further from the teacher than before: {way_out}." for name in worse]
