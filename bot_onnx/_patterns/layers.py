"""Find the repeated layers of a graph, and line up what corresponds in them.

Along the data flow some nodes lie on every path from the first weighted node to an output: its forward dominators.
They are the joints of the network (residual additions, norms between blocks). What lies between two joints is a
segment; segments are compared by a canonical serialisation of their nodes, and a tandem repeat of segments
(A M A M A M …) is a chain of layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import onnx
import onnx_ir as ir

from bot_onnx._axes.dims import Pair
from bot_onnx._canonical.control_flow import bodies_of
from bot_onnx._ops import VIEW, passes_on, record
from bot_onnx._ops.nodes import FLOATS, behind_views, needed_nodes, node_inputs
from bot_onnx._ops.walk import backward
from bot_onnx._patterns.alike import numbered
from bot_onnx._patterns.flow import Flow
from bot_onnx._patterns.mixed_layers import layers_in_turn
from bot_onnx._patterns.partial_first_layer import LeadingLayer, leading_layer

_FEWEST_JOINTS = 2  #: a path needs more joints than these to have two segments


@dataclass(frozen=True, slots=True)
class Segment:
    """The nodes between two joints.

    Attributes:
        start, end: the joints; ``start`` is not part of the segment.
        nodes: in canonical order (depth first from ``end``), side computations that only this segment uses included.
        parameters: initializers in the same order, one entry per use.
        outside: values that are read from elsewhere, in the same order: masks, rotary tables.
        signature: equal for structurally equal segments.
        shown: equal for segments that differ in how they say the target of a Reshape, and reshape alike all the same.
    """

    start: ir.Node
    end: ir.Node
    nodes: list[ir.Node]
    parameters: list[ir.Value]
    outside: list[ir.Value]
    signature: tuple[tuple[object, ...], ...]
    shown: tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """Names of values computed from shapes alone, and the sizes that values had in two runs, by name.

    Many paths may lead through one node: what is said of its attributes and parameters is held.
    """

    arithmetic: set[str]
    shapes: Mapping[str, tuple[Pair, ...]]
    attributes: dict[ir.Node, tuple[object, ...]] = field(default_factory=dict)
    parameters: dict[ir.Value, tuple[object, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: ``period`` segments in a row, with their joints in order."""

    joints: list[ir.Node]
    start: ir.Node
    end: ir.Node
    nodes: list[ir.Node]
    parameters: list[ir.Value]
    outside: list[ir.Value]


@dataclass(frozen=True, slots=True)
class LayerChain:
    """Structurally equal layers in a row; entries of ``nodes``, ``parameters`` and ``outside`` correspond.

    ``within`` is how many layers each of them is that take turns in what they do.
    """

    layers: list[Layer]
    period: int
    leading: LeadingLayer | None = None  # a first layer that is not quite like the others
    within: int = 1


def find_chains(graph: ir.Graph, arithmetic: set[str], shapes: Mapping[str, tuple[Pair, ...]]) -> list[LayerChain]:
    """All chains of layers of ``graph``, in the order in which they end: an encoder before its decoder.

    Args:
        arithmetic: names of values computed from shapes alone; they tie nothing together.
        shapes: of values in two runs, by name.
    """
    known = _Known(arithmetic, shapes)
    flow = data_flow(graph, arithmetic)
    chains: list[LayerChain] = []
    claimed: set[ir.Node] = set()

    def search(within: Flow[ir.Node], joints: Sequence[ir.Node]) -> None:
        for chain in _repeats(_segments(within, joints, known)) if len(joints) > _FEWEST_JOINTS else ():
            chains.append(chain)
            claimed.update(node for layer in chain.layers for node in layer.nodes)
            claimed.update(chain.leading.nodes if chain.leading is not None else ())

    for start in _starts(flow):
        if start in claimed:
            continue
        search(flow, _joints(flow, start, claimed))
    for inside in _inside_bodies(graph, flow):
        search(inside, _longest_path(inside, claimed))
    order = {node: index for index, node in enumerate(graph)}
    return sorted(chains, key=lambda chain: order[chain.layers[-1].end])


