"""Layers like those of a chain that stand outside of it.

Where later layers read the keys and values of an earlier one, no node lies on every path any more: they are no repeat
after each other, and the chain holds the layers before them alone. They are told by their weights: matrices of the
shapes that the layers of the chain have, and as many of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import onnx_ir as ir

from bot_onnx._ops import attends, op_key
from bot_onnx._ops.nodes import behind_views
from bot_onnx._patterns.layers import LayerChain, is_weighted


def strays(graph: ir.Graph, chains: Sequence[LayerChain]) -> list[int]:
    """Number of layers outside of all chains that have most of the weights of a chain's layer, per chain.

    Only layers that attend are looked for: in convolutional networks a block that is alike in part begins every stage.
    """
    claimed = {node for chain in chains for layer in chain.layers for node in layer.nodes}
    claimed |= {node for chain in chains if chain.leading is not None for node in chain.leading.nodes}
    rest = _weighted(node for node in graph if node not in claimed)
    return [_alike(chain, rest) for chain in chains]


def _alike(chain: LayerChain, rest: Counter[Hashable]) -> int:
    nodes = chain.layers[0].nodes
    if not any(map(attends, nodes)):
        return 0
    own = _weighted(nodes)
    found = {key: rest[key] // number for key, number in own.items() if rest[key] >= number}
    matched = sum(own[key] for key in found)
    return max(found.values()) if 2 * matched >= own.total() and found else 0


def _weighted(nodes: Iterable[ir.Node]) -> Counter[Hashable]:
    """How many nodes there are by op and shapes of matrices."""
    counts: Counter[Hashable] = Counter()
    for node in nodes:
        if is_weighted(node):
            shapes = [_shape(value) for value in node.inputs]
            counts[(op_key(node), *shapes)] += 1
    return counts


def _shape(value: ir.Value | None) -> tuple[int, ...] | None:
    found = behind_views(value)
    return None if found is None or found.const_value is None else tuple(found.const_value.shape.numpy())
