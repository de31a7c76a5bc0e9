"""What of a plan is worked out from weights or samples when it is carried out, in words."""

from __future__ import annotations

from bot_onnx._align import Alignment
from bot_onnx._surgery.types import Asked


def computed(alignment: Alignment, asked: Asked) -> tuple[str, ...]:
    """What the plan says of operators that are no closed formula of its sizes, in sentences."""
    if alignment.kind == "none":
        return taught(asked)
    where = "the source's weights and the samples" if alignment.looks else "the source's weights"
    operators = f"{alignment.kind}: the operators of every axis, from {where}"
    refitted = f"refit {alignment.refit}: what makes up for what goes, from the source's weights and the samples"
    return (operators, *((refitted,) if alignment.refit else ()), *taught(asked))


def taught(asked: Asked) -> tuple[str, ...]:
    """What is trained before the weights are made, in a sentence."""
    learned = asked.learned
    if learned is None:
        return ()
    blocks = ", blocks mixed," if learned["mix"] else ""
    return (
        f"learned: the operators of every axis and of the layers{blocks} in {learned['steps']} steps of "
        f"{learned['batch']} samples at a rate of {learned['rate']:g} (data SHA-256 {learned['data_sha256'][:12]}…)",
    )
