"""Of nodes and values: what a node reads, what stands behind a view, free names."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bot_onnx._ops import VIEW, passes_on, record, walk

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})

#: Attribute of what fills a tensor with one number.
FILL = "value"

_TYPES = frozenset(int(kind) for kind in ir.DataType)


def names_in(graph: ir.Graph) -> set[str]:
    """Every name in use in a graph: of nodes and of values."""
    taken = {*graph.initializers, *(value.name or "" for value in graph.inputs)}
    for node in graph:
        taken.add(node.name or "")
        taken.update(output.name or "" for output in node.outputs)
    return taken


def fresh_name(name: str, taken: set[str]) -> str:
    """``name``, or ``name_2``, ``name_3``… if it is taken; the result is taken from then on."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate


def cast_target(node: ir.Node) -> ir.DataType | None:
    """The type that a Cast gives; None where its number is of no type."""
    number = node.attributes.get_int("to", 0)
    return ir.DataType(number) if number in _TYPES else None


def behind_views(value: ir.Value | None) -> ir.Value | None:
    """The value that ``value`` is, or is another form of (see :data:`bot_onnx._ops.VIEW`)."""
    return walk.behind(value, lambda node: passes_on(node, VIEW))


def node_inputs(node: ir.Node) -> list[ir.Value]:
    """Values a node reads: its inputs, and for an op with bodies the outer values that they capture."""
    values = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                values.extend(v for v in inner.inputs if v is not None and v.graph is node.graph)
    return values


def needed_nodes(graph: ir.Graph, skip: Callable[[ir.Node], bool] | None = None) -> set[ir.Node]:
    """Nodes that some output depends on, ways through nodes that ``skip`` names left out."""
    needed = walk.backward(graph.outputs, lambda node: skip is None or not skip(node), node_inputs)
    return {node for value in needed if (node := value.producer()) is not None and (skip is None or not skip(node))}


def is_float(value: ir.Value) -> bool:
    """Whether ``value`` is an initializer that holds floating-point numbers."""
    return value.const_value is not None and value.const_value.dtype in FLOATS


def filled_with(node: ir.Node) -> float | None:
    """The floating-point number that a node fills a tensor with, as its attribute :data:`FILL` says; None: none."""
    held = node.attributes.get(FILL)
    if not record(node).fills or held is None or held.type != ir.AttributeType.TENSOR:
        return None
    tensor = held.as_tensor()
    return float(tensor.numpy().reshape(-1)[0]) if tensor.size == 1 and tensor.dtype in FLOATS else None


def number_in(value: ir.Value | None) -> float | None:
    """The number that ``value`` is: an initializer of one element, of a floating-point type; None where it is none."""
    if value is None or not is_float(value):
        return None
    tensor = value.const_value
    return float(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None
