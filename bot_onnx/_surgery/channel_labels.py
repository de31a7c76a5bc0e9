"""The words of :mod:`bot_onnx._surgery.new_channels`: what new channels of a value hold, and norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

WideningLaw = Literal["zeros", "means"]

#: What the new channels of a value hold. ``weight``: it is (made of) weights. ``zero``, ``mean``: by themselves.
#: ``any``: whatever. ``average``: no channels, the mean over them. ``squares``: squares of zeros. ``spread``: what is
#: made of their mean. ``scaled``: a norm's scale over the spread. ``same``: what every channel holds (a mask).
State = Literal["weight", "zero", "mean", "any", "average", "squares", "spread", "scaled", "same"]


@dataclass(frozen=True, slots=True)
class Epsilon:
    """A norm's epsilon: input ``slot`` of ``node``, or its attribute ``slot``."""

    node: ir.Node
    slot: int | str


@dataclass(slots=True)
class Label:
    """What is known of a value: its state, the names of the weights it is made of, the norm it stands right behind."""

    state: State
    names: tuple[str, ...] = ()
    norm: int = -1  # of a value right behind a norm: its number


@dataclass(slots=True)
class WalkedNorm:
    """A norm: names of its scale and bias, and whether its result is (part of) a stream."""

    scale: tuple[str, ...]
    bias: str | None = None
    streams: bool = False
