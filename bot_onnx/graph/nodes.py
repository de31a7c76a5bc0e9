"""Of nodes and values: free names, and what stands behind a view."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx.ops import VIEW, passes_on, walk

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
    """The value that ``value`` is, or is another form of (see :data:`bot_onnx.ops.VIEW`)."""
    return walk.behind(value, lambda node: passes_on(node, VIEW))
