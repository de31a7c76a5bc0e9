"""Nodes that nothing reads, nodes that only hand on, and the one order of all others."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from bot_onnx._ops.nodes import node_inputs


def tidy(model: ir.Model) -> None:
    """Drop nodes that nothing reads, and put the others in their one order, in place."""
    presents = _presents(model.graph)
    common.RemoveUnusedNodesPass()(model)
    _keep_presents(presents)
    _canonical_sort(model.graph)


def drop_identities(graph: ir.Graph) -> None:
    """Remove Identity nodes; one that shows a graph input, a weight or another output as an output stays.

    The library's pass drops the name of an output that is shown under a second one.
    """
    dropped: list[ir.Node] = []
    for node in graph:
        if node.op_type != "Identity" or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
            continue
        source, shown = node.inputs[0], node.outputs[0]
        if shown.is_graph_output():
            if source.producer() is None or source.is_graph_output():
                continue
            places = [index for index, output in enumerate(graph.outputs) if output is shown]
            name, shown.name = shown.name, f"{shown.name}__shown"
            for index in places:
                graph.outputs[index] = source
            source.name, source.shape, source.type = name, shown.shape or source.shape, shown.type or source.type
        for usage in tuple(shown.uses()):
            usage.node.replace_input_with(usage.idx, source)
        dropped.append(node)
    graph.remove(dropped, safe=True)


def _presents(graph: ir.Graph) -> dict[ir.Node, list[str]]:
    """Names of the outputs of attentions that are given keys: the runtime wants them beside, whether they are read."""
    return {
        node: [output.name or "" for output in node.outputs]
        for node in graph
        if node.op_type == "Attention" and node.domain in ("", "ai.onnx") and any(node.inputs[4:6])
    }


def _keep_presents(presents: dict[ir.Node, list[str]]) -> None:
    for node, names in presents.items():
        if node.graph is None:
            continue
        node.resize_outputs(len(names))
        for output, name in zip(node.outputs, names, strict=True):
            output.name = name


def _canonical_sort(graph: ir.Graph) -> None:
    """Order the nodes by a depth-first walk from the outputs: topological, and independent of the order in the file."""
    done: set[ir.Node] = set()
    ordered: list[ir.Node] = []
    for output in graph.outputs:
        stack = [(output.producer(), False)]
        while stack:
            node, expanded = stack.pop()
            if node is None or node in done or node.graph is not graph:
                continue
            if expanded:
                done.add(node)
                ordered.append(node)
                continue
            stack.append((node, True))
            stack.extend((value.producer(), False) for value in reversed(node_inputs(node)))
    if len(ordered) == len(graph):
        graph.remove(ordered)
        graph.extend(ordered)
    else:  # nodes that reach no output are kept in a valid order
        graph.sort()
