"""Which channels a turn leaves alone."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.basis import find_basis
from bot_onnx._align.folding import Folding, Norm
from bot_onnx._align.following import outliers


@dataclass(frozen=True)
class Held:
    """A tensor in memory."""

    values: NDArray[Any]

    def numpy(self) -> NDArray[Any]:
        return self.values


def folding(*standing: str, tied: tuple[str, ...] = ()) -> Folding:
    names = {"standing": standing, "tied_to_stream": tied}
    found = {name: tuple(Norm(scale, None, True, True, False) for scale in scales) for name, scales in names.items()}
    return SimpleNamespace(**found)  # type: ignore[return-value]


def scale(size: int, **others: float) -> Held:
    values = np.ones(size)
    for channel, value in others.items():
        values[int(channel[1:])] = value
    return Held(values)


EVEN = np.eye(16)


def test_channels_whose_scale_stands_out_in_any_norm_are_pinned() -> None:
    tensors = {"a": scale(16, c3=4.0, c7=0.2, c9=1.5), "b": scale(16, c5=0.5, c7=0.3, c9=0.7)}
    assert list(outliers(folding("a", "b"), tensors, 16, EVEN)) == [3, 5, 7]  # channel 9 is too near


def test_at_most_a_quarter_of_the_target_is_pinned_the_furthest_first() -> None:
    tensors = {"a": scale(16, c1=2.0, c2=9.0, c3=0.1, c4=3.0)}
    assert list(outliers(folding("a"), tensors, 8, EVEN)) == [2, 3]
    assert list(outliers(folding(), {}, 8, EVEN)) == []
    assert list(outliers(folding(tied=("a",)), tensors, 8, EVEN)) == [2, 4]
    assert list(outliers(folding("a", tied=("a",)), tensors, 12, EVEN)) == [2, 3, 4]


def test_a_tied_head_wants_channels_left_alone_by_what_the_stream_carries_there() -> None:
    """Channel 1 is off as far as 2, and 4 further, where there is next to nothing; 3 has the other sign."""
    tensors = {"a": scale(16, c1=1.1, c2=1.1, c3=-1.0, c4=1.5)}
    loud = np.diag([1e4 if channel == 2 else 1e-6 if channel == 4 else 1.0 for channel in range(16)])
    assert list(outliers(folding(tied=("a",)), tensors, 12, loud)) == [2, 3]


def test_a_channel_is_turned_where_leaving_it_alone_would_lose_more() -> None:
    tensors, faint = {"a": scale(16, c2=1.01)}, np.diag([0.5 if channel == 2 else 1.0 for channel in range(16)])
    assert list(outliers(folding(tied=("a",)), tensors, 15, faint)) == []  # it goes, and with it the least
    assert list(outliers(folding(tied=("a",)), tensors, 16, faint)) == [2]  # all stay
    assert list(outliers(folding(tied=("a",)), {"a": scale(16, c2=9.0)}, 15, faint)) == [2]


def test_pins_make_up_for_a_head_that_is_tied() -> None:
    """The turned stream with γ' is near the stream with γ, where the mean of γ is far from it."""
    rng = np.random.default_rng(0)
    stream = rng.standard_normal((2000, 24))
    stream[:, 5] *= 30
    gamma = rng.uniform(0.95, 1.05, 24)
    gamma[[5, 9]] = 1.6, -1.0
    moments, tensors = stream.T @ stream / len(stream), {"a": Held(gamma)}

    def error(pinned: NDArray[np.intp]) -> float:
        basis = find_basis(moments, 24, centred=False, pinned=pinned)
        followed = (basis.write * basis.read) @ gamma
        back = ((stream @ basis.write.T) * followed) @ basis.read
        return float(((back - stream * gamma) ** 2).sum() / ((stream * gamma) ** 2).sum())

    pinned = outliers(folding(tied=("a",)), tensors, 24, moments)
    assert set(pinned) >= {5, 9}
    assert error(pinned) < 1e-3 < error(np.zeros(0, dtype=np.intp))
