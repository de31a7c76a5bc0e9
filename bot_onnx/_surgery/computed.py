"""What of a plan is worked out from weights or samples when it is carried out, in words."""

from __future__ import annotations

from bot_onnx._align import Alignment
from bot_onnx._surgery.kept_layers import Staying
from bot_onnx._surgery.types import Asked
from bot_onnx.errors import ResampleError


def computed(alignment: Alignment, asked: Asked) -> tuple[str, ...]:
    """What the plan says of operators that are no closed formula of its sizes, in sentences."""
    if alignment.kind == "none":
        return taught(asked)
    where = "the source's weights and the samples" if alignment.looks else "the source's weights"
    operators = f"{alignment.kind}: the operators of every axis, from {where}"
    refitted = f"refit {alignment.refit}: what makes up for what goes, from the source's weights and the samples"
    return (operators, *((refitted,) if alignment.refit else ()), *taught(asked))


def refuse_idle_samples(alignment: Alignment, staying: Staying) -> None:
    """Refuse samples that say nothing of what is planned.

    Raises:
        ResampleError: with the reasons.
    """
    if alignment.looks or staying.looked:
        return
    why = "; ".join((*staying.notes, *alignment.notes)) or f"alignment '{alignment.kind}' does not look at them"
    raise ResampleError(
        "calibration samples say in which basis a hidden size shrinks, and which layers, heads, neurons and channels "
        f"stay, and here they would say nothing: {why}; drop --calibration"
    )


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
