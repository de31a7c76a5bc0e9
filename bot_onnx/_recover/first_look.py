"""What is looked at before the first step: that the student is the file's network, and which weights can learn."""

from __future__ import annotations

from typing import Any

from bot_onnx._recover.agreement import apart
from bot_onnx._recover.dataset import Indices
from bot_onnx._recover.network import Network
from bot_onnx._recover.trainable import Trainable
from bot_onnx._recover.training import Training, mask_of
from bot_onnx._recover.types import Array
from bot_onnx.errors import RecoverError


def check_equal(ours: dict[str, Any], theirs: dict[str, Array], network: Network) -> None:
    """Refuse a student that computes something else in PyTorch than in onnxruntime."""
    for name, wanted in theirs.items():
        told = apart(ours[name].detach().numpy(), wanted)
        if told:
            raise RecoverError(
                f"{network.path} computes something else in PyTorch than in onnxruntime: {name!r} {told}; train in the "
                "framework (`bot-onnx export`)"
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
