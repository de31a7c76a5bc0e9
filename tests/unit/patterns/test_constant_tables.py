"""Large tables are known as such from either side; few numbers of large weights show that they are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bot_onnx._patterns.constant_tables import _is_surely_none, _is_table


def basis(length: int, frequencies: int, window: str) -> NDArray[np.float32]:
    """Cosines and sines, a row each, under a window."""
    at = np.arange(length)
    angles = 2 * np.pi * np.outer(np.arange(frequencies), at) / length
    open_ = {
        "none": np.ones(length),
        "hann": np.hanning(length),
        "padded": np.pad(np.hanning(length // 2), length // 4),
    }
    waves = np.concatenate([np.cos(angles), np.sin(angles)]) * open_[window][:length]
    return np.where(np.abs(waves) < 1e-9, 0, waves).astype(np.float32)  # no rounding for the sine of π n


@pytest.mark.parametrize("window", ["none", "hann"])
@pytest.mark.parametrize(("length", "frequencies"), [(400, 201), (512, 257), (2048, 300), (1024, 80)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_fourier_basis_is_not_passed_over(window: str, length: int, frequencies: int, turned: bool) -> None:
    table = basis(length, frequencies, window)
    table = np.ascontiguousarray(table.T) if turned else table
    assert _is_table(table)
    assert not _is_surely_none(table)


@pytest.mark.parametrize("turned", [False, True])
def test_a_window_that_is_open_in_the_middle_alone(turned: bool) -> None:
    table = basis(512, 257, "padded")
    table = np.ascontiguousarray(table.T) if turned else table
    assert _is_surely_none(table) <= (not _is_table(table))


def test_a_filterbank_and_a_selection_are_not_passed_over() -> None:
    bands = np.maximum(0, 1 - np.abs(np.arange(400)[:, None] / 10 - np.arange(40))).astype(np.float32)
    for table in (bands, np.eye(300, dtype=np.float32)):
        assert _is_table(table) and not _is_surely_none(table)


@pytest.mark.parametrize("shape", [(768, 768), (300, 40), (2048, 16)])
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_passed_over(shape: tuple[int, int], seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    assert _is_surely_none(weights) and not _is_table(weights)


def test_few_pages_of_weights_are_looked_at() -> None:
    class Seen(np.ndarray[Any, Any]):
        numbers = 0

        def __getitem__(self, key: Any) -> Any:
            part = np.asarray(self)[key]
            Seen.numbers += part.size
            return part

    weights = np.random.default_rng(0).standard_normal((2000, 1000)).astype(np.float32)
    assert _is_surely_none(weights.view(Seen))
    assert Seen.numbers < weights.size // 100
