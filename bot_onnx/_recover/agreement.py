"""Whether two ways to compute a network agree: in PyTorch and in onnxruntime, in float32 and in half precision."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bot_onnx._recover.types import Array
from bot_onnx._surgery.provenance import TOLERANCES

#: Largest difference, of the largest value. Small convolutional networks make a hundred times more of the rounding of
#: their input.
TOLERANCE = 1e-3
_LEAST_SCALE = 1e-6  # values that are nothing but rounding may differ


def tolerance_of(halves: Iterable[str]) -> float:
    """How far values may be apart, of the largest, where numbers of these types (``FLOAT16``, ``BFLOAT16``) round."""
    return max([TOLERANCE, *(TOLERANCES[kind] for kind in halves)])


def apart(found: Array, wanted: Array, tolerance: float = TOLERANCE) -> str:
    """How far values are from those that they should be, in words; empty where they agree.

    Args:
        found, wanted: of one shape.
        tolerance: largest difference, of the largest value.
    """
    scale = max(float(np.abs(wanted).max(initial=0.0)), _LEAST_SCALE)
    distance = float(np.abs(found - wanted).max(initial=0.0)) if found.shape == wanted.shape else float("inf")
    if distance <= tolerance * scale:
        return ""
    return f"differs by {distance:.3g} where values go up to {scale:.3g}"
