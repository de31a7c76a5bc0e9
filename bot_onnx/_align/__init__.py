"""Alignment: turn the source's tensors into functionally equivalent ones that resample better.

Trained weights are white along every axis that a filter runs over; an alignment first brings what is alike together
(``permute``) or what matters to the front (``rotate``). ``plan_alignment`` decides without a weight, ``align`` looks at
the weights, ``Aligned.read`` gives the aligned tensors one by one.
"""

from bot_onnx._align.choice import align, find_facts, plan_alignment
from bot_onnx._align.choosing import Choosing
from bot_onnx._align.gradients import Gradients
from bot_onnx._align.types import KINDS, Aligned, Alignment, Facts, Kind, Tensors

__all__ = [
    "KINDS",
    "Aligned",
    "Alignment",
    "Choosing",
    "Facts",
    "Gradients",
    "Kind",
    "Tensors",
    "align",
    "find_facts",
    "plan_alignment",
]
