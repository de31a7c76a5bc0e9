"""Scalars that may be 1 or 0 by chance: a gain that every layer has for itself is a gain in all of them."""

from __future__ import annotations

from collections import defaultdict

import onnx_ir as ir

from bot_onnx._ops import Calc, computes, record
from bot_onnx._ops.nodes import FLOATS
from bot_onnx._ops.walk import behind, uses

#: The number with which an op changes nothing.
_NOTHING = {Calc.PRODUCT: 1.0, Calc.QUOTIENT: 1.0, Calc.SUM: 0.0, Calc.DIFFERENCE: 0.0}
_Place = tuple[object, ...]


def scalar(node: ir.Node, slot: int) -> ir.TensorProtocol | None:
    """The one floating-point number that an input holds; the exponent of a power may be any number."""
    value = node.inputs[slot]
    tensor = None if value is None else value.const_value
    if tensor is None or tensor.size != 1 or (tensor.dtype not in FLOATS and not computes(node, Calc.POWER)):
        return None
    return tensor


def learned_scalars(graph: ir.Graph) -> frozenset[ir.Node]:
    """Nodes whose scalar is not the same number at all the places that are like theirs.

    Places are alike if the same op makes what the scalar works on, and the same ops read the result; what changes
    nothing is looked through, so that it stands at no place of its own.
    """
    held = {node: found for node in graph if (found := _operand(node)) is not None}
    places: dict[_Place, list[ir.Node]] = defaultdict(list)
    for node, (slot, _) in held.items():
        places[(node.op_type, slot, _made_by(node, held), *_read_by(node, held))].append(node)
    mixed = (nodes for nodes in places.values() if len({held[node][1] for node in nodes}) > 1)
    return frozenset(node for nodes in mixed for node in nodes)


_Held = dict[ir.Node, tuple[int, float]]


def _operand(node: ir.Node) -> tuple[int, float] | None:
    """Slot and number of the scalar of a node that is of the kind that may change nothing."""
    if record(node).calc not in _NOTHING or len(node.inputs) != 2:
        return None
    for slot in range(len(node.inputs)):
        tensor = scalar(node, slot)
        if tensor is not None:
            return slot, float(tensor.numpy().reshape(-1)[0])
    return None


def _is_nothing(node: ir.Node, held: _Held) -> bool:
    op = record(node)
    if node not in held or op.calc is None or (not op.commutative and held[node][0] == 0):
        return False
    return held[node][1] == _NOTHING[op.calc]


def _made_by(node: ir.Node, held: _Held) -> _Place:
    def operand(of: ir.Node) -> ir.Value | None:
        return of.inputs[1 - held[of][0]]

    made = behind(operand(node), lambda maker: _is_nothing(maker, held), operand)
    maker = None if made is None else made.producer()
    return () if maker is None else _described(maker)


def _read_by(node: ir.Node, held: _Held) -> list[_Place]:
    found = uses(node.outputs[0], lambda user, _: _is_nothing(user, held))
    return sorted(((*_described(user), slot) for user, slot in found), key=repr)


def _described(node: ir.Node) -> _Place:
    """An op, and the shapes of the constants that it reads."""
    tensors = (value.const_value if value is not None else None for value in node.inputs)
    return (node.op_type, *(None if tensor is None else tuple(tensor.shape.numpy()) for tensor in tensors))
