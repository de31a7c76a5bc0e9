"""Which dims may change the order of their indices without anybody seeing it.

Every op whose rule names no position treats the indices of an axis alike, so that a permutation of a dim, made in all
the tensors that carry it, leaves what the network computes as it was. Three things bound that freedom: ops that look
at positions along an axis, graph outputs that show it, and values that carry a dim from one layer into another (the
layers must then share one order).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops import Slot, measures, record, slot_of
from bot_onnx._ops.nodes import node_inputs
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._reasons import Reason, Why


@dataclass(frozen=True, slots=True)
class Freedom:
    """What binds the order of dims, by leaf id.

    Attributes:
        pinned: leaves whose order an op looks at, and why.
        outputs: leaves that a graph output (or a state among the inputs) carries, and which one.
        crossing: per chain name, leaves carried by values that enter or leave a layer.
    """

    pinned: Mapping[str, Reason]
    outputs: Mapping[str, Reason]
    crossing: Mapping[str, frozenset[str]]


def find_freedom(analysis: Analysis) -> Freedom:
    """Read from the graph what binds the order of dims (before a resize changes the graph)."""
    graph = analysis.model.graph
    pinned: dict[str, Reason] = {}
    for node in graph:
        if record(node).ordered:
            for leaf in _leaves(analysis, [*node.inputs, *node.outputs]):
                pinned.setdefault(leaf, Reason.at(Why.ORDERED, node))
        turning = [value for slot, value in enumerate(node.inputs) if slot_of(node, slot) is Slot.ROTATION]
        for leaf in _leaves(analysis, turning):
            pinned.setdefault(leaf, Reason.at(Why.ROTATED, node))
        captured = [value for value in node_inputs(node) if value not in node.inputs]
        for leaf in _leaves(analysis, captured):
            pinned.setdefault(leaf, Reason.at(Why.CAPTURED, node))
    table = analysis.context.table
    for root in {root for pair in table.equal_sizes for side in pair for root in table.leaves(side)}:
        pinned.setdefault(analysis.ids[root], Reason(Why.SHUFFLED))
    for root in {root for pair in table.dealt for side in pair for root in table.leaves(side)}:
        pinned.setdefault(analysis.ids[root], Reason(Why.DEALT))
    outputs: dict[str, Reason] = {}
    for kind, ports in ((Why.SHOWN, graph.outputs), (Why.GIVEN, graph.inputs)):
        for port in ports:
            for leaf in _leaves(analysis, [port]):
                outputs.setdefault(leaf, Reason.of(kind, port.name))
    names = [chain.name for chain in analysis.structure.chains]
    crossing = {name: _crossing(analysis, chain) for name, chain in zip(names, analysis.chains, strict=True)}
    return Freedom(pinned, outputs, crossing)


def _leaves(analysis: Analysis, values: Iterable[ir.Value | None]) -> set[str]:
    table = analysis.context.table
    roots = {
        leaf
        for value in values
        for dim in analysis.context.axes_of(value)
        if dim is not None
        for leaf in table.leaves(dim)
    }  # fmt: skip
    return {analysis.ids[root] for root in roots if root in analysis.ids}


def _crossing(analysis: Analysis, chain: LayerChain) -> frozenset[str]:
    values: dict[int, ir.Value] = {}
    for layer in chain.layers:
        inside = set(layer.nodes)
        for node in layer.nodes:
            for value in node_inputs(node):
                if value.const_value is None and value.producer() not in inside:
                    values[id(value)] = value
            for value in node.outputs:
                readers = [usage.node for usage in value.uses() if not measures(usage.node)]
                if value.is_graph_output() or any(reader not in inside for reader in readers):
                    values[id(value)] = value
    return frozenset(_leaves(analysis, values.values()))
