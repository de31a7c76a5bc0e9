"""Whether numbers come from a graph input as they are: ids of tokens, of positions, of letters."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._ops import Calc, Move, computes, keeps_indices, passes_on
from bot_onnx._ops.walk import backward, behind

#: What a choice between a number and another, by its sign, is made of.
_CHOOSING = (Calc.ORDER, Calc.LOGIC, Calc.SUM, Calc.PRODUCT)


def from_integer_input(value: ir.Value | None) -> bool:
    """Whether indices are a graph input, or some of it (its last token), maybe with negative ones counted from the end.

    What is looked up in a table is that table's numbers, whoever names them: of a Gather the data count.
    """
    made = behind(value, _hands_on)
    if made is None or (node := made.producer()) is None:
        return made is not None and made.const_value is None
    if passes_on(node, Move.JOINED):  # behind a token that starts every text
        parts = [part for part in node.inputs if not _written(part)]
        return bool(parts) and all(map(from_integer_input, parts))
    return _wraps_around(made)


def _written(value: ir.Value | None) -> bool:
    """Whether numbers are a constant's, maybe repeated for every text."""
    made = behind(value, _hands_on)
    return made is not None and made.const_value is not None


def _hands_on(node: ir.Node) -> bool:
    return keeps_indices(node) or passes_on(node, Move.CUT | Move.PICKED)


def _wraps_around(value: ir.Value) -> bool:
    """Whether a value is chosen element by element between an input and the input plus a constant."""
    made = [found for found in backward(value, _chooses) if found.const_value is None]
    makers = [node for found in made if (node := found.producer()) is not None]
    given = len(makers) < len(made)
    return given and all(map(_chooses, makers)) and any(computes(node, Calc.ORDER) for node in makers)


def _chooses(node: ir.Node) -> bool:
    return _hands_on(node) or computes(node, *_CHOOSING) or passes_on(node, Move.CHOSEN)
