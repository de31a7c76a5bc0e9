"""Whether a network carried to PyTorch computes what onnxruntime does."""

from __future__ import annotations

import numpy as np

from bot_onnx._recover.types import Array

#: Largest difference, of the largest value. Small convolutional networks make a hundred times more of the rounding of
#: their input.
TOLERANCE = 1e-3
_LEAST_SCALE = 1e-6  # values that are nothing but rounding may differ


def apart(found: Array, wanted: Array) -> str:
    """How far values of PyTorch are from those of onnxruntime, in words; empty where they agree."""
    scale = max(float(np.abs(wanted).max(initial=0.0)), _LEAST_SCALE)
    distance = float(np.abs(found - wanted).max(initial=0.0)) if found.shape == wanted.shape else float("inf")
    if distance <= TOLERANCE * scale:
        return ""
    return f"differs by {distance:.3g} where values go up to {scale:.3g}"
