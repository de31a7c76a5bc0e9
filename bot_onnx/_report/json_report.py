"""Results as JSON values: plain dicts, lists, texts, numbers, with the field names of the dataclasses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bot_onnx._report.dim_groups import dim_groups
from bot_onnx._report.dims import fixed_reason
from bot_onnx._report.result_report import shrinks
from bot_onnx._report.values import plain
from bot_onnx._structure import Structure
from bot_onnx.errors import said

if TYPE_CHECKING:
    from bot_onnx._report.views import InspectionView, ResultView, TogetherView
    from bot_onnx._surgery.types import Plan
    from bot_onnx._verify.types import VerifyReport


def inspection_json(inspection: InspectionView) -> dict[str, Any]:
    """An inspection; every dim and chain also says whether it is ``resizable``, and the ``reason`` if it is not.

    ``groups`` are the stages of a network with many dims, each with its dims' ids; see :func:`dim_groups`.
    """
    data: dict[str, Any] = plain(inspection)
    structure: Structure = inspection.structure
    for ident, dim in structure.dims.items():
        reason = fixed_reason(dim, structure.dims)
        data["structure"]["dims"][ident] |= {"resizable": reason is None, "reason": reason}
    for entry, chain in zip(data["structure"]["chains"], structure.chains, strict=True):
        entry |= {
            "resizable": chain.resizable is None,
            "reason": None if chain.resizable is None else said(chain.resizable),
        }
    return data | {"groups": plain(dim_groups(structure))}


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan, and whether it ``shrinks`` the model."""
    return {**plain(plan), "shrinks": shrinks(plan)}


def verify_json(report: VerifyReport) -> dict[str, Any]:
    """A verification, and whether it ``passed``."""
    return {**plain(report), "passed": report.passed}


def result_json(result: ResultView) -> dict[str, Any]:
    """A finished resize."""
    return {
        "output": str(result.output),
        "seconds": result.seconds,
        "plan": plan_json(result.plan),
        "report": verify_json(result.report),
        "learned": plain(result.learned),
    }


def together_json(made: TogetherView) -> dict[str, Any]:
    """Files that were resized together: each of them, and what they were found to be to one another."""
    return {
        "output": None if made.output is None else str(made.output),
        "seconds": made.seconds,
        "links": [list(sides) for sides in made.links],
        "checks": plain(made.checks),
        "plans": {name: plan_json(plan) for name, plan in made.plans.items()},
        "results": {name: result_json(result) for name, result in made.results.items()},
        "notes": list(made.notes),
    }
