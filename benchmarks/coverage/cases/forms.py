"""One encoder, one decoder and one image network in every form that a file may come in."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.coverage.case import Case, Target
from benchmarks.coverage.cases import decoders, encoders, vision
from benchmarks.coverage.forms import FORMS

_NETWORKS = {"bert": encoders.CASES, "llama": decoders.CASES, "vit": vision.CASES}
_TARGETS = ("smaller", "larger")


def _in_form(case: Case, form: str) -> Case:
    """The case with every file of it in a form; smaller and larger are enough."""
    targets = {
        name: Target(target.spec, None if target.native is None else replace(target.native, form=form))
        for name, target in case.targets.items()
        if name in _TARGETS
    }
    source = replace(case.source, form=form)
    return Case(f"{case.name}, {form}", "forms", source, targets, case.exporters)


CASES = [
    _in_form(case, form)
    for name, cases in _NETWORKS.items()
    for case in cases
    if case.name == name
    for form in FORMS
]  # fmt: skip
