"""Random numbers: what is drawn follows from the stream alone, not from the machine."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx._resample import arrays
from bot_onnx._resample.arrays import normal, stream, uniform


@pytest.mark.parametrize("draw", [normal, uniform])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_change_no_number(draw, dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_BLOCK", 1000)
    drawn = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        drawn.append(draw(stream(7, "s0", 2), (33, 101), dtype))
    assert drawn[0].dtype == dtype
    assert np.array_equal(*drawn)


def test_blocks_are_independent_standard_normal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_BLOCK", 10_000)
    blocks = normal(stream(0, "s", 0), (20, 10_000), "float64")
    assert abs(blocks.mean()) < 4 / np.sqrt(blocks.size)
    assert abs(blocks.std() - 1) < 4 / np.sqrt(2 * blocks.size)
    between = np.corrcoef(blocks) - np.eye(20)
    assert np.abs(between).max() < 5 / np.sqrt(10_000)  # none repeats another one


def test_one_stream_goes_on_and_others_are_others() -> None:
    rng = stream(0, "s", 0)
    drawn = [normal(rng, (50,), "float32"), normal(rng, (50,), "float32"), normal(stream(0, "s", 1), (50,), "float32")]
    assert len({array.tobytes() for array in drawn}) == 3
    assert np.array_equal(drawn[0], normal(stream(0, "s", 0), (50,), "float32"))


def test_nothing_to_draw() -> None:
    assert normal(stream(0, "s", 0), (0, 4), "float32").shape == (0, 4)
    assert uniform(stream(0, "s", 0), (), "float64").shape == ()
