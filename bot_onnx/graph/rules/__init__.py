"""One rule per op (or family of ops): how the axes of its outputs follow from those of its inputs.

``apply`` is all that the analysis imports. A rule says facts about an op, never about a model.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx.graph.rules import elementwise, layout, linear, recurrent, selection, tables
from bot_onnx.graph.rules.base import RULES, Context, Requirement

__all__ = ["Context", "Requirement", "apply"]

_FAMILIES = (elementwise, layout, linear, recurrent, selection, tables)  # imported to register their rules


def apply(context: Context, node: ir.Node) -> None:
    """Set the axes of the outputs of ``node``.

    An op without a rule, or with a body of its own, keeps every static size around it: those dims are frozen by name.
    """
    key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
    handler = RULES.get(key)
    if handler is not None:
        handler(context, node)
        return
    context.unknown.append(node)
    reason = f"no rule for op {key} (node {node.name!r})"
    for value in node.inputs:
        for dim in context.of(value):
            context.table.freeze(dim, reason)
    for output in node.outputs:
        context.fresh(output, reason)
