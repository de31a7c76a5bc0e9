"""Remove or append layers at the end of a chain.

All layers of a chain are structurally equal and the weights come from elsewhere, so depth always changes at the end:
trailing layers go, or copies of the last one follow it. What the first layers compute for the others stays valid.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bot_onnx._analysis.numbered_names import Numbering
from bot_onnx._canonical.control_flow import copy_place, settle_copies
from bot_onnx._canonical.decompose import keep_storage
from bot_onnx._canonical.spelling import keep_spelling
from bot_onnx._ops.nodes import fresh_name, needed_nodes, node_inputs, number_in
from bot_onnx._patterns.alternating_layers import turn_length
from bot_onnx._patterns.layer_numbers import continued, placed_inputs
from bot_onnx._patterns.layers import Layer, LayerChain
from bot_onnx._surgery.ports import Ports
from bot_onnx.errors import GraphError


def resize_chain(
    graph: ir.Graph, chain: LayerChain, name: str, target: int, stacked: dict[str, list[str]], taken: set[str]
) -> Ports | None:
    """Give ``chain`` ``target`` layers, in place; inputs and outputs that belong to single layers follow.

    Args:
        graph: the graph.
        chain: its layers. name: for messages.
        target: number of layers, at least 1.
        stacked: per initializer of the last layer that belongs to a stack of the chain, the names of its counterparts
            in the appended layers (empty when shrinking).
        taken: names in use, or promised to tensors that are yet to come; extended.

    Returns:
        What became of the graph's inputs and outputs. None where the depth stays.

    Raises:
        GraphError: something outside a removed layer uses what it computes, or what is given to it.
    """
    count = len(chain.layers)
    if target == count:
        return None
    ports = Ports(graph, chain)
    if target < count:
        _remove(graph, chain, name, target, ports)
    else:
        _append(graph, chain, name, target - count, stacked, ports, taken)
    return ports


def _remove(graph: ir.Graph, chain: LayerChain, name: str, target: int, ports: Ports) -> None:
    read = [value for value in graph.inputs if any(True for _ in value.uses())]
    _move_uses(graph, chain.layers[-1].end, chain.layers[target - 1].end, keep=set())
    _reshape_alike(chain.layers[target - 1], chain.layers[-1])
    ports.measure_first()
    ports.restore(target)
    gone = {node for layer in chain.layers[target:] for node in layer.nodes}
    needed = needed_nodes(graph)
    for output in graph.outputs:
        if output.producer() in gone:
            raise GraphError(
                f"output {output.name!r} shows the inside of a layer of {name} that would be removed; "
                "export the model without it, or keep the number of layers"
            )
    for node in needed & gone:
        users = [usage.node for value in node.outputs for usage in value.uses() if usage.node not in gone]
        if users:
            raise GraphError(
                f"{users[0].op_type} (node {users[0].name!r}) uses what {node.op_type} (node {node.name!r}) computes "
                f"inside a layer of {name} that would be removed; keep the number of layers",
                node=users[0].name,
            )
    graph.remove([node for node in graph if node not in needed], safe=True)
    lost = [value for value in read if not any(True for _ in value.uses())]
    if lost:
        raise GraphError(
            f"input {lost[0].name!r} is used only in layers of {name} that would be removed; keep the number of layers"
        )
    present = set(map(id, graph.inputs))
    for family in ports.families:
        for value in family.members if family.kind == "input" else ():
            user = next((usage.node for usage in value.uses()), None)
            if id(value) not in present and user is not None:
                raise GraphError(
                    f"{user.op_type} (node {user.name!r}) uses an input of a layer of {name} that would be removed; "
                    "keep the number of layers"
                )


def _reshape_alike(new: Layer, old: Layer) -> None:
    """Let the new last layer say shapes as the old one did: outputs are declared with the sizes it says."""
    for mine, theirs in zip(new.nodes, old.nodes, strict=True):
        if mine.op_type == "Reshape" and mine.inputs[1] is not None and mine.inputs[1].const_value is None:
            said = theirs.inputs[1]
            if said is not None and said.const_value is not None:
                mine.replace_input_with(1, said)


def _move_uses(graph: ir.Graph, old: ir.Node, new: ir.Node, keep: set[ir.Node]) -> None:
    """Let everything that reads ``old`` (but the nodes in ``keep``) read ``new``; an output keeps its name."""
    for before, after in zip(old.outputs, new.outputs, strict=True):
        for usage in list(before.uses()):
            if usage.node not in keep:
                usage.node.replace_input_with(usage.idx, after)
        for index, output in enumerate(graph.outputs):
            if output is before:
                before.name, after.name = after.name, before.name
                after.shape, after.type = before.shape, before.type
                graph.outputs[index] = after


def _append(
    graph: ir.Graph,
    chain: LayerChain,
    name: str,
    extra: int,
    stacked: dict[str, list[str]],
    ports: Ports,
    taken: set[str],
) -> None:
    """Copies of layers follow the last one: of the last, or in turn of those whose outside values alternate."""
    count = len(chain.layers)
    distance = _pattern(chain, name)
    last = chain.layers[-1].end
    inside = set(_template_nodes(graph, chain.layers[-1], set()))
    placed = list(placed_inputs(chain))
    copied: dict[int, list[ir.Node]] = {}  # by place: each search walks the whole graph
    for index in range(count, count + extra):
        place = count - distance + (index - count) % distance
        template, before = chain.layers[place], chain.layers[place - 1]
        fresh = ports.next_inputs(place)
        if place not in copied:
            copied[place] = _template_nodes(graph, template, set(fresh))
        nodes = copied[place]
        values = dict(zip(template.start.outputs, last.outputs, strict=True)) | fresh
        aligned = dict(zip(template.nodes, before.nodes, strict=True))
        names = {
            mine.name or "": stacked[other.name or ""][index - count]
            for mine, other in zip(template.parameters, chain.layers[-1].parameters, strict=True)
            if stacked.get(other.name or "")
        }
        copies = _copy(graph, nodes, values, aligned, index - place, names, taken)
        for at, slot, numbers, law in placed:
            _go_on(graph, copies[template.nodes[at]], slot, continued(numbers, law, index), index - count, taken)
        ports.add_layer([copies[node] for node in template.nodes])
        graph.insert_after(last, [copies[node] for node in nodes])
        _move_uses(graph, last, copies[template.end], keep=inside | set(copies.values()))
        last = copies[template.end]
        inside = set(copies.values())
    ports.restore(count + extra)


def _pattern(chain: LayerChain, name: str) -> int:
    """After how many layers the values that layers read from outside are the same again.

    Raises:
        GraphError: never, so that nobody can say what one more layer would read.
    """
    turns = turn_length(chain)
    if turns is not None:
        return turns
    outside = [[id(value) for value in layer.outside] for layer in chain.layers]
    place = next(i for i in range(len(outside[0])) if len({values[i] for values in outside}) > 1)
    names = [layer.outside[place].name or "" for layer in chain.layers]
    raise GraphError(
        f"the layers of {name} read different values from outside ({', '.join(names)}), in no pattern that more layers "
        "could go on with; keep the number of layers, or take fewer"
    )


def _template_nodes(graph: ir.Graph, layer: Layer, own: set[ir.Value]) -> list[ir.Node]:
    """Nodes of a layer in graph order, with the shape arithmetic that depends on it or on inputs of its ``own``."""
    behind: set[ir.Node] = set()
    pending = [layer.end]
    while pending:
        node = pending.pop()
        if node in behind or node is layer.start:
            continue
        behind.add(node)
        pending.extend(p for value in node_inputs(node) if (p := value.producer()) is not None)
    members = set(layer.nodes)
    sources = {*layer.start.outputs, *own}
    chosen: list[ir.Node] = []
    for node in graph:
        if node in members or (node in behind and any(value in sources for value in node_inputs(node))):
            chosen.append(node)
            sources.update(node.outputs)
    return chosen


def _copy(
    graph: ir.Graph,
    nodes: list[ir.Node],
    values: dict[ir.Value, ir.Value],
    aligned: dict[ir.Node, ir.Node],
    number: int,
    names: dict[str, str],
    taken: set[str],
) -> dict[ir.Node, ir.Node]:
    """Copies of ``nodes``, ``number`` layers on.

    They read the values on the right of ``values`` and the initializers on the right of ``names`` instead of those on
    the left.
    """
    copies: dict[ir.Node, ir.Node] = {}
    for node in nodes:
        inputs = [None if value is None else _input(graph, value, values, names) for value in node.inputs]
        twin = aligned.get(node)
        copy = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            [attribute for attribute in node.attributes.values()],
            overload=node.overload,
            num_outputs=len(node.outputs),
            name=fresh_name(successor(twin.name if twin else None, node.name or "", number), taken),
            version=node.version,
        )
        for index, (old, new) in enumerate(zip(node.outputs, copy.outputs, strict=True)):
            if old.name:
                new.name = fresh_name(successor(twin.outputs[index].name if twin else None, old.name, number), taken)
            else:
                new.name = ""
            values[old] = new
        copy_place(node, copy, copies)
        keep_spelling(node, copy)
        copies[node] = copy
    settle_copies(copies)
    return copies


def _go_on(graph: ir.Graph, node: ir.Node, slot: int, number: float | None, added: int, taken: set[str]) -> None:
    """Write the number of an added layer's own place; without one it keeps that of the layer it is a copy of."""
    value = node.inputs[slot]
    assert value is not None and value.const_value is not None
    if number is None or number_in(value) == number:
        return
    held = value.const_value.numpy()
    name = fresh_name(f"{value.name}__place_plus_{added + 1}", taken)
    tensor = ir.Tensor(np.full(held.shape, number).astype(held.dtype), dtype=value.const_value.dtype, name=name)
    fresh = ir.Value(name=name, shape=value.shape, type=value.type, const_value=tensor)
    fresh.meta.update(value.meta)
    graph.initializers[name] = fresh
    node.replace_input_with(slot, fresh)


def _input(graph: ir.Graph, value: ir.Value, values: dict[ir.Value, ir.Value], names: dict[str, str]) -> ir.Value:
    if value in values:
        return values[value]
    name = names.get(value.name or "")
    if name is None:
        return value
    if name not in graph.initializers:
        graph.initializers[name] = ir.Value(
            name=name, shape=value.shape, type=value.type, const_value=value.const_value
        )
        keep_storage(value, graph.initializers[name])
    return graph.initializers[name]


def successor(before: str | None, last: str, number: int) -> str:
    """Name of the counterpart ``number`` layers after ``last``, given the one in the layer before it.

    ``h.4.ln`` and ``h.5.ln`` continue as ``h.6.ln``; names that do not count get a suffix.
    """
    counting = None if before is None else Numbering.between(before, last, 0)
    return f"{last}__layer_plus_{number}" if counting is None else counting.name(1 + number)
