"""Passes that say of dims that they are one."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._axes.dims import Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._patterns.layers import LayerChain


def align_layers(context: AxisFacts, chain: LayerChain) -> None:
    """Merge the dims of corresponding values of all layers: a stack needs one size for all of them."""
    first = chain.layers[0]
    for layer in chain.layers[1:]:
        pairs = [
            (a, b)
            for left, right in zip(first.nodes, layer.nodes, strict=True)
            for a, b in zip(left.outputs, right.outputs, strict=True)
        ]
        pairs += list(zip(first.parameters, layer.parameters, strict=True))
        _merge(context, pairs)
    if chain.leading is not None:
        _merge(context, chain.leading.twins)


def _merge(context: AxisFacts, pairs: list[tuple[ir.Value, ir.Value]]) -> None:
    for a, b in pairs:
        if len(context.axes_of(a)) != len(context.axes_of(b)):  # one of them stands in a branch that could not be run
            continue
        for x, y in zip(context.axes_of(a), context.axes_of(b), strict=True):
            if context.table.size(x) == context.table.size(y):
                context.table.unify(x, y)


def merge_equal_composites(context: AxisFacts) -> None:
    """Composites of the same parts in the same order are one dim: by definition they index alike."""
    changed = True
    while changed:
        changed = False
        seen: dict[tuple[object, ...], Dim] = {}
        for dims in list(context.axes.values()):
            for dim in dims:
                composite = context.table.composite(dim) if dim is not None else None
                if dim is None or composite is None:
                    continue
                root = seen.setdefault((composite.kind, *composite.parts), context.table.find(dim))
                if root != context.table.find(dim):
                    context.table.unify(root, dim)
                    changed = True
