"""What was asked of a method and changes nothing is said in the plan."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

import bot_onnx

DIGITS = Path(str(files("bot_onnx") / "demo" / "digits_vit.onnx"))
SAYS = "Option wavelet has nothing to do"


@pytest.mark.parametrize(
    ("spec", "align", "said"),
    [
        ({"hidden": 32}, None, True),  # a pre-norm network: turned, and cut
        ({"hidden": 32}, "none", False),
        ({"hidden": 32}, "permute", False),
        ({"hidden": 128}, None, False),
        ({"layers": 3}, None, True),
    ],
)
def test_a_wavelet_that_filters_nothing(spec: dict[str, int], align: str | None, said: bool) -> None:
    plan = bot_onnx.open(DIGITS).plan(bot_onnx.ResizeRequest(spec, options={"wavelet": "db2"}, align=align))
    notes = [note for note in plan.notes if note.startswith(SAYS)]
    assert bool(notes) is said
    assert not said or ("--align none" in notes[0]) is (plan.align != "none")


def test_where_none_was_asked_for_nothing_is_said() -> None:
    plan = bot_onnx.open(DIGITS).plan({"hidden": 32})
    assert plan.align == "rotate" and not any(SAYS in note for note in plan.notes)
