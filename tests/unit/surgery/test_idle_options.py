"""What was asked of a method and changes nothing is said in the plan."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import bot_onnx
from bot_onnx._resample import all_methods

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


@pytest.mark.parametrize(
    ("method", "spec", "options", "idle"),
    [
        ("bot", {"hidden": 32}, {"details": "gaussian", "noise_scale": 3.0}, ["details", "noise_scale"]),
        ("bot", {"hidden": 32}, {"level": 1, "mode": "zero"}, []),
        ("bot", {"hidden": 128}, {"details": "zero", "noise_scale": 3.0}, ["noise_scale"]),
        ("bot", {"hidden": 128}, {"details": "gaussian", "noise_scale": 3.0}, []),
        ("bot", {"hidden": 128}, {"noise_scale": 3.0}, []),  # details are in-band by default
        ("bot", {"layers": 12}, {"noise_scale": 3.0}, ["noise_scale"]),
        ("bot", {"layers": 12}, {"details": "gaussian", "layer_axis": "haar", "noise_scale": 3.0}, []),
        ("bot", {"layers": 12}, {"wavelet": "db2", "layer_axis": "haar"}, ["wavelet"]),
        ("bot", {"layers": 12}, {"wavelet": "db2", "layer_axis": "wavelet"}, []),
        ("bot", {"layers": 4}, {"wavelet": "db2", "layer_axis": "wavelet"}, ["wavelet"]),  # 6 is no power of 2 times 4
        ("bot", {"layers": 3}, {"wavelet": "db2", "layer_axis": "wavelet"}, []),
        ("bot", {"layers": 3}, {"convention": "value"}, ["convention"]),
        ("bot", {"layers": 3}, {"convention": "std-fresh"}, []),
        ("bot", {"hidden": 32}, {"layer_axis": "even"}, ["layer_axis"]),
        ("bot", {"layers": 3, "layers_by": "even"}, {"layer_axis": "even"}, []),
        ("bot", {"layers": {"repeat": [[1, 2], [0, 1], [2, 6]]}}, {"layer_axis": "even"}, ["layer_axis"]),
        ("bot", {"layers": {"repeat": [[0, 6], [0, 6]]}}, {"fresh_readers": 0.1}, ["fresh_readers"]),
        ("bot", {"hidden": 128}, {"tie_correction": False}, ["tie_correction"]),
        ("bot", {"head_dim": 32}, {"head_dim_correction": False}, []),
        ("bot", {"heads": 8}, {"head_dim_correction": False}, ["head_dim_correction"]),
        ("bot", {"layers": 12}, {"qkv": "apart"}, ["qkv"]),
        ("front", {"layers": 3}, {"depth": "repeat", "qkv": "one"}, ["depth"]),  # one matrix has one mean
        ("front", {"layers": 12}, {"depth": "repeat"}, []),
        ("front", {"layers": {"repeat": [[0, 6], [0, 6]]}}, {"depth": "random"}, ["depth"]),
        ("front", {"layers": 3}, {"depth": "repeat", "preset": "published", "keep_ratio": 0.5}, []),
        ("ws", {"hidden": 32}, {"layer_axis": "even"}, ["layer_axis"]),
        ("ws", {"layers": 3}, {"layer_axis": "first"}, []),
        ("net2net", {"layers": 12}, {"mapping": "cyclic", "noise": 0.1, "shares": "unequal"},
         ["mapping", "shares", "noise"]),
        ("net2net", {"hidden": 128}, {"mapping": "cyclic", "noise": 0.1, "shares": "unequal"}, []),
        ("bert2bert", {"layers": 12}, {"variant": "fpi", "mapping": "cyclic"}, ["variant", "mapping"]),
        ("scratch", {"layers": 3}, {"std": 0.1, "truncated": True, "residual_scaling": False}, []),
    ],
)  # fmt: skip
def test_what_has_nothing_to_do_is_said(
    method: str, spec: dict[str, Any], options: dict[str, Any], idle: list[str]
) -> None:
    plan = bot_onnx.open(DIGITS).plan(bot_onnx.ResizeRequest(spec, method=method, options=options, align="none"))
    assert [note for note in plan.notes if "nothing to do" in note] == [f"Option {o} has nothing to do." for o in idle]


@pytest.mark.parametrize("align", ["auto", "none"])
def test_no_alignment_is_blamed_for_what_it_does_not_do(align: str) -> None:
    request = bot_onnx.ResizeRequest(
        {"hidden": 32}, options={"details": "gaussian", "convention": "ortho"}, align=align
    )
    told = {note.split()[1]: note for note in bot_onnx.open(DIGITS).plan(request).notes if "nothing to do" in note}
    assert told["details"] == "Option details has nothing to do."
    assert ("convention" in told) is (align == "auto")
    assert align == "none" or "--align none" in told["convention"]


def test_every_option_says_what_it_needs() -> None:
    """Or is one that all that a method does depends on."""
    always = {"front": {"keep_ratio"}, "ws": {"preset"}}
    for name, method in all_methods().items():
        assert set(method.Options.model_fields) - set(method.needs) == always.get(name, set()), name
        assert set(method.needs) <= set(method.Options.model_fields), name


def test_where_none_was_asked_for_nothing_is_said() -> None:
    plan = bot_onnx.open(DIGITS).plan({"hidden": 32})
    assert plan.align == "rotate" and not any(SAYS in note for note in plan.notes)