def _inside_bodies(graph: ir.Graph, flow: Flow[ir.Node]) -> Iterator[Flow[ir.Node]]:
    """Data flow inside every body of control flow, with the nodes around it that it reads: the two branches of an If
    lie side by side, so that no path through both of them has layers.
    """
    bodies = bodies_of(graph)
    members: dict[tuple[ir.Node, int], set[ir.Node]] = {}
    for node in flow:
        body = bodies.get(node)
        while body is not None:
            members.setdefault((body.join, body.index), set()).add(node)
            body = bodies.get(body.join)
    for nodes in members.values():
        read = {before for node in nodes for before in flow.before(node)}
        inside = Flow(node for node in flow if node in nodes or node in read)
        for node in inside:
            for before in flow.before(node) if node in nodes else ():
                if before in inside:
                    inside.connect(before, node)
        yield inside


def _longest_path(flow: Flow[ir.Node], claimed: set[ir.Node]) -> list[ir.Node]:
    """The joints of the path with most of them, from any node that nothing comes before."""
    starts = [node for node in flow if not flow.before(node)]
    return max((_joints(flow, start, claimed - {start}) for start in starts), key=len, default=[])


def data_flow(graph: ir.Graph, arithmetic: set[str]) -> Flow[ir.Node]:
    """Data flow between nodes, without shape arithmetic and without what only shape arithmetic reads."""
    flow: Flow[ir.Node] = Flow()
    useful = needed_nodes(graph, skip=lambda node: _is_arithmetic(node, arithmetic))
    for node in graph:
        if node not in useful:
            continue
        flow.add(node)
        for value in node_inputs(node):
            producer = value.producer()
            if producer is not None and producer in flow:
                flow.connect(producer, node)
    return flow


def _is_arithmetic(node: ir.Node, arithmetic: set[str]) -> bool:
    return all((output.name or "") in arithmetic for output in node.outputs)


def is_weighted(node: ir.Node) -> bool:
    """Whether a node computes with a floating-point parameter of two or more axes, in whatever form."""
    if passes_on(node, VIEW) and _shown(node.inputs[0]) is not None:
        return False
    return any(map(_shown, node.inputs))


def _shown(value: ir.Value | None) -> ir.Value | None:
    """The parameter of two or more axes that a value is, or is another form of."""
    found = behind_views(value)
    if found is None or not _is_parameter(found):
        return None
    assert found.const_value is not None
    return found if len(found.const_value.shape) > 1 or found is not value else None


