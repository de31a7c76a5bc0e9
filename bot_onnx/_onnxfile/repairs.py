"""Faults of a file that onnxruntime runs all the same: mended in the message before anything reads it, and noted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from bot_onnx._onnxfile.texts import mend_remarks

#: First version of the format in which an initializer need not be listed among the inputs.
_FREE_INITIALIZERS = 4


def repair(model: onnx.ModelProto) -> tuple[str, ...]:
    """Mend ``model`` in place.

    Old files list their weights among the inputs, some only a part of them; nodes may stand in any order as long as
    there is one; remarks need not be text.

    Returns:
        What was mended, in sentences.
    """
    notes = []
    if 0 < model.ir_version < _FREE_INITIALIZERS:
        notes.append(
            f"The file is of IR version {model.ir_version}, which lists weights among the inputs; "
            f"it is read, and written, as version {_FREE_INITIALIZERS}, which does not."
        )
        model.ir_version = _FREE_INITIALIZERS
        _separate(model.graph)
    unsorted = [container for container in _containers(model) if _sort(container)]
    if unsorted:
        notes.append("Nodes stood before others whose results they read; they were put in order.")
    if mend_remarks(model):
        notes.append("Remarks in the file are not UTF-8 text; what could not be read was replaced.")
    return tuple(notes)


def _separate(graph: onnx.GraphProto) -> None:
    """Take initializers out of the inputs, in the graphs within too."""
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in weights]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)
    for body in _bodies(graph.node):
        _separate(body)


Container = onnx.GraphProto | onnx.FunctionProto


def _containers(model: onnx.ModelProto) -> Iterator[Container]:
    """Graphs and functions, inner ones first: nodes are copied when the outer ones are put in order."""
    for root in (model.graph, *model.functions):
        yield from _within(root)


def _within(container: Container) -> Iterator[Container]:
    for body in _bodies(container.node):
        yield from _within(body)
    yield container


def _bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                yield from attribute.graphs


def _sort(container: Container) -> bool:
    """Order nodes so that each stands behind those it reads, as near to the old order as that allows.

    Returns:
        Whether anything was moved. A graph with a cycle stays as it is: the checker names it.
    """
    maker = {name: place for place, node in enumerate(container.node) for name in node.output if name}
    needs = [
        {maker[name] for name in _read(node) if name in maker and maker[name] != place}
        for place, node in enumerate(container.node)
    ]
    if all(other < place for place, others in enumerate(needs) for other in others):
        return False
    order = _order(needs)
    if len(order) < len(needs):
        return False
    nodes = [onnx.NodeProto() for _ in order]
    for node, place in zip(nodes, order, strict=True):
        node.CopyFrom(container.node[place])
    del container.node[:]
    container.node.extend(nodes)
    return True


def _order(needs: list[set[int]]) -> list[int]:
    """Depth-first order of what needs what; short where there is a cycle."""
    order: list[int] = []
    state = [0] * len(needs)  # 1: on the way, 2: done
    for root in range(len(needs)):
        stack = [root]
        while stack:
            place = stack[-1]
            if state[place] == 2:
                stack.pop()
                continue
            waiting = [other for other in sorted(needs[place], reverse=True) if state[other] != 2]
            if state[place] == 1 and any(state[other] == 1 for other in waiting):
                return order
            if not waiting:
                state[place] = 2
                order.append(place)
                stack.pop()
                continue
            state[place] = 1
            stack.extend(waiting)
    return order


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads, in its bodies too."""
    yield from node.input
    for body in _bodies([node]):
        for inner in body.node:
            yield from _read(inner)
        yield from (value.name for value in body.output)
