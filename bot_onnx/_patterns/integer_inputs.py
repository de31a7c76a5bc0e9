"""Whether numbers come from a graph input as they are: ids of tokens, of positions, of letters."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._ops import Calc, Move, computes, keeps_indices, passes_on

#: What a choice between a number and another, by its sign, is made of.
_CHOOSING = (Calc.ORDER, Calc.LOGIC, Calc.SUM, Calc.PRODUCT)


def from_integer_input(value: ir.Value | None) -> bool:
    """Whether indices are a graph input, maybe with negative ones counted from the end."""
    while value is not None:
        node = value.producer()
        if node is None:
            return value.const_value is None
        if not keeps_indices(node):
            return _wraps_around(value)
        value = node.inputs[0]
    return False


def _wraps_around(value: ir.Value) -> bool:
    """Whether a value is chosen element by element between an input and the input plus a constant."""
    pending, seen, compared, given = [value], set[int](), False, False
    while pending:
        current = pending.pop()
        if id(current) in seen or current.const_value is not None:
            continue
        seen.add(id(current))
        node = current.producer()
        if node is None:
            given = True
            continue
        if not (keeps_indices(node) or computes(node, *_CHOOSING) or passes_on(node, Move.CHOSEN)):
            return False
        compared |= computes(node, Calc.ORDER)
        pending.extend(operand for operand in node.inputs if operand is not None)
    return given and compared
