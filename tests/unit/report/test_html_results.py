"""What notebooks and prompts show of a quantisation, a recovery and a sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot_onnx._quantise.types import Closeness, Left, Quantised, Spent
from bot_onnx._recover.types import Compared, OutputQuality, Recovery, Settings
from bot_onnx._sweep.types import Combination, Outcome, Sweep, Trial
from tests.report_samples import report

EVIL = "<script>alert('x')</script>"
QUANTISED = Quantised(
    source="model.onnx",
    output=Path("small.onnx"),
    kind="int8",
    scheme="weights in 8 bits",
    calibrated=32,
    compared_on="the samples",
    made_up=False,
    tensors=7,
    numbers=12345,
    left=(Left("small", "", 9, 90), Left("op", "Einsum", 1, 640)),
    closeness=(Closeness("logits", 0.5, 20.0, 0.025, 0.9, 10), Closeness("boxes", None, 3.0, None, None, 0)),
    costs=(Spent("float", 4096, 0.002), Spent("quantised", 1024, None, 0.9, "it did not run")),
    notes=("Something was seen.",),
    report=report(),
    seconds=3.0,
)
RECOVERY = Recovery(
    output=Path("out.onnx"),
    student=Path("small.onnx"),
    teacher=Path("model.onnx"),
    settings=Settings(steps=1200),
    samples=9000,
    held_out=1000,
    tensors=40,
    parameters=123456,
    fixed={},
    compared=(Compared("output", "logits", "answers", "KL divergence"),),
    loss=(2.5, 0.125),
    before=(OutputQuality("logits", agreement=0.25), OutputQuality("vector", cosine=0.5)),
    after=(OutputQuality("logits", agreement=0.975), OutputQuality("vector", cosine=0.75)),
    resumed=0,
    seconds=75.0,
    notes=("Something was seen.",),
)
SWEEP = Sweep(
    source="model.onnx",
    study=Path("sweep.db"),
    score="accuracy",
    minimize=False,
    trials=(
        Trial(1, Combination("half", "bot", {"wavelet": "haar"}), Outcome("scored", 0.75, None, 2048, 512)),
        Trial(0, Combination("tiny", "crop"), Outcome("refused", reason="no such size")),
    ),
    resumed=0,
    output=None,
    seconds=9.0,
    notes=("Something was seen.",),
)


def cells(html: str) -> list[list[str]]:
    """Texts of the cells, row by row."""
    rows = html.split("<tr>")[1:]
    return [[cell.split(">", 1)[1].split("</t")[0] for cell in row.split("<t")[1:] if ">" in cell] for row in rows]


@pytest.mark.parametrize("shown", [QUANTISED, RECOVERY, SWEEP], ids=["quantised", "recovery", "sweep"])
def test_tables_are_escaped_and_hold_the_notes(shown: Quantised | Recovery | Sweep) -> None:
    html = replace(shown, notes=(*shown.notes, EVIL))._repr_html_()
    assert html.startswith("<div>") and html.endswith("</div>") and "<script" not in html
    assert "&lt;script&gt;" in html and ["note", "Something was seen."] in [row[:2] for row in cells(html)]


def test_a_quantisation() -> None:
    rows = cells(QUANTISED._repr_html_())
    assert ["calibrated on", "32"] in rows and ["quantised", "7 tensors, 12,345 numbers"] in rows
    assert ["op", "Einsum", "1", "640"] in [row[:4] for row in rows]
    assert ["logits", "0.5", "20.0", "0.025", "0.9"] in [row[:5] for row in rows]
    assert ["boxes", "", "3.0", "", ""] in [row[:5] for row in rows]
    assert ["quantised", "1024", "", "0.9", "it did not run"] in [row[:5] for row in rows]
    assert "made-up inputs" not in QUANTISED._repr_html_()
    assert "made-up inputs" in replace(QUANTISED, made_up=True)._repr_html_()
    assert repr(QUANTISED).startswith(
        "<Quantised small.onnx: int8, 7 tensors, at most 2.50% of an output's scale off; "
    )


def test_a_recovery() -> None:
    rows = [row[:4] for row in cells(RECOVERY._repr_html_())]
    assert ["output", "logits", "answers", "KL divergence"] in rows
    assert ["logits", "same largest logit", "0.25", "0.975"] in rows and ["vector", "cosine", "0.5", "0.75"] in rows
    assert repr(RECOVERY) == "<Recovery out.onnx: 1200 steps, loss 2.5 -> 0.125>"


def test_a_sweep() -> None:
    rows = [row[:7] for row in cells(SWEEP._repr_html_())]
    assert ["half", "bot wavelet=haar", "scored", "0.75", "2048", "512", ""] in rows
    assert ["tiny", "crop", "refused", "", "", "", "no such size"] in rows
    assert repr(SWEEP) == "<Sweep of model.onnx: 1 of 2 combinations scored; best 0.75: half, bot wavelet=haar>"
    none = replace(SWEEP, trials=SWEEP.trials[1:])
    assert repr(none) == "<Sweep of model.onnx: 0 of 1 combinations scored>"
