"""Bodies of If, Loop and Scan, inlined in the main graph for the analysis and put back when a graph is written.

The analysis reads one flat graph. So the nodes of a body move up into the graph around it, and two kinds of marks say
where they belong: an *entry* makes what the body of a Loop or Scan is given, a *join* takes what a body (or both
branches of an If) returns and makes what the op makes. Every moved node knows its body: the join, and which of its
bodies. A node that is added later belongs where what it reads belongs.

No mark is ever written to a file or run: :func:`nested_protos` puts the bodies back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from bot_onnx._ops import MARKS, record
from bot_onnx._ops.nodes import fresh_name, names_in
from bot_onnx._ops.walk import behind

_LOOP_SCALARS = 2  # the counter and the condition come before what a Loop carries
_BODY, _ENTRY, _TYPES, _INPUT_TYPES = "body", "entry", "types", "input_types"


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """Where a node stands: body number ``index`` of what ``join`` ends."""

    join: ir.Node
    index: int


def is_join(node: ir.Node) -> bool:
    """Whether a node ends the bodies of an If, Loop or Scan."""
    return node.domain == MARKS and not node.op_type.endswith("Entry")


def is_entry(node: ir.Node) -> bool:
    """Whether a node stands for what the body of a Loop or Scan is given."""
    return node.domain == MARKS and node.op_type.endswith("Entry")


def entry_of(join: ir.Node) -> ir.Node | None:
    """The entry that belongs to a join; None for an If."""
    entry: ir.Node | None = join.meta.get(_ENTRY)
    return entry


def returned(join: ir.Node, index: int) -> list[ir.Value | None]:
    """What body ``index`` returns."""
    if join.op_type == "If":
        count = len(join.outputs)
        return list(join.inputs[1 + index * count : 1 + (index + 1) * count])
    return list(join.inputs[1:])


# -- inlining ----------------------------------------------------------------------------------------------------------


def inline_bodies(graph: ir.Graph) -> None:
    """Move the bodies of all If, Loop and Scan nodes into ``graph``, in place. Names become unique throughout."""
    if not any(_is_flow(node) for node in graph):
        return
    _Inliner(graph, names_in(graph)).inline(graph)


def _is_flow(node: ir.Node) -> bool:
    return bool(record(node).bodies) and node.domain in ("", "ai.onnx")


class _Inliner:
    def __init__(self, main: ir.Graph, taken: set[str]) -> None:
        self._main = main
        self._taken = taken

    def inline(self, graph: ir.Graph) -> None:
        """Inline every control-flow node of ``graph``, the innermost first."""
        for node in list(graph):
            if not _is_flow(node):
                continue
            bodies = [node.attributes[name].as_graph() for name in record(node).bodies]
            for body in bodies:
                self._rename(body)
                self.inline(body)
            self._replace(graph, _without_constants(graph, node), bodies)

    def _rename(self, body: ir.Graph) -> None:
        values = [*body.inputs, *body.initializers.values(), *(v for node in body for v in node.outputs)]
        held = dict(body.initializers)
        body.initializers.clear()
        for value in values:
            if value.name:
                value.name = fresh_name(value.name, self._taken)
        for value in held.values():
            self._main.initializers[value.name or ""] = value

    def _replace(self, graph: ir.Graph, node: ir.Node, bodies: list[ir.Graph]) -> None:
        made = [list(body.outputs) for body in bodies]
        given = [value for body in bodies for value in body.inputs]
        types = [[_declared(value) for value in values] for values in made]
        taken = [_declared(value) for value in given]
        for body in bodies:
            body.outputs.clear()
            body.inputs.clear()
        entry: ir.Node | None = None
        inputs: list[ir.Value | None]
        if node.op_type == "If":
            inputs = [node.inputs[0], *(value for values in made for value in values)]
        else:
            entry = _mark(f"{node.op_type}Entry", node, list(node.inputs), len(given) or 1)
            for value, output in zip(given, entry.outputs, strict=False):
                output.name, output.type = value.name, value.type
                ir.convenience.replace_all_uses_with(value, output)
            if not given:
                entry.outputs[0].name = fresh_name(f"{node.name}__entered", self._taken)
            made = [[self._given(value, given, entry) for value in values] for values in made]
            graph.insert_before(node, entry)
            inputs = [entry.outputs[0], *made[0]]
        join = _mark(node.op_type, node, inputs, len(node.outputs))
        join.meta[_TYPES] = types
        if entry is not None:
            join.meta[_ENTRY] = entry
            join.meta[_INPUT_TYPES] = taken
        for index, body in enumerate(bodies):
            nodes = list(body)
            body.remove(nodes)
            graph.insert_before(node, nodes)
            for moved in nodes:
                if moved.meta.get(_BODY) is None:
                    moved.meta[_BODY] = Body(join, index)
        graph.insert_before(node, join)
        for old, new in zip(node.outputs, join.outputs, strict=True):
            new.name, new.type, new.shape = old.name, old.type, old.shape
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        graph.remove(node, safe=True)

    @staticmethod
    def _given(value: ir.Value, given: list[ir.Value], entry: ir.Node) -> ir.Value:
        """An output of a body that is one of its inputs is an output of the entry."""
        return next((new for old, new in zip(given, entry.outputs, strict=False) if old is value), value)


def _without_constants(graph: ir.Graph, node: ir.Node) -> ir.Node:
    """A Loop without what it carries round unchanged (weights, often): the body reads that from around it instead."""
    if node.op_type != "Loop":
        return node
    body = node.attributes["body"].as_graph()
    returned_values = [_through_identity(value) for value in body.outputs]
    dropped = [
        slot
        for slot, value in enumerate(body.inputs[_LOOP_SCALARS:])
        if returned_values[slot + 1] is value
        and sum(back is value for back in returned_values) == 1
        and not node.outputs[slot].is_graph_output()
    ]
    if not dropped:
        return node
    given, made = list(body.inputs), list(body.outputs)
    body.inputs.clear()
    body.outputs.clear()
    body.inputs.extend(value for i, value in enumerate(given) if i - _LOOP_SCALARS not in dropped)
    body.outputs.extend(value for i, value in enumerate(made) if i - 1 not in dropped)
    for slot in dropped:
        source = node.inputs[slot + _LOOP_SCALARS]
        assert source is not None
        ir.convenience.replace_all_uses_with(given[slot + _LOOP_SCALARS], source)
        ir.convenience.replace_all_uses_with(node.outputs[slot], source)
    inputs = [v for i, v in enumerate(node.inputs) if i - _LOOP_SCALARS not in dropped]
    outputs = [v for i, v in enumerate(node.outputs) if i not in dropped]
    attributes = list(node.attributes.values())
    smaller = ir.Node(node.domain, "Loop", inputs, attributes, num_outputs=len(outputs), name=node.name)
    graph.insert_before(node, smaller)
    for old, new in zip(outputs, smaller.outputs, strict=True):
        new.name, new.type, new.shape = old.name, old.type, old.shape
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return smaller


def _through_identity(value: ir.Value) -> ir.Value:
    return behind(value, lambda node: node.op_type == "Identity") or value


def _mark(kind: str, node: ir.Node, inputs: list[ir.Value | None], outputs: int) -> ir.Node:
    plain = [a for a in node.attributes.values() if a.type != ir.AttributeType.GRAPH]
    mark = ir.Node(MARKS, kind, inputs, plain, num_outputs=outputs, name=node.name)
    mark.meta[_BODY] = None  # where the op itself stands: set when its own surroundings are inlined
    return mark


# -- belonging ---------------------------------------------------------------------------------------------------------


def bodies_of(nodes: Iterable[ir.Node]) -> dict[ir.Node, Body | None]:
    """The body of every node, given all nodes in topological order; None: the main graph."""
    found: dict[ir.Node, Body | None] = {}
    inside: dict[ir.Node, Body] = {}  # of entries: the body that they open
    nodes = list(nodes)
    if not any(node.domain == MARKS for node in nodes):
        return dict.fromkeys(nodes)
    for node in nodes:
        if is_join(node) and (entry := entry_of(node)) is not None:
            inside[entry] = Body(node, 0)
    for node in nodes:
        if _BODY in node.meta:
            found[node] = node.meta[_BODY]
            continue
        around = [body for value in node.inputs if (body := _home(value, found, inside)) is not None]
        found[node] = max(around, key=lambda body: depth(body, found), default=None)
    return found


def _home(value: ir.Value | None, found: dict[ir.Node, Body | None], inside: dict[ir.Node, Body]) -> Body | None:
    producer = value.producer() if value is not None else None
    if producer is None:
        return None
    return inside.get(producer) or found.get(producer)


def depth(body: Body | None, bodies: dict[ir.Node, Body | None]) -> int:
    """How many bodies lie around a node in ``body``."""
    levels = 0
    while body is not None:
        levels += 1
        body = bodies.get(body.join)
    return levels


def copy_place(original: ir.Node, copy: ir.Node, copies: dict[ir.Node, ir.Node]) -> None:
    """Let a copy of a node stand where the original stands, or in the copies of its bodies."""
    for key in (_TYPES, _INPUT_TYPES):
        if key in original.meta:
            copy.meta[key] = original.meta[key]
    if _ENTRY in original.meta:
        copy.meta[_ENTRY] = copies.get(original.meta[_ENTRY], original.meta[_ENTRY])
    if _BODY in original.meta:
        body: Body | None = original.meta[_BODY]
        copy.meta[_BODY] = body


def settle_copies(copies: dict[ir.Node, ir.Node]) -> None:
    """After all nodes of a layer are copied: those inside bodies belong to the copied joins."""
    for copy in copies.values():
        body = copy.meta.get(_BODY)
        if body is not None and body.join in copies:
            copy.meta[_BODY] = Body(copies[body.join], body.index)


# -- putting back ------------------------------------------------------------------------------------------------------


def nested_protos(nodes: Iterable[ir.Node], inlined: Iterable[Body] = ()) -> list[onnx.NodeProto]:
    """Messages of the nodes with all bodies put back.

    Args:
        nodes: in topological order, bodies inlined.
        inlined: bodies whose nodes stay in the main graph, run once as their first iteration is; their joins are left
            out, and so must be what reads them.
    """
    ordered = list(nodes)
    if not any(node.domain == MARKS for node in ordered):
        return [ir.serde.serialize_node(node) for node in ordered]
    writer = _Writer(ordered, [(body.join, body.index) for body in inlined])
    return writer.write(writer.members[None])


class _Writer:
    def __init__(self, nodes: list[ir.Node], inlined: list[tuple[ir.Node, int]]) -> None:
        self._inlined = inlined
        self._joins = {join for join, _ in inlined}
        self._entries = {entry_of(join) for join in self._joins}
        self._taken = {value.name or "" for node in nodes for value in node.outputs}
        self.members: dict[tuple[ir.Node, int] | None, list[ir.Node]] = {None: []}
        bodies = bodies_of(nodes)
        for node in nodes:
            body = bodies[node]
            place = None if body is None or (body.join, body.index) in inlined else (body.join, body.index)
            self.members.setdefault(place, []).append(node)

    def write(self, nodes: list[ir.Node]) -> list[onnx.NodeProto]:
        """Messages of the nodes of one body."""
        protos: list[onnx.NodeProto] = []
        for node in nodes:
            if is_join(node):
                if node not in self._joins:
                    protos.append(self._join(node))
            elif not is_entry(node):
                protos.append(ir.serde.serialize_node(node))
            elif node in self._entries:
                protos.extend(_first_iteration(node))
        return protos

    def _join(self, join: ir.Node) -> onnx.NodeProto:
        entry = entry_of(join)
        sources = join.inputs[:1] if entry is None else entry.inputs
        proto = onnx.NodeProto(op_type=join.op_type, name=join.name or "")
        proto.input.extend("" if value is None else value.name or "" for value in sources)
        proto.output.extend(value.name or "" for value in join.outputs)
        for attribute in join.attributes.values():
            assert isinstance(attribute, ir.Attr)
            proto.attribute.append(ir.serde.serialize_attribute(attribute))
        for index, name in enumerate(record(join).bodies):
            proto.attribute.append(onnx.helper.make_attribute(name, self._body(join, index, name)))
        return proto

    def _body(self, join: ir.Node, index: int, name: str) -> onnx.GraphProto:
        members = self.members.get((join, index), [])
        graph = onnx.GraphProto(name=f"{join.name or join.op_type}_{name}")
        graph.node.extend(self.write(members))
        entry = entry_of(join)
        if entry is not None:
            for position, (given, kind) in enumerate(zip(entry.outputs, join.meta[_INPUT_TYPES], strict=False)):
                counts = join.op_type == "Loop" and position < _LOOP_SCALARS
                graph.input.append(_port(join, given.name or "", kind, scalar=counts))
        own = {value for node in members for value in node.outputs if not is_entry(node)}
        done: set[str] = set()
        for value, kind in zip(returned(join, index), join.meta[_TYPES][index], strict=True):
            assert value is not None
            outcome = value.name or ""
            if value not in own or outcome in done:  # a body returns what it makes, each once
                outcome = fresh_name(f"{value.name}__returned", self._taken)
                graph.node.append(onnx.helper.make_node("Identity", [value.name or ""], [outcome], name=outcome))
            done.add(outcome)
            graph.output.append(_port(join, outcome, kind))
        return graph


def _first_iteration(entry: ir.Node) -> list[onnx.NodeProto]:
    """Nodes that make what a body is given the first time round."""
    inputs = [value.name or "" if value is not None else "" for value in entry.inputs]
    names = [value.name or "" for value in entry.outputs]
    make = onnx.helper.make_node
    if entry.op_type == "LoopEntry":
        counter = onnx.helper.make_tensor("zero", onnx.TensorProto.INT64, [], [0])
        going = onnx.helper.make_tensor("true", onnx.TensorProto.BOOL, [], [True])
        constants = [
            make("Constant", [], [name], value=value) for name, value in zip(names, (counter, going), strict=False)
        ]
        return [*constants, *(make("Identity", [a], [b]) for a, b in zip(inputs[2:], names[2:], strict=True))]
    scanned, axes = scan_axes(entry)
    states = len(inputs) - scanned
    nodes = [make("Identity", [a], [b]) for a, b in zip(inputs[:states], names[:states], strict=True)]
    first = f"{names[0]}__first"
    nodes.append(make("Constant", [], [first], value=onnx.helper.make_tensor("zero", onnx.TensorProto.INT64, [], [0])))
    slices = zip(inputs[states:], names[states:], axes, strict=True)
    return [*nodes, *(make("Gather", [a, first], [b], axis=axis) for a, b, axis in slices)]


def scan_axes(mark: ir.Node) -> tuple[int, list[int]]:
    """How many inputs a Scan runs along, and along which axis of each."""
    count = mark.attributes.get_int("num_scan_inputs", 0)
    axes = list(mark.attributes["scan_input_axes"].as_ints()) if "scan_input_axes" in mark.attributes else [0] * count
    return count, axes


Declared = tuple[ir.TypeProtocol | None, int | None]  #: type and number of axes, where a body's port says them


def _declared(value: ir.Value) -> Declared:
    return value.type, None if value.shape is None else len(value.shape)


def _port(join: ir.Node, name: str, declared: Declared, *, scalar: bool = False) -> onnx.ValueInfoProto:
    """A value with its type and, but for scalars, no sizes: the file's own may be stale.

    onnxruntime wants to know how many axes the outputs of a Scan's body have, which cannot change as it runs.
    """
    kind, rank = declared
    proto = ir.serde.serialize_value(ir.Value(name=name, type=kind))
    if proto.type.HasField("tensor_type"):
        proto.type.tensor_type.ClearField("shape")
        if scalar:
            proto.type.tensor_type.shape.SetInParent()
        elif join.op_type == "Scan" and rank is not None:
            proto.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in range(rank))
            proto.type.tensor_type.shape.SetInParent()
    return proto
