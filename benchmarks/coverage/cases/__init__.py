"""The cases, a module a group. To add one, append to a module's ``CASES``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from benchmarks.coverage.case import Case

#: Modules by suite; only those of the suites asked for are imported.
_MODULES = {
    "listed": ("encoders", "decoders", "encoder_decoders", "vision", "sequence"),
    "transformers": ("sweep_transformers",),
    "timm": ("sweep_timm",),
    "forms": ("forms",),
    "real": ("real",),
}


def load_cases(suites: Sequence[str]) -> list[Case]:
    """All cases of the suites, in the order of the modules."""
    cases: list[Case] = []
    for suite, modules in _MODULES.items():
        for module in modules if suite in suites else ():
            cases += importlib.import_module(f"benchmarks.coverage.cases.{module}").CASES
    return cases
