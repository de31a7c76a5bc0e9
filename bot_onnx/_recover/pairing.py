"""What a student and its teacher have in common: inputs, outputs, layers."""

from __future__ import annotations

from bot_onnx._recover.losses import Pair, hidden_pairs
from bot_onnx._recover.network import Network
from bot_onnx._recover.types import Settings
from bot_onnx.errors import RecoverError


def check_ports(student: Network, teacher: Network) -> None:
    """Refuse two models that do not take the same inputs, or have no output in common."""
    ours, theirs = ({spec.name: spec for spec in network.inputs} for network in (student, teacher))
    odd = sorted(ours.keys() ^ theirs.keys())
    if odd:
        raise RecoverError(
            f"input {odd[0]!r} belongs to only one of the models: the teacher must be the student's source"
        )
    for name, spec in ours.items():
        other = theirs[name]
        if spec.dtype != other.dtype or len(spec.shape) != len(other.shape):
            raise RecoverError(
                f"input {name!r} is {spec.dtype} {list(spec.shape)} for the student and {other.dtype} "
                f"{list(other.shape)} for the teacher: the teacher must be the student's source"
            )
    if not set(student.outputs) & set(teacher.outputs):
        raise RecoverError(
            f"the models have no output in common ({', '.join(student.outputs[:3])}; {', '.join(teacher.outputs[:3])})"
            ": the teacher must be the student's source"
        )


def common_pairs(student: Network, teacher: Network, settings: Settings) -> tuple[list[Pair], list[str]]:
    """What is compared, and notes on chains of layers that are not."""
    common = [name for name in student.outputs if name in teacher.outputs]
    unknown = [name for name in settings.outputs if name not in common]
    if unknown:
        raise RecoverError(f"{unknown[0]!r} is no output of both models: they have {', '.join(common)} in common")
    pairs = [
        Pair(
            "output",
            name,
            name,
            name in student.logits & teacher.logits,
            name in student.words,
            name in student.chances & teacher.chances,
        )
        for name in common
        if name in settings.outputs or not settings.outputs
    ]
    if settings.hidden == 0:
        return pairs, []
    hidden = hidden_pairs(student.hidden, teacher.hidden)
    if hidden:
        return pairs + hidden, []
    return pairs, ["No hidden states are compared: the models have no chain of layers in common."]
