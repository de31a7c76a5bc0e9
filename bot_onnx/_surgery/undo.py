"""Try something on a graph, and have it back as it was: planning and proving change nothing that lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis


class _Node:
    """What a node is before something is tried."""

    __slots__ = ("_attributes", "_inputs", "_kind", "_name", "_notes", "node")

    def __init__(self, node: ir.Node) -> None:
        self.node = node
        self._kind = (node.domain, node.op_type)
        self._name = node.name
        self._inputs, self._attributes, self._notes = tuple(node.inputs), dict(node.attributes), dict(node.meta)

    def restore(self) -> None:
        node = self.node
        if (node.domain, node.op_type) != self._kind:
            node.domain, node.op_type = self._kind
        if node.name != self._name:
            node.name = self._name
        for slot, value in enumerate(self._inputs):
            if node.inputs[slot] is not value:
                node.replace_input_with(slot, value)
        if dict(node.attributes) != self._attributes:
            node.attributes.clear()
            node.attributes.update(self._attributes)
        if node.meta.keys() != self._notes.keys() or any(node.meta[key] is not self._notes[key] for key in self._notes):
            node.meta.clear()
            node.meta.update(self._notes)


@contextmanager
def unchanged(analysis: Analysis) -> Iterator[None]:
    """Undo in the end what happens to the graph.

    Nodes come back with their order, ops, names, inputs, attributes and notes; ports and initializers with their names,
    types, shapes and contents.
    """
    graph = analysis.model.graph
    nodes = [_Node(node) for node in graph]
    held = {name: (value, value.const_value) for name, value in graph.initializers.items()}
    values = [*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs)]
    values += graph.initializers.values()
    told = {id(value): (value, value.name, value.shape, value.type) for value in values}
    ports = [(ports, list(ports)) for ports in (graph.inputs, graph.outputs)]
    axes, notes = dict(analysis.context.axes), dict(graph.meta)
    try:
        yield
    finally:
        _restore_nodes(graph, nodes)
        for lists, present in ports:
            if list(map(id, lists)) != list(map(id, present)):
                lists.clear()
                lists.extend(present)
        for added in [name for name in graph.initializers if name not in held]:
            del graph.initializers[added]
        for value, name, shape, kind in told.values():
            value.shape, value.type = shape, kind
            if value.name != name:
                value.name = name
        for value, tensor in held.values():
            value.const_value = tensor
        graph.meta.clear()
        graph.meta.update(notes)
        analysis.context.axes.clear()
        analysis.context.axes.update(axes)


def _restore_nodes(graph: ir.Graph, nodes: list[_Node]) -> None:
    known = {one.node for one in nodes}
    present = list(graph)
    for node in present:
        if node not in known:
            for slot in range(len(node.inputs)):
                node.replace_input_with(slot, None)
    if present != [one.node for one in nodes]:
        graph.remove(present)
        graph.extend([one.node for one in nodes])
    for one in nodes:
        one.restore()