def _is_parameter(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and tensor.dtype in FLOATS and tensor.size > 1


def _starts(flow: Flow[ir.Node]) -> list[ir.Node]:
    """Weighted nodes with no weighted node before them, in graph order."""
    after: set[ir.Node] = set()
    starts: list[ir.Node] = []
    for node in flow:
        if any(before in after for before in flow.before(node)):
            after.add(node)
        elif is_weighted(node):
            after.add(node)
            starts.append(node)
    return starts


def _joints(flow: Flow[ir.Node], start: ir.Node, claimed: set[ir.Node]) -> list[ir.Node]:
    """Dominators from ``start`` to the end that lies behind most of them, up to the first claimed node."""
    dominators = flow.dominators(start)
    best: list[ir.Node] = []
    depth: dict[ir.Node, int] = {start: 0}
    for node in flow:  # graph order: a dominator comes before what it dominates
        if node in dominators:
            depth[node] = depth[dominators[node]] + 1
    # An output that something else reads shows the inside of a path; paths end where nothing follows. What only shape
    # arithmetic reads is no end.
    ends = [node for node in depth if not flow.after(node)]
    ends = [node for node in ends if any(output.is_graph_output() for output in node.outputs)] or ends
    node = max(ends, key=lambda n: depth[n])
    while node is not start:
        best.append(node)
        node = dominators[node]
    best.append(start)
    best.reverse()
    for index, joint in enumerate(best):
        if joint in claimed:
            return best[:index]
    return best


def _segments(flow: Flow[ir.Node], joints: Sequence[ir.Node], known: _Known) -> list[Segment]:
    owner = _owners(flow, joints)
    return [_segment(start, end, index, owner, known) for index, (start, end) in enumerate(pairwise(joints))]


def _owners(flow: Flow[ir.Node], joints: Sequence[ir.Node]) -> dict[ir.Node, int]:
    """Segment index per node: a node belongs to a segment if everything it feeds does.

    Walking backwards, a node whose consumers lie in one segment joins it, unless it is the joint before it. Nodes that
    feed several segments (masks, rotary tables) belong to none. What only shape arithmetic or a graph output sees, and
    not the end of the path, says nothing of where its inputs belong.
    """
    seen = flow.ancestors(joints[-1]) | {joints[-1]}
    end_of = {joint: index for index, joint in enumerate(joints[1:])}
    starts = set(joints)
    owner: dict[ir.Node, int] = {}
    for node in reversed(list(flow)):
        if node in end_of:
            owner[node] = end_of[node]
            continue
        if node in starts:
            continue
        owners = {owner.get(consumer, -1) for consumer in flow.after(node) if consumer in seen}
        if len(owners) == 1 and -1 not in owners:
            (owner[node],) = owners
    return owner


def _segment(start: ir.Node, end: ir.Node, index: int, owner: dict[ir.Node, int], known: _Known) -> Segment:
    """Serialise a segment depth first from its end."""

    def inside(node: ir.Node) -> bool:
        return node is end or (node is not start and owner.get(node) == index)

    makers = (value.producer() for value in backward(end.outputs, inside))
    nodes = list(dict.fromkeys(node for node in makers if node is not None and inside(node)))
    position = {node: number for number, node in enumerate(nodes)}
    parameters: list[ir.Value] = []
    signature: list[tuple[object, ...]] = []
    shown: list[tuple[object, ...]] = []
    outside: list[ir.Value] = []
    for node in nodes:
        references: list[object] = []
        reshaped = None
        for slot, value in enumerate(node.inputs):
            references.append(_reference(value, start, position, known))
            if value is not None and references[-1] == "outside":
                outside.append(value)
            if slot == 1 and node.op_type == "Reshape":
                reshaped = known.shapes.get(node.outputs[0].name or "")
            elif value is not None and value.const_value is not None:
                parameters.append(value)
        if record(node).commutative:  # which side of a residual sum the skip stands on says nothing
            references.sort(key=lambda reference: isinstance(reference, tuple) and reference[0] == "start")
        if node not in known.attributes:
            known.attributes[node] = _attributes(node)
        signature.append((node.domain, node.op_type, len(node.outputs), known.attributes[node], tuple(references)))
        same = reshaped is not None and references[1] != "outside"
        shown.append((node.domain, node.op_type, references[0], reshaped) if same else signature[-1])
    return Segment(start, end, nodes, parameters, outside, tuple(signature), tuple(shown))


def _reference(value: ir.Value | None, start: ir.Node, position: dict[ir.Node, int], known: _Known) -> object:
    """What an input is, without names: nothing, the joint before, a node inside, a parameter, or something outside."""
    if value is None:
        return None
    tensor = value.const_value
    if tensor is not None:
        if value not in known.parameters:
            small = tensor.dtype.is_integer() and tensor.size <= 8
            content = tuple(tensor.numpy().reshape(-1).tolist()) if small else ()
            known.parameters[value] = ("parameter", int(tensor.dtype), tuple(tensor.shape.numpy()), content)
        return known.parameters[value]
    producer = value.producer()
    if producer is None:
        return ("input", int(value.dtype or 0))
    if producer is start:
        return ("start", value.index())
    if producer in position:
        return ("node", position[producer], value.index())
    return "shape" if (value.name or "") in known.arithmetic else "outside"


def _attributes(node: ir.Node) -> tuple[object, ...]:
    """Attributes by name; one that spells out its default says no more than one left out."""
    version = node.graph.opset_imports.get(node.domain, 0) if node.graph is not None else 0
    defaults = _defaults(node.domain, node.op_type, version)
    return tuple(
        (name, repr(attribute.value) if attribute.type != ir.AttributeType.GRAPH else id(node))
        for name, attribute in sorted(node.attributes.items())
        if attribute.type == ir.AttributeType.GRAPH or defaults.get(name, _NO_DEFAULT) != attribute.value
    )


_NO_DEFAULT = object()


@lru_cache(maxsize=1024)
def _defaults(domain: str, op_type: str, version: int) -> dict[str, object]:
    """Default values of an op's attributes; none for an op that ONNX does not define."""
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return {}
    return {
        name: ir.serde.deserialize_attribute(attribute.default_value).value
        for name, attribute in schema.attributes.items()
        if attribute.default_value.type in (onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT)
    }


def _repeats(segments: list[Segment]) -> list[LayerChain]:
    """Tandem repeats of segments in order; what the largest leaves before and after is searched again."""
    ids = _identities(segments)
    found: dict[int, LayerChain] = {}
    spans = [(0, len(ids))]
    while spans:
        low, high = spans.pop()
        best = _longest_repeat(ids, low, high, segments)
        if best is None:
            continue
        start, period, count = best
        layers = [_layer(segments[start + k * period : start + (k + 1) * period]) for k in range(count)]
        leading = None
        if start - period >= low:
            leading = leading_layer(segments[start - period : start], segments[start : start + period])
        kinds = [(ids[at], _matrices(segments[at])) for at in range(start, start + period)]
        found[start] = LayerChain(layers, period, leading, layers_in_turn(kinds))
        spans += [(low, start - (period if leading else 0)), (start + period * count, high)]
    return [chain for _, chain in sorted(found.items())]


def _matrices(segment: Segment) -> tuple[tuple[int, ...], ...]:
    tensors = (value.const_value for value in segment.parameters if _is_parameter(value))
    shapes = (tuple(tensor.shape.numpy()) for tensor in tensors if tensor is not None)
    return tuple(sorted(shape for shape in shapes if len(shape) > 1))


def _identities(segments: Sequence[Segment]) -> list[int]:
    """A number per segment, the same for those that are written down alike, or reshape alike in other words."""
    return numbered((("written", segment.signature), ("shown", segment.shown)) for segment in segments)


def _longest_repeat(ids: list[int], low: int, high: int, segments: list[Segment]) -> tuple[int, int, int] | None:
    """(start, period, count) of the repeat that covers most segments; ties go to the shortest period.

    Only distances between equal segments are tried as periods. Where a repeat could start at several places, the
    latest is taken: what comes before the first layer (an embedding's norm) is then not mistaken for part of it.
    """
    last: dict[int, int] = {}
    periods: set[int] = set()
    for index in range(low, high):
        if ids[index] in last:
            periods.add(index - last[ids[index]])
        last[ids[index]] = index
    best: tuple[int, int, int] | None = None
    cover = 0
    for period in sorted(periods):
        run = 0
        for index in range(low, high - period + 1):
            if index + period < high and ids[index] == ids[index + period]:
                run += 1
                continue
            count = (run + period) // period if run else 0
            start = index + period - count * period
            weighted = count > 1 and any(
                is_weighted(node) for s in segments[start : start + period] for node in s.nodes
            )
            if weighted and count * period > cover:
                best, cover = (start, period, count), count * period
            run = 0
    return best


def _layer(segments: list[Segment]) -> Layer:
    return Layer(
        [segments[0].start, *(segment.end for segment in segments)],
        segments[0].start,
        segments[-1].end,
        [node for segment in segments for node in segment.nodes],
        [value for segment in segments for value in segment.parameters],
        [value for segment in segments for value in segment.outside],
    )
