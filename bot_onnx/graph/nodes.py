"""Names: of ops across domains, and free ones for what is added to a graph."""

from __future__ import annotations

import onnx_ir as ir


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
