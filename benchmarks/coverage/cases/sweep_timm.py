"""One network of every family of timm, as :mod:`benchmarks.coverage.survey` found them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.coverage.case import Case, Recipe, Target

_BUILDER = "benchmarks.coverage.builders.timm_models:build"
_FAMILIES = Path(__file__).with_name("timm_families.json")


def _case(entry: dict[str, Any]) -> Case:
    def recipe(arguments: dict[str, Any]) -> Recipe:
        return Recipe(_BUILDER, {"model": entry["model"], "image": entry["image"], "arguments": arguments})

    native = recipe(entry["half"]) if entry["half"] else None
    spec: dict[str, Any] = {"width": 0.5}
    if native is None or isinstance(entry["half"].get("depth"), int):
        spec["layers"] = "half"
    return Case(
        entry["family"], "timm", recipe(entry["arguments"]), {"smaller": Target(spec, native)}, ("torchscript17",)
    )


CASES = [_case(entry) for entry in json.loads(_FAMILIES.read_text()) if "problem" not in entry]
