"""One network of every family of transformers, as :mod:`benchmarks.coverage.survey` found them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.coverage.case import Case, Recipe, Target
from benchmarks.coverage.cases.transformer import HUGGINGFACE

_FAMILIES = Path(__file__).with_name("transformers_families.json")


def _case(entry: dict[str, Any]) -> Case:
    def recipe(config: dict[str, Any]) -> Recipe:
        options = {"model": entry["model"], "config": config, "inputs": entry["inputs"]}
        return Recipe(HUGGINGFACE, options | ({"constants": entry["constants"]} if entry["constants"] else {}))

    # Where nothing in its configuration tells its size, there is no network of half the size to compare with.
    native = None if entry["half"] == entry["config"] else recipe(entry["half"])
    target = Target({"width": 0.5, "layers": "half"}, native)
    return Case(entry["family"], "transformers", recipe(entry["config"]), {"smaller": target}, ("torchscript17",))


CASES = [_case(entry) for entry in json.loads(_FAMILIES.read_text()) if "problem" not in entry]
