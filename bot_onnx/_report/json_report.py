"""Results as JSON values: plain dicts, lists, texts, numbers, with the field names of the dataclasses."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bot_onnx._reasons import Reason
from bot_onnx._report.dims import fixed_reason
from bot_onnx._report.result_report import shrinks
from bot_onnx._report.views import InspectionView, ResultView
from bot_onnx._structure import Structure
from bot_onnx._surgery.types import Plan
from bot_onnx._verify.types import VerifyReport
from bot_onnx.errors import said


def plain(value: Any) -> Any:
    """Turn a result into JSON values; numbers that JSON does not have (NaN, infinities) become null.

    Fields whose metadata say ``json`` False are left out.

    Raises:
        TypeError: a value of a type that no result has.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Reason):
        return said(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = (field for field in dataclasses.fields(value) if field.metadata.get("json", True))
        return {field.name: plain(getattr(value, field.name)) for field in shown}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "item"):  # a NumPy scalar
        return plain(value.item())
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


def inspection_json(inspection: InspectionView) -> dict[str, Any]:
    """An inspection; every dim and chain also says whether it is ``resizable``, and the ``reason`` if it is not."""
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
    return data


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
    }
