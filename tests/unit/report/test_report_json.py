"""The JSON forms: every field, valid for every parser, with the answers that a script needs."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from bot_onnx._reasons import Reason, Why
from bot_onnx._report.json_report import inspection_json, plan_json, result_json, verify_json
from bot_onnx._report.values import plain
from bot_onnx._structure import Dim
from bot_onnx._surgery.proven import Promise
from bot_onnx._surgery.types import Plan
from bot_onnx.errors import said
from tests.report_samples import inspected, plan, report, resized


def test_an_inspection_says_what_can_be_resized() -> None:
    data = json.loads(json.dumps(inspection_json(inspected()), allow_nan=False))
    dims = data["structure"]["dims"]
    assert set(dims["d0"]) == {field.name for field in fields(Dim)} | {"resizable", "reason"}
    assert dims["d0"]["resizable"] is True and dims["d0"]["reason"] is None
    assert dims["d1"]["resizable"] is False and dims["d1"]["reason"] == "taps of a kernel"
    blocks, tail = data["structure"]["chains"]
    assert (blocks["resizable"], blocks["reason"]) == (True, None)
    assert (tail["resizable"], tail["reason"]) == (False, said(Reason(Why.STAGES, sizes=((8, 4), (4, 2)))))
    assert data["inputs"] == [["image", "FLOAT", ["batch", 3, 224, 224]]]


def test_a_plan_keeps_all_its_fields() -> None:
    data = plan_json(plan())
    assert data["shrinks"] is True
    for field in fields(Plan):
        assert field.name in data
    del data["shrinks"], data["proof"]["seconds"]  # a saved plan is the same every time
    saved = json.loads(plan().to_json())
    assert len(saved.pop("checksum")) == 64
    assert data == saved


def test_a_result_says_where_it_is_and_whether_it_passed() -> None:
    data = json.loads(json.dumps(result_json(resized(384, 24)), allow_nan=False))
    assert data["output"] == "small.onnx" and data["seconds"] == 2.5
    assert data["report"]["passed"] is True and data["plan"]["shrinks"] is False
    assert verify_json(report(failing=True))["passed"] is False


def test_promises_and_how_far_they_are_kept_are_fields() -> None:
    promise = Promise(kept=True, factors=(("logits", 2.0),))
    told = {"kept": True, "why": "", "factors": [["logits", 2.0]], "outputs": None, "way": ""}
    assert plan_json(replace(plan(), promise=promise))["promise"] == told
    data = verify_json(replace(report(), promise=promise))
    assert data["promise"] == told
    assert {"agrees", "tolerance", "differing", "factor", "nonfinite", "nonfinite_alike"} <= data["comparisons"][
        0
    ].keys()
    assert verify_json(report())["promise"] is None


def test_numbers_that_json_lacks_are_null() -> None:
    assert verify_json(report())["comparisons"][1]["cosine"] is None
    assert plain([float("inf"), np.float32(0.5), np.int64(3), Path("a/b"), None, True]) == [
        None,
        0.5,
        3,
        "a/b",
        None,
        True,
    ]
    assert plain(np.float64("nan")) is None


def test_a_value_without_a_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no form in JSON"):
        plain(replace(resized(), output=object()))  # type: ignore[arg-type]
