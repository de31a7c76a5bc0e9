"""Random numbers: what is drawn follows from the stream alone, not from the machine, and is distributed as it says."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
import pytest

from bot_onnx._resample import draws
from bot_onnx._resample.draws import normal, stream, uniform


@pytest.mark.parametrize("draw", [normal, uniform])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_number(draw, dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_BLOCK", 1000)
    drawn = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        drawn.append(draw(stream(7, "s0", 2), (33, 101), dtype))
    assert drawn[0].dtype == dtype
    assert len({array.tobytes() for array in drawn}) == 1


def test_blocks_are_independent_standard_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_BLOCK", 10_000)
    blocks = normal(stream(0, "s", 0), (20, 10_000), "float64")
    assert abs(blocks.mean()) < 4 / np.sqrt(blocks.size)
    assert abs(blocks.std() - 1) < 4 / np.sqrt(2 * blocks.size)
    between = np.corrcoef(blocks) - np.eye(20)
    assert np.abs(between).max() < 5 / np.sqrt(10_000)  # none repeats another one


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_draws_have_the_normal_distribution(dtype: str) -> None:
    """Moments, and how many lie in each of two thousand intervals and beyond."""
    count = 3_000_000
    drawn = normal(stream(3, "s", 1), (count,), dtype).astype(np.float64)
    wanted = {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96)}  # mean and variance of the powers
    for power, (mean, variance) in wanted.items():
        assert abs((drawn**power).mean() - mean) < 4.5 * sqrt(variance / count)
    edges = np.concatenate([[-np.inf], np.linspace(-4.5, 4.5, 2001), [np.inf]])
    below = np.array([0.5 * (1 + erf(edge / sqrt(2))) for edge in edges])
    expected = count * np.diff(below)
    found = np.array([*np.histogram(drawn, edges[1:-1])[0]])
    found = np.concatenate([[(drawn < -4.5).sum()], found, [(drawn > 4.5).sum()]])
    squares = (found - expected) ** 2 / expected
    spread = sqrt((2 + 1 / expected).sum())  # of counts that are small as well
    assert abs(squares.sum() - len(expected)) < 5 * spread
    following = np.corrcoef(drawn[:-1], drawn[1:])[0, 1]
    assert abs(following) < 4.5 / sqrt(count)


def test_a_deviation_multiplies() -> None:
    for dtype in ("float32", "float64"):
        one = normal(stream(0, "s", 0), (3, 100_000), dtype)
        np.testing.assert_allclose(normal(stream(0, "s", 0), (3, 100_000), dtype, 0.02), 0.02 * one, rtol=1e-6)


def test_what_a_seed_draws_stays_so() -> None:
    """A plan that is run again, elsewhere, by another version, makes the same weights."""
    wanted = {
        ("normal", "float32"): [0.041460827, 0.527118444, 0.60710597, 0.924237669, 1.07503283],
        ("normal", "float64"): [0.346675621, 1.18910098, 0.575085939, -0.0320649359, 0.522300449],
        ("uniform", "float32"): [0.0394641161, 0.416247487, 0.417374849, 0.942295849, 0.695217848],
        ("uniform", "float64"): [0.416247508, 0.852185793, 0.80646134, 0.383357261, 0.616023656],
    }
    for (draw, dtype), first in wanted.items():
        drawn = {"normal": normal, "uniform": uniform}[draw](stream(5, "s1", 3), (600_000,), dtype)
        np.testing.assert_allclose(drawn[[0, 1, 2, 300_000, 599_999]], first, rtol=1e-6)


def test_one_stream_goes_on_and_others_are_others() -> None:
    rng = stream(0, "s", 0)
    drawn = [normal(rng, (50,), "float32"), normal(rng, (50,), "float32"), normal(stream(0, "s", 1), (50,), "float32")]
    assert len({array.tobytes() for array in drawn}) == 3
    assert np.array_equal(drawn[0], normal(stream(0, "s", 0), (50,), "float32"))


def test_nothing_to_draw() -> None:
    assert normal(stream(0, "s", 0), (0, 4), "float32").shape == (0, 4)
    assert normal(stream(0, "s", 0), (1,), "float32").shape == (1,)
    assert normal(stream(0, "s", 0), (), "float64").shape == ()
    assert uniform(stream(0, "s", 0), (), "float64").shape == ()
