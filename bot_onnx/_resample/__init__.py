"""Resampling of one stack of tensors: per-axis operators, the layer axis, and the registry of methods.

Import the public face from here; ``filters``, ``operators``, ``width`` and ``depth`` are what methods are built from.
A method is one file in ``methods/``, or comes with another package.
"""

from bot_onnx._resample.composite import axis_matrix
from bot_onnx._resample.layered import LayeredMethod
from bot_onnx._resample.registry import (
    Method,
    MethodOptions,
    all_methods,
    get_method,
    make_options,
    operator,
    refused_methods,
    shrinking_operators,
)

__all__ = [
    "LayeredMethod",
    "Method",
    "MethodOptions",
    "all_methods",
    "axis_matrix",
    "get_method",
    "make_options",
    "operator",
    "refused_methods",
    "shrinking_operators",
]
