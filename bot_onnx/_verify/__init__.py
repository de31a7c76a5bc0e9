"""Checking a model file: validity, runtime, sizes as predicted, and closeness to another model.

``verify_model`` runs every check and reports; ``expected`` says what a plan or a spec predicts. Import the names below
from here; the other modules are this folder's own.
"""

from bot_onnx._verify.dequantised import check_quantised
from bot_onnx._verify.expected import Expected, expected_from_plan, expected_from_sizes, expected_from_spec
from bot_onnx._verify.model import raise_unless_passed, verify_model
from bot_onnx._verify.requantised import publish_packed, publish_requantised
from bot_onnx._verify.types import Check, OutputComparison, VerifyReport

__all__ = [
    "Check",
    "Expected",
    "OutputComparison",
    "VerifyReport",
    "check_quantised",
    "expected_from_plan",
    "expected_from_sizes",
    "expected_from_spec",
    "publish_packed",
    "publish_requantised",
    "raise_unless_passed",
    "verify_model",
]
