"""Quantising a model in floating point, and measuring what that costs and gains.

Import the names below from here; the other modules are this folder's own.
"""

from bot_onnx._quantise.chain import Chained, loosened, make_and_quantise
from bot_onnx._quantise.jobs import quantise
from bot_onnx._quantise.public import quantize
from bot_onnx._quantise.types import Closeness, Kind, Left, Quantised, QuantiseRequest, Spent

__all__ = [
    "Chained",
    "Closeness",
    "Kind",
    "Left",
    "QuantiseRequest",
    "Quantised",
    "Spent",
    "loosened",
    "make_and_quantise",
    "quantise",
    "quantize",
]
