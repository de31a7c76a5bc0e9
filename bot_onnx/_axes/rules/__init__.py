"""One rule per op (or family of ops): how the axes of its outputs follow from those of its inputs.

``apply`` is all that the analysis imports. A rule says facts about an op, never about a model.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.rules import (  # noqa: F401  (they put their rules in)
    attention,
    elementwise,
    experts,
    flow,
    images,
    indexed,
    layout,
    linear,
    recurrent,
    selection,
    tables,
)
from bot_onnx._axes.rules.base import RULES, Context
from bot_onnx._axes.rules.selection import hold_picked
from bot_onnx._axes.rules.unknown import follow_unknown
from bot_onnx._ops import op_key

__all__ = ["Context", "apply", "hold_picked"]


def apply(context: Context, node: ir.Node) -> None:
    """Set the axes of the outputs of ``node``.

    An op without a rule is run alone to see what it does; what that does not show keeps its size, frozen by name.
    """
    key = op_key(node)
    handler = RULES.get(key)
    if handler is not None:
        handler(context, node)
        return
    follow_unknown(context, node, key)
