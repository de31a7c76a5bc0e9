"""Ops that contract axes: MatMul, Gemm, Einsum."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.rules.base import Axes, Context, broadcast, rule
from bot_onnx._ops.einsum import subscripts
from bot_onnx._reasons import Reason, Why


@rule("MatMul")
def matmul(context: Context, node: ir.Node) -> None:
    """[…, m, k] x […, k, n]: k merges, the leading axes broadcast."""
    left, right = (context.axes_of(value) for value in node.inputs[:2])
    inner = context.table.unify(left[-1], right[-2] if len(right) > 1 else right[-1])
    context.contracted[node] = inner
    result: list[MaybeDim] = broadcast(context, [left[:-2], right[:-2]])
    if len(left) > 1:
        result.append(left[-2])
    if len(right) > 1:
        result.append(right[-1])
    context.set_axes(node.outputs[0], result)


@rule("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def fused_matmul(context: Context, node: ir.Node) -> None:
    """A' x B', transposed in the two last axes, or with the first axis moved behind the other batch axes."""
    left, right = (
        _transposed(node, context.axes_of(value), side) for value, side in zip(node.inputs, "AB", strict=False)
    )
    context.contracted[node] = context.table.unify(left[-1], right[-2])
    result: list[MaybeDim] = broadcast(context, [left[:-2], right[:-2]])
    context.set_axes(node.outputs[0], [*result, left[-2], right[-1]])


def _transposed(node: ir.Node, dims: Axes, side: str) -> Axes:
    """Axes of an operand as the product reads them."""
    flags = node.attributes
    if flags.get_int(f"transBatch{side}", 0):  # [m, batch, k] is read as [batch, m, k]
        dims = (*dims[1:-1], dims[0], dims[-1])
    return (*dims[:-2], dims[-1], dims[-2]) if flags.get_int(f"trans{side}", 0) else dims


@rule("Gemm")
def gemm(context: Context, node: ir.Node) -> None:
    """A' x B' + C with optional transpositions."""
    left, right = context.axes_of(node.inputs[0]), context.axes_of(node.inputs[1])
    if node.attributes.get_int("transA", 0):
        left = left[::-1]
    if node.attributes.get_int("transB", 0):
        right = right[::-1]
    context.contracted[node] = context.table.unify(left[1], right[0])
    result: list[MaybeDim] = [left[0], right[1]]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        result = broadcast(context, [tuple(result), context.axes_of(node.inputs[2])])
    context.set_axes(node.outputs[0], result)


@rule("Einsum")
def einsum(context: Context, node: ir.Node) -> None:
    """One letter, one dim; the ellipsis broadcasts. What the result lacks is contracted."""
    operands = [context.axes_of(value) for value in node.inputs]
    terms, outcome = subscripts(node, [len(dims) for dims in operands])
    letters: dict[str, MaybeDim] = {}
    for term, dims in zip(terms, operands, strict=True):
        for letter, dim in zip(term, dims, strict=True):
            letters[letter] = context.table.unify(letters.get(letter), dim)
    if outcome is None:
        context.new_axes(node.outputs[0], Reason.at(Why.NO_EINSUM_OUTPUT, node))
        return
    inner = [dim for letter, dim in letters.items() if letter not in outcome]
    if inner:
        context.contracted[node] = context.table.product(inner)
    context.set_axes(node.outputs[0], [letters.get(letter) for letter in outcome])
