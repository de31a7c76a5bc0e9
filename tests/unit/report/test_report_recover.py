"""The report of a recovery, as a table and as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bot_onnx._recover.types import Compared, OutputQuality, Recovery, Settings
from bot_onnx._report.recover_report import recover_json, recover_report

RECOVERY = Recovery(
    output=Path("out.onnx"),
    student=Path("small.onnx"),
    teacher=Path("model.onnx"),
    settings=Settings(steps=1200, batch=32, seed=7),
    samples=9000,
    held_out=1000,
    tensors=40,
    parameters=123456,
    fixed={"mask": "a mask", "other": "a mask", "angles": "a table that follows from the sizes"},
    compared=(Compared("output", "logits", "logits", "KL divergence"), Compared("hidden", "h[1]", "h[2]", "squares")),
    loss=(2.5, 0.125),
    before=(OutputQuality("logits", 0.5, 0.9, 0.25, 1.5), OutputQuality("vector", similarity=0.1)),
    after=(OutputQuality("logits", 0.99, 0.02, 0.975, 0.05), OutputQuality("vector", similarity=0.8)),
    resumed=300,
    seconds=75.0,
    notes=("Something was seen.",),
)


def printed(recovery: Recovery = RECOVERY, width: int = 120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(recover_report(recovery))
    return console.export_text()


def test_everything_is_told_once_and_measures_that_were_not_taken_are_left_out() -> None:
    lines = printed().splitlines()
    text = "\n".join(lines)
    assert "1,200 of 32 samples, seed 7, taken up at step 300" in text and "2.5 -> 0.125" in text
    assert "2 tensors: a mask; 1 tensor: a table that follows from the sizes" in text
    rows = [line.split() for line in lines if line.startswith(("logits ", "vector "))]
    assert ["logits", "same", "largest", "logit", "25.0%", "97.5%"] in rows
    assert ["vector", "similarity", "of", "pairs,", "r", "0.1", "0.8"] in rows
    assert sum(row[0] == "vector" for row in rows) == 1
    assert any("h[1]" in line and "h[2]" in line for line in lines), "names are no markup"
    assert lines[-1].startswith("note: Something was seen.")


def test_early_stops_and_accumulated_batches_are_told() -> None:
    stopped = replace(
        RECOVERY,
        settings=Settings(steps=1200, batch=8, accumulate=4, validate_every=100, patience=1),
        validated=((100, 0.5), (200, 0.25), (300, 0.75)),
        stopped=300,
        written=200,
    )
    text = " ".join(printed(stopped).split())
    assert "1,200 of 4 x 8 samples" in text and "loss 0.75 at the end, lowest 0.25 after step 200;" in text
    assert "stopped after step 300, as it no longer improved; written: the weights after step 200" in text
    assert "validation" not in printed()


def test_the_json_has_every_field() -> None:
    data = json.loads(json.dumps(recover_json(RECOVERY), allow_nan=False))
    assert data.keys() == {field for field in Recovery.__dataclass_fields__}
    assert data["output"] == "out.onnx" and data["loss"] == [2.5, 0.125]
    assert data["settings"]["seed"] == 7 and data["settings"]["outputs"] == []
    assert data["before"][1] == {
        "output": "vector", "cosine": None, "error": None, "agreement": None, "divergence": None, "similarity": 0.1,
    }  # fmt: skip
