"""Views that lead back to where they started: Reshape, Squeeze and their like, Transpose, and ops that undo each other.

None of the first kind moves an element, so that equal shapes mean equal values. The composition of transpositions is
one more.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._canonical.spelling.neutral import step_of
from bot_onnx._canonical.spelling.seen import Seen, numbers
from bot_onnx._canonical.spelling.source_spelling import Step, steps_before
from bot_onnx._ops import Move, passes_on

_UNDONE = frozenset({"Neg", "Not"})  #: twice is nothing
_FAR = 8

Found = tuple[ir.Value, tuple[Step, ...] | None]


def way_back(node: ir.Node, seen: Seen) -> Found | None:
    """A value before ``node`` that its result equals, with the steps from there; None: there is none."""
    if node.domain not in ("", "ai.onnx") or not node.inputs or node.outputs[0].name in seen.arithmetic:
        return None
    if _regroups(node):
        return _same_shape(node, seen)
    if node.op_type == "Transpose":
        return _turned_back(node, seen)
    return _undone(node, seen) if node.op_type in _UNDONE else None


def _regroups(node: ir.Node) -> bool:
    """Whether a node is an op of ONNX's that gives its elements other axes, in the same order."""
    return node.domain in ("", "ai.onnx") and passes_on(node, Move.RESHAPED)


def _same_shape(node: ir.Node, seen: Seen) -> Found | None:
    wanted = seen.shape(node.outputs[0])
    passed: list[ir.Node] = []
    current: ir.Node | None = node
    while wanted is not None and current is not None and _regroups(current) and len(passed) < _FAR:
        passed.insert(0, current)
        value = current.inputs[0]
        if value is None or _follows_sizes(current, seen):
            return None
        if seen.shape(value) == wanted:
            return value, _steps(passed, seen)
        current = value.producer()
    return None


def _follows_sizes(node: ir.Node, seen: Seen) -> bool:
    """Whether a Squeeze of whatever is 1 may find more of these at other input sizes than the two that were seen."""
    if node.op_type != "Squeeze" or numbers(node, 1, "axes") is not None:
        return False
    return any(first != second for first, second in seen.shape(node.inputs[0]) or ())


def _turned_back(node: ir.Node, seen: Seen) -> Found | None:
    order: list[int] | None = None
    passed: list[ir.Node] = []
    current: ir.Node | None = node
    while current is not None and current.op_type == "Transpose" and len(passed) < _FAR:
        perm = permutation(current, seen)
        value = current.inputs[0]
        if perm is None or value is None:
            return None
        order = perm if order is None else [perm[axis] for axis in order]
        passed.insert(0, current)
        if order == sorted(order):
            return value, _steps(passed, seen)
        current = value.producer()
    return None


def permutation(node: ir.Node, seen: Seen) -> list[int] | None:
    """Order of axes that a Transpose gives; None where it is left out and the rank is not known."""
    if "perm" in node.attributes:
        return list(node.attributes["perm"].as_ints())
    rank = seen.rank(node.inputs[0])
    return None if rank is None else list(range(rank))[::-1]


def _undone(node: ir.Node, seen: Seen) -> Found | None:
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    if before is None or before.op_type != node.op_type or before.domain != node.domain or before.inputs[0] is None:
        return None
    return before.inputs[0], _steps([before, node], seen)


def _steps(nodes: list[ir.Node], seen: Seen) -> tuple[Step, ...] | None:
    """Steps through ``nodes``; None where one of them names a size that the result does not have."""
    steps: list[Step] = []
    for node in nodes:
        regrouped = node.op_type == "Reshape" and seen.shape(node.inputs[0]) != seen.shape(node.outputs[0])
        computed = node.op_type in ("Squeeze", "Unsqueeze") and numbers(node, 1, "axes") is None
        step = None if regrouped or computed else step_of(node, 0, seen)
        if step is None:
            return None
        steps += [*steps_before(node, 0), step]
    return tuple(steps)
