"""Of nodes and values: names of ops across domains, free names, and what stands behind a view."""

from __future__ import annotations

import onnx_ir as ir

#: Ops that show a parameter in another form; what uses the result uses the parameter.
VIEWS = frozenset({"Transpose", "Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape", "DequantizeLinear"})


def op_key(node: ir.Node) -> str:
    """Name of a node's op: ``Op`` in ONNX's own domain, ``domain::Op`` elsewhere."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


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


def behind_views(value: ir.Value | None) -> ir.Value | None:
    """The value that ``value`` is, or is another form of (see :data:`VIEWS`)."""
    while value is not None:
        node = value.producer()
        if node is None or node.op_type not in VIEWS:
            return value
        value = node.inputs[0]
    return None
