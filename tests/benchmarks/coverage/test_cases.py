"""Every case says what it promises: names, specs that parse, builders that exist, targets that differ."""

from __future__ import annotations

import importlib.util
from collections import Counter

import pytest

from benchmarks.coverage.case import EXPORTERS, PUBLISHED, SUITES, TARGETS, Case
from benchmarks.coverage.cases import load_cases
from bot_onnx._target import TargetSpec

CASES = load_cases(SUITES)


def test_names_are_unique_within_a_suite() -> None:
    assert max(Counter((case.suite, case.name) for case in CASES).values()) == 1


@pytest.mark.parametrize("suite", ["listed", "timm", "transformers"])
def test_every_suite_has_its_cases(suite: str) -> None:
    assert len([case for case in CASES if case.suite == suite]) >= 38


def test_listed_cases_have_all_targets_built_natively() -> None:
    for case in CASES:
        if case.suite == "listed":
            assert set(case.targets) == set(TARGETS)
            assert all(target.native is not None for target in case.targets.values()), case.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.suite}-{case.name}")
def test_case_is_whole(case: Case) -> None:
    assert case.suite in SUITES
    assert set(case.targets) <= set(TARGETS) and set(case.exporters) <= {*EXPORTERS, PUBLISHED}
    for target in case.targets.values():
        spec = dict(target.spec)
        if spec.get("layers") == "half":
            del spec["layers"]
        TargetSpec.parse(spec)
        assert target.native != case.source
    recipes = [case.source, *(target.native for target in case.targets.values() if target.native)]
    assert all(importlib.util.find_spec(recipe.builder.partition(":")[0]) for recipe in recipes)
