"""Which dims are the user's interface: those that a graph output shows, or that it was decided over.

From every output the graph is walked back to the last trained weights before it. On the way a dim is seen where the
output carries it, where it is chosen from (an ArgMax, a TopK, a maximum) and where a constant table sums over it (the
bins of a distribution). What lies before the weights is the network's own business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._axes.rules.elementwise import reduced_axes
from bot_onnx._ops import Axes, is_linear, linear_of, measures, record, reduces
from bot_onnx._ops.nodes import behind_views
from bot_onnx._ops.walk import backward
from bot_onnx._patterns.parameters import Parameter


@dataclass(frozen=True, slots=True)
class Interface:
    """What outputs show.

    Attributes:
        outputs: names of the graph outputs by the leaf that they carry or were decided over.
        read: leaves that trained weights contract with activations, or are looked up along: channels of the network.
        live: names of the values that depend on a graph input.
    """

    outputs: Mapping[Dim, tuple[str, ...]]
    read: frozenset[Dim]
    live: frozenset[str]


def find_interface(
    graph: ir.Graph, context: AxisFacts, parameters: Mapping[str, Parameter], constants: frozenset[str]
) -> Interface:
    """Walk back from the outputs of a graph."""
    live = _live(graph)
    found: dict[Dim, dict[str, None]] = {}
    for output in graph.outputs:
        for leaf in _behind(context, output, constants, live):
            found.setdefault(leaf, {})[output.name or ""] = None
    read = _read(context, parameters, constants, live)
    return Interface({leaf: tuple(names) for leaf, names in found.items()}, read, live)


def _live(graph: ir.Graph) -> frozenset[str]:
    live = {value.name or "" for value in graph.inputs if value.const_value is None}
    for node in graph:
        if any(value is not None and value.name in live for value in node.inputs) and not measures(node):
            live.update(output.name or "" for output in node.outputs)
    return frozenset(live)


def _behind(context: AxisFacts, output: ir.Value, constants: frozenset[str], live: frozenset[str]) -> dict[Dim, None]:
    """Leaves that an output shows."""
    found = dict.fromkeys(_static_leaves(context, context.axes_of(output)))

    def shows(node: ir.Node) -> bool:
        return not record(node).gates and not _ends(node, constants, live)

    def reads(node: ir.Node) -> list[ir.Value]:
        return [value for value in node.inputs if value is not None and value.name in live]

    for value in backward(output, shows, reads):
        node = value.producer()
        if node is not None and shows(node):
            found.update(dict.fromkeys(_static_leaves(context, _decided_over(context, node, live))))
    return found


def _ends(node: ir.Node, constants: frozenset[str], live: frozenset[str]) -> bool:
    """Whether a node contracts activations with trained weights."""
    if not is_linear(node):
        return False
    others = [value for value in _factors(node) if value.name not in live]
    return any(getattr(behind_views(value), "name", None) not in constants for value in others)


def _factors(node: ir.Node) -> list[ir.Value]:
    """What a linear map multiplies: all but a bias."""
    found = linear_of(node)
    factors = node.inputs[: found.factors or None] if found is not None else ()
    return [value for value in factors if value is not None]


def _decided_over(context: AxisFacts, node: ir.Node, live: frozenset[str]) -> list[MaybeDim]:
    """Dims that a node on the way to an output takes away: it chooses among them, or sums with constants."""
    dims = context.axes_of(node.inputs[0]) if node.inputs else ()
    if not dims:
        return []
    if (chosen := record(node).chooses) is not None:
        return [dims[node.attributes.get_int("axis", chosen)]]
    if record(node).axes is Axes.REDUCED and reduces(node, "extreme"):
        return [dims[axis] for axis in reduced_axes(context, node, len(dims))]
    # A linear map that does not end the walk: with a constant table, or of two activations, whose sum is their own.
    fixed = is_linear(node) and any(value.name not in live for value in _factors(node))
    return [context.contracted.get(node)] if fixed else []


def _read(
    context: AxisFacts, parameters: Mapping[str, Parameter], constants: frozenset[str], live: frozenset[str]
) -> frozenset[Dim]:
    found: set[Dim] = set()
    for name, parameter in parameters.items():
        if name in constants or not any(_reads_activations(node, live) for node, _ in parameter.uses):
            continue
        for dim, direction in zip(context.axes_of(parameter.value), parameter.directions, strict=True):
            if direction in ("in", "index"):
                found.update(_static_leaves(context, [dim]))
    return frozenset(found)


def _reads_activations(node: ir.Node, live: frozenset[str]) -> bool:
    return any(value is not None and value.name in live for value in node.inputs)


def _static_leaves(context: AxisFacts, dims: Iterable[MaybeDim]) -> list[Dim]:
    table = context.table
    return [
        leaf for dim in dims if dim is not None for leaf in table.leaves(dim) if table.is_static(leaf)
    ]  # fmt: skip
