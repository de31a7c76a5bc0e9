"""The resampling benchmark: what it compares, when it stops calling, what it writes."""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import resample

SHAPE = (4, 32, 48)


def test_one_measurement_of_each_direction_end_to_end() -> None:
    timings = [
        resample.measure(SHAPE, wavelet, direction, runs=2, threads=1, patience=5.0, ptwt=False)
        for wavelet in ("haar", "bior6.8")
        for direction in ("shrink", "grow")
    ]
    for timing in timings:
        assert timing.error <= resample.TOLERANCE
        assert {name: len(runs) for name, runs in timing.runs.items()} == {"bot-onnx": 2, "copy": 2, "pywt": 2}
    document = json.loads(json.dumps(resample.as_json(timings, 1)))
    row = document["measurements"][1]
    assert row["direction"] == "grow"
    assert row["ratios"]["pywt"] == pytest.approx(row["median_seconds"]["pywt"] / row["median_seconds"]["bot-onnx"])
    assert row["ratios"]["ptwt"] is None
    assert document["environment"]["threads"] == 1
    console = Console(width=160, record=True, quiet=True)
    console.print(resample.table(timings, 1))
    assert resample.table(timings, 1).row_count == 4


def test_both_directions_end_at_the_listed_sizes() -> None:
    half = tuple(n // 2 for n in SHAPE)
    assert resample.resampler(SHAPE, "db2", "shrink")(np.ones(SHAPE, np.float32)).shape == half
    assert resample.resampler(SHAPE, "db2", "grow")(np.ones(half, np.float32)).shape == SHAPE


def test_a_wrong_result_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = resample.resampler(SHAPE, "db2", "shrink")

    def wrong(x: NDArray[np.float32]) -> NDArray[np.float32]:
        y = right(x)
        y[-1, -1, -1] += 1e-3
        return y

    monkeypatch.setattr(resample, "resampler", lambda *_: wrong)
    with pytest.raises(ArithmeticError, match=r"differs from PyWavelets by 0\.001"):
        resample.measure(SHAPE, "db2", "shrink", runs=1, threads=1, patience=5.0, ptwt=False)


def test_what_takes_too_long_runs_once() -> None:
    calls: list[str] = []

    def slow() -> None:
        calls.append("slow")
        time.sleep(0.03)

    times = resample.take_turns({"fast": lambda: calls.append("fast"), "slow": slow}, runs=3, patience=0.02)
    assert calls == ["fast", "slow", "fast", "fast", "fast"]
    assert (len(times["fast"]), len(times["slow"])) == (3, 1)


def test_medians_and_ratios() -> None:
    timing = resample.Timing(SHAPE, "haar", "shrink", 0.0, {"bot-onnx": (1.0, 9.0, 2.0), "pywt": (30.0,)})
    assert timing.median("bot-onnx") == 2.0
    assert timing.ratio("pywt", "bot-onnx") == 15.0
    assert timing.ratio("ptwt", "bot-onnx") is None


@pytest.mark.parametrize("text", ["12x768", "12x768x767", "0x2x2", "axbxc"])
def test_sizes_are_three_even_numbers(text: str) -> None:
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        resample._shape(text)
