"""Which channels a turn leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.folding import Folding, Norm
from bot_onnx._align.following import outliers


@dataclass(frozen=True)
class Held:
    """A tensor in memory."""

    values: NDArray[Any]

    def numpy(self) -> NDArray[Any]:
        return self.values


def folding(*scales: str) -> Folding:
    norms = tuple(Norm(name, None, True, True, False) for name in scales)
    return SimpleNamespace(standing=norms)  # type: ignore[return-value]


def scale(size: int, **others: float) -> Held:
    values = np.ones(size)
    for channel, value in others.items():
        values[int(channel[1:])] = value
    return Held(values)


def test_channels_whose_scale_stands_out_in_any_norm_are_pinned() -> None:
    tensors = {"a": scale(16, c3=4.0, c7=0.2, c9=1.5), "b": scale(16, c5=0.5, c7=0.3, c9=0.7)}
    assert list(outliers(folding("a", "b"), tensors, 16)) == [3, 5, 7]  # channel 9 is too near


def test_at_most_a_quarter_of_the_target_is_pinned_the_furthest_first() -> None:
    tensors = {"a": scale(16, c1=2.0, c2=9.0, c3=0.1, c4=3.0)}
    assert list(outliers(folding("a"), tensors, 8)) == [2, 3]
    assert list(outliers(folding(), {}, 8)) == []
