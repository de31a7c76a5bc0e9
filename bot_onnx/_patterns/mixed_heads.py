"""Talking heads (Shazeer et al. 2020, arXiv 2003.02436): a matrix mixes the heads of scores, or of their shares.

What it makes of heads are heads. The matrix has an axis for each, and where the two are of one size they are one dim:
nothing else says how many of the one there are to be for the other.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._ops import is_linear
from bot_onnx._patterns.parameters import parameter_behind


def mixed_heads(context: AxisFacts, node: ir.Node, scores: ir.Value | None, heads: MaybeDim) -> MaybeDim:
    """The heads that a node makes of those of ``scores`` by a weight; None where it does no such thing."""
    inner, table = context.contracted.get(node), context.table
    if scores is None or heads is None or inner is None or table.find(inner) != table.find(heads):
        return None
    if not is_linear(node) or not any(
        parameter_behind(operand) is not None for operand in node.inputs if operand is not scores
    ):
        return None
    known = {table.find(dim) for dim in context.axes_of(scores) if dim is not None}
    made = [dim for dim in context.axes_of(node.outputs[0]) if dim is not None and table.is_static(dim)]
    new = [table.find(dim) for dim in made if table.find(dim) not in known]
    if not new:
        return table.find(heads) if table.find(heads) in {table.find(dim) for dim in made} else None
    return new[0] if len(new) == 1 else None


def join_mixed(context: AxisFacts, heads: Dim, mixed: Dim) -> None:
    """Let heads and what a square matrix makes of them be one dim."""
    table = context.table
    plain = all(table.composite(dim) is None and table.frozen(dim) is None for dim in (heads, mixed))
    if plain and table.size(heads) == table.size(mixed):
        table.unify(heads, mixed)
