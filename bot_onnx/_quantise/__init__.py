"""Quantising a model in floating point, and measuring what that costs and gains.

Import the names below from here; the other modules are this folder's own.
"""

from bot_onnx._quantise.chain import Chained, resize_and_quantise
from bot_onnx._quantise.jobs import quantise
from bot_onnx._quantise.types import Closeness, Cost, Kind, Left, Quantised, QuantiseRequest

__all__ = [
    "Chained",
    "Closeness",
    "Cost",
    "Kind",
    "Left",
    "QuantiseRequest",
    "Quantised",
    "quantise",
    "resize_and_quantise",
]
