"""bot-onnx: resize trained neural networks in their ONNX form.

    >>> import bot_onnx
    >>> model = bot_onnx.open("model.onnx")  # doctest: +SKIP
    >>> plan = model.plan(bot_onnx.ResizeRequest({"layers": 6, "hidden": 384}))  # doctest: +SKIP
    >>> result = plan.write("small.onnx")  # doctest: +SKIP

``inspect``, ``plan``, ``resize``, ``verify`` and ``energy`` are the same in one call. The names below are the whole
public API; they are loaded when first used. Modules that start with ``_`` are internal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot_onnx._deferred import deferred

if TYPE_CHECKING:
    from bot_onnx._checkpoint.jobs import Transfer, export_weights, import_weights, state_dict
    from bot_onnx._fit import Budget, Candidate, Fit, fit
    from bot_onnx._page import Report, report
    from bot_onnx._quantise import Quantised, quantize
    from bot_onnx._recover.jobs import Recovery, recover
    from bot_onnx._request import ResizeRequest
    from bot_onnx._resample import operator
    from bot_onnx._surgery.types import Plan
    from bot_onnx._sweep.types import Sweep, Teaching
    from bot_onnx._sweeping import sweep
    from bot_onnx._target import TargetSpec
    from bot_onnx._verify import VerifyReport
    from bot_onnx._vocabulary import tokens_of
    from bot_onnx.api import (
        Inspection,
        Model,
        PlannedResize,
        Result,
        Together,
        energy,
        inspect,
        open,
        plan,
        plan_together,
        replan,
        replay,
        resize,
        resize_together,
        verify,
        verify_together,
    )
    from bot_onnx.errors import (
        BotError,
        CheckpointError,
        DataError,
        DimError,
        GraphError,
        MissingRuntimeError,
        OutputError,
        PlanError,
        ProofError,
        RecoverError,
        ResampleError,
        SpecError,
        VerifyError,
    )

__version__ = "0.1.0"

__all__ = [
    "BotError",
    "Budget",
    "Candidate",
    "CheckpointError",
    "DataError",
    "DimError",
    "Fit",
    "GraphError",
    "Inspection",
    "MissingRuntimeError",
    "Model",
    "OutputError",
    "Plan",
    "PlanError",
    "PlannedResize",
    "ProofError",
    "Quantised",
    "RecoverError",
    "Recovery",
    "Report",
    "ResampleError",
    "ResizeRequest",
    "Result",
    "SpecError",
    "Sweep",
    "TargetSpec",
    "Teaching",
    "Together",
    "Transfer",
    "VerifyError",
    "VerifyReport",
    "__version__",
    "energy",
    "export_weights",
    "fit",
    "import_weights",
    "inspect",
    "open",
    "operator",
    "plan",
    "plan_together",
    "quantize",
    "recover",
    "replan",
    "replay",
    "report",
    "resize",
    "resize_together",
    "state_dict",
    "sweep",
    "tokens_of",
    "verify",
    "verify_together",
]

_IN_MODULES = {
    "bot_onnx.api": "Inspection Model PlannedResize Result Together energy inspect open plan plan_together replan "
    "replay resize resize_together verify verify_together",
    "bot_onnx._checkpoint.jobs": "Transfer export_weights import_weights state_dict",
    "bot_onnx.errors": "BotError CheckpointError DataError DimError GraphError MissingRuntimeError OutputError "
    "PlanError ProofError RecoverError ResampleError SpecError VerifyError",
    "bot_onnx._fit": "Budget Candidate Fit fit",
    "bot_onnx._page": "Report report",
    "bot_onnx._quantise": "Quantised quantize",
    "bot_onnx._recover.jobs": "Recovery recover",
    "bot_onnx._request": "ResizeRequest",
    "bot_onnx._resample": "operator",
    "bot_onnx._target": "TargetSpec",
    "bot_onnx._surgery.types": "Plan",
    "bot_onnx._sweep.types": "Sweep Teaching",
    "bot_onnx._sweeping": "sweep",
    "bot_onnx._verify": "VerifyReport",
    "bot_onnx._vocabulary": "tokens_of",
}


def __dir__() -> list[str]:
    """The public names, for completion and ``help``."""
    return sorted(__all__)


__getattr__ = deferred(__name__, _IN_MODULES)
