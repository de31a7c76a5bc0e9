"""Functions of a model written out at their calls."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx.errors import GraphError


def inline(model: ir.Model) -> None:
    """Write out all calls of the model's own functions, in place.

    Raises:
        GraphError: a function does not suit its calls (other versions of operators, other numbers of values).
    """
    if not model.functions:
        return
    try:
        common.InlinePass()(model)
    except Exception as error:  # onnx-ir raises whatever a function that does not fit makes it meet
        raise GraphError(
            f"the model's functions cannot be written out: {one_line(error)}; export the model again"
        ) from error
