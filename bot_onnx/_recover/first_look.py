"""What is looked at before the first step: that the student is the file's network, and which weights can learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bot_onnx._recover.agreement import apart, tolerance_of
from bot_onnx._recover.dataset import Dataset, Indices
from bot_onnx._recover.network import Frozen, Network
from bot_onnx._recover.ranks import Share
from bot_onnx._recover.student import Student
from bot_onnx._recover.trainable import Trainable
from bot_onnx._recover.training import Training, mask_of
from bot_onnx._recover.types import Feeds
from bot_onnx.errors import RecoverError


def check_student(
    ours: dict[str, Any], feeds: Feeds, written: Frozen, network: Network, constant: frozenset[str]
) -> None:
    """Hold a student in PyTorch against onnxruntime: as it is written, or both in float32 where that is half precision.

    Args:
        ours: what PyTorch makes of a batch.
        feeds: the batch. constant: names of its inputs that are the same for all samples.
        written: the student's file in onnxruntime.
        network: the student.

    Raises:
        RecoverError: the student computes something else in PyTorch than in onnxruntime, or its float32 form does than
            its file, by more than half precision rounds.
    """
    theirs = written.run(feeds, constant)
    wide = written.of(network.wide(written.outputs)).run(feeds, constant) if network.halves else theirs
    for name, wanted in wide.items():
        told = apart(ours[name].detach().numpy(), wanted)
        if told:
            raise RecoverError(
                f"{network.path} computes something else in PyTorch than in onnxruntime: {name!r} {told}; train in the "
                "framework (`bot-onnx export`)"
            )
    for name, wanted in theirs.items() if network.halves else ():
        told = apart(wide[name], wanted, tolerance_of(network.halves))
        if told:
            raise RecoverError(
                f"{network.path} computes something else in half precision than in float32, as which it would be "
                f"trained: {name!r} {told}; convert it to float32 and train that"
            )


def check_shared(
    student: Student, ours: dict[str, Any], data: Dataset, chosen: Indices, shares: Sequence[Share]
) -> None:
    """See that a batch's values are those of its shares, one behind the other: else processes cannot share it.

    Args:
        student: in PyTorch. ours: what it makes of the batch.
        data: the samples. chosen: those of the batch. shares: of all processes.

    Raises:
        RecoverError: a value is another one.
    """
    for share in shares:
        part = student.look(data.feeds(chosen[share.start : share.end], chosen))
        for name, found in part.items():
            whole = ours[name]
            alike = whole.dim() > 0 and len(whole) == share.count
            if not alike or apart(found.detach().numpy(), whole[share.start : share.end].detach().numpy()):
                raise unshared(name)


def unshared(what: str) -> RecoverError:
    """The error of a model whose values for a batch are not those of its samples."""
    return RecoverError(
        f"{what!r} of a batch is not made of its samples' one by one (they are not along the first axis, or depend on "
        "each other), so that several processes cannot share a batch: start one"
    )


def leave_idle(training: Training, targets: dict[str, Any], chosen: Indices, trainable: Trainable) -> None:
    """Leave the weights alone that no gradient reaches (nothing that is compared depends on them), and say so."""
    student, objective, data = training.student, training.objective, training.data
    feeds = data.feeds(chosen)
    objective(student(feeds), targets, mask_of(data, feeds)).backward()
    for name, parameter in student.parameters.items():
        if parameter.grad is None:
            parameter.requires_grad_(False)
            trainable.fixed[name] = "no gradient of the loss reaches it"
    for parameter in (*student.parameters.values(), *objective.parameters.values()):
        parameter.grad = None
    if not any(parameter.requires_grad for parameter in student.parameters.values()):
        raise RecoverError(
            "no gradient of the loss reaches any weight of the student, so that nothing could be trained"
        )
