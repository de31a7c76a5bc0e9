"""What of a value is a fill, and what is the network's own."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx._runs.fills import least_fill


@pytest.mark.parametrize(
    ("values", "least"),
    [
        ([0.5, -1e9], 1e9),
        ([0.5, -1e4, -9990], 9990),
        ([30.0, -65504], 65504),
        ([0.5, -1e9, -2e9, -np.inf, np.nan], 1e9),  # two masks, one on the other
        ([0.5, 20, -1e3], np.inf),  # not far enough from 20
        ([1e-9, 1.0], np.inf),  # small ones are no fills, nor is what stands beside them
        ([1e3, 3e3, 1e4], np.inf),  # nothing stands beside these
        ([0.0, 0.0], np.inf),
        ([], np.inf),
    ],
)
def test_a_fill_is_far_from_all_the_rest(values: list[float], least: float) -> None:
    assert least_fill(np.array(values)) == least


def test_all_runs_count() -> None:
    assert least_fill(np.array([0.5, 0.1]), np.array([-1e9, 3.0])) == 1e9
    assert least_fill(np.array([1e9, 1e8]), np.array([0.5])) == 1e8
