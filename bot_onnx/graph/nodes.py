"""Names: of ops across domains, and free ones for what is added to a graph."""

from __future__ import annotations

import onnx_ir as ir


def op_key(node: ir.Node) -> str:
    """Name of a node's op: ``Op`` in ONNX's own domain, ``domain::Op`` elsewhere."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def fresh_name(name: str, taken: set[str]) -> str:
    """``name``, or ``name_2``, ``name_3``… if it is taken; the result is taken from then on."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate)
    return candidate
