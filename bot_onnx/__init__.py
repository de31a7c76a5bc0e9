"""bot-onnx: resize trained neural networks in their ONNX form.

    >>> import bot_onnx
    >>> result = bot_onnx.resize("model.onnx", {"layers": 6, "hidden": 384}, "small.onnx")  # doctest: +SKIP

The names below are the whole public API; they are loaded when first used. Modules that start with ``_`` are internal.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bot_onnx._checkpoint.jobs import Transfer, export_weights, import_weights, state_dict
    from bot_onnx._fit import Budget, Candidate, Fit, fit
    from bot_onnx._recover.jobs import Recovery, recover
    from bot_onnx._resample import operator
    from bot_onnx._surgery.types import Plan
    from bot_onnx._target import TargetSpec
    from bot_onnx._verify import VerifyReport
    from bot_onnx.api import Inspection, Result, energy, inspect, plan, resize, verify

try:
    __version__ = version("bot-onnx")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

__all__ = [
    "Budget",
    "Candidate",
    "Fit",
    "Inspection",
    "Plan",
    "Recovery",
    "Result",
    "TargetSpec",
    "Transfer",
    "VerifyReport",
    "__version__",
    "energy",
    "export_weights",
    "fit",
    "import_weights",
    "inspect",
    "operator",
    "plan",
    "recover",
    "resize",
    "state_dict",
    "verify",
]

_HOMES = {
    **dict.fromkeys(("Inspection", "Result", "energy", "inspect", "plan", "resize", "verify"), "bot_onnx.api"),
    **dict.fromkeys(("Transfer", "export_weights", "import_weights", "state_dict"), "bot_onnx._checkpoint.jobs"),
    **dict.fromkeys(("Budget", "Candidate", "Fit", "fit"), "bot_onnx._fit"),
    **dict.fromkeys(("Recovery", "recover"), "bot_onnx._recover.jobs"),
    "operator": "bot_onnx._resample",
    "TargetSpec": "bot_onnx._target",
    "Plan": "bot_onnx._surgery.types",
    "VerifyReport": "bot_onnx._verify",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bot_onnx' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
