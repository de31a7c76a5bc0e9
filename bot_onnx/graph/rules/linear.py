"""Ops that contract axes: MatMul, Gemm, Einsum, convolutions."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx.graph.dims import MaybeDim
from bot_onnx.graph.rules.base import Axes, Context, broadcast, rule

KERNEL = "taps of a kernel"
SPATIAL = "a spatial size, which follows from the input"


@rule("MatMul")
def matmul(context: Context, node: ir.Node) -> None:
    """[…, m, k] x […, k, n]: k merges, the leading axes broadcast."""
    left, right = (context.of(value) for value in node.inputs[:2])
    inner = context.table.unify(left[-1], right[-2] if len(right) > 1 else right[-1])
    context.contracted[node] = inner
    result: list[MaybeDim] = broadcast(context, [left[:-2], right[:-2]])
    if len(left) > 1:
        result.append(left[-2])
    if len(right) > 1:
        result.append(right[-1])
    context.put(node.outputs[0], result)


@rule("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def fused_matmul(context: Context, node: ir.Node) -> None:
    """A' x B', transposed in the two last axes, or with the first axis moved behind the other batch axes."""
    left, right = (_transposed(node, context.of(value), side) for value, side in zip(node.inputs, "AB", strict=False))
    context.contracted[node] = context.table.unify(left[-1], right[-2])
    result: list[MaybeDim] = broadcast(context, [left[:-2], right[:-2]])
    context.put(node.outputs[0], [*result, left[-2], right[-1]])


def _transposed(node: ir.Node, dims: Axes, side: str) -> Axes:
    """Axes of an operand as the product reads them."""
    flags = node.attributes
    if flags.get_int(f"transBatch{side}", 0):  # [m, batch, k] is read as [batch, m, k]
        dims = (*dims[1:-1], dims[0], dims[-1])
    return (*dims[:-2], dims[-1], dims[-2]) if flags.get_int(f"trans{side}", 0) else dims


@rule("Gemm")
def gemm(context: Context, node: ir.Node) -> None:
    """A' x B' + C with optional transpositions."""
    left, right = context.of(node.inputs[0]), context.of(node.inputs[1])
    if node.attributes.get_int("transA", 0):
        left = left[::-1]
    if node.attributes.get_int("transB", 0):
        right = right[::-1]
    context.contracted[node] = context.table.unify(left[1], right[0])
    result: list[MaybeDim] = [left[0], right[1]]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        result = broadcast(context, [tuple(result), context.of(node.inputs[2])])
    context.put(node.outputs[0], result)


@rule("Einsum")
def einsum(context: Context, node: ir.Node) -> None:
    """One letter, one dim; the ellipsis broadcasts."""
    equation = node.attributes["equation"].as_string().replace(" ", "")
    operands, _, outcome = equation.partition("->")
    letters: dict[str, MaybeDim] = {}
    ellipsis: list[Axes] = []
    for term, value in zip(operands.split(","), node.inputs, strict=True):
        dims = context.of(value)
        head, dots, tail = term.partition("...")
        for letter, dim in zip(head, dims, strict=False):
            letters[letter] = context.table.unify(letters.get(letter), dim)
        if dots:
            ellipsis.append(dims[len(head) : len(dims) - len(tail)])
        for letter, dim in zip(reversed(tail), reversed(dims), strict=False):
            letters[letter] = context.table.unify(letters.get(letter), dim)
    shared = broadcast(context, ellipsis) if ellipsis else []
    if "->" not in equation:
        context.fresh(node.outputs[0], f"Einsum (node {node.name!r}) has no explicit output")
        return
    head, dots, tail = outcome.partition("...")
    result = [letters.get(c) for c in head] + (shared if dots else []) + [letters.get(c) for c in tail]
    context.put(node.outputs[0], result)


@rule("Conv", "ConvTranspose", "ConvInteger")
def convolution(context: Context, node: ir.Node) -> None:
    """Channels contract (per group); taps and spatial sizes are not touched."""
    data, weight = context.of(node.inputs[0]), context.of(node.inputs[1])
    table = context.table
    for tap in weight[2:]:
        table.freeze(tap, KERNEL)
    group = node.attributes.get_int("group", 1)
    transposed = node.op_type == "ConvTranspose"
    source, target = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
    if group == 1:
        context.contracted[node] = table.unify(data[1], source)
        channels = target
    else:
        channels = _grouped(context, node, data[1], weight, group, transposed)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        channels = table.unify(channels, context.of(node.inputs[2])[0])
    output = node.outputs[0]
    spatial = [table.leaf(size) for size in context.sizes(output)[2:]]
    for dim in spatial:
        table.freeze(dim, SPATIAL)
    context.put(output, [data[0], channels, *spatial])


def _grouped(context: Context, node: ir.Node, data: MaybeDim, weight: Axes, group: int, transposed: bool) -> MaybeDim:
    """Channels as groups x channels per group; depthwise where a group has one channel."""
    table = context.table
    pair = (group, group)
    if transposed or data is None or weight[0] is None:
        table.freeze(data, f"grouped {node.op_type} (node {node.name!r})")
        table.freeze(weight[0], f"grouped {node.op_type} (node {node.name!r})")
        return weight[1] if transposed else weight[0]
    if table.size(data) == pair and table.size(weight[0]) == pair:
        channels = table.unify(data, weight[0])
        assert channels is not None
        context.need_attribute(node, "group", 0, [channels])
        return channels
    inputs = table.split(data, (table.size(data)[0] // group,) * 2)
    outputs = table.split(weight[0], (table.size(weight[0])[0] // group,) * 2)
    if inputs is None or outputs is None or inputs[0] is None or outputs[0] is None:
        table.freeze(data, f"grouped {node.op_type} (node {node.name!r})")
        table.freeze(weight[0], f"grouped {node.op_type} (node {node.name!r})")
        return weight[0]
    groups = table.unify(inputs[0], outputs[0])
    table.unify(inputs[1], weight[1])
    assert groups is not None
    context.need_attribute(node, "group", 0, [groups])
    return weight[0]


@rule(
    "AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample", "DepthToSpace",
    "SpaceToDepth",
)  # fmt: skip
def spatial(context: Context, node: ir.Node) -> None:
    """Batch and channels stay; spatial sizes are new, and follow from the input."""
    data = context.of(node.inputs[0])
    for output in node.outputs:
        if not output.name:
            continue
        sizes = context.sizes(output)
        dims: list[MaybeDim] = []
        for axis, size in enumerate(sizes):
            if axis < 2 and size == context.table.size(data[axis]):
                dims.append(data[axis])
                continue
            dim = context.table.leaf(size)
            context.table.freeze(dim, SPATIAL)
            dims.append(dim)
        if len(dims) > 1 and dims[1] != data[1]:
            context.table.freeze(data[1], f"{node.op_type} (node {node.name!r}) changes this axis")
        context.put(output, dims)
