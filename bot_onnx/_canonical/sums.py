"""``Sum`` of any number of operands, written out as the ``Add`` nodes that it stands for.

Residual sums, biases and masks are recognised in one spelling only; which of the two an exporter chose says nothing.
"""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._canonical.spelling import forget_spelling, stands_for_sum
from bot_onnx._ops import is_linear
from bot_onnx._ops.nodes import fresh_name, names_in


def write_out_sums(graph: ir.Graph) -> None:
    """Make ``Add`` nodes of every ``Sum`` of two or more operands, in place.

    Weights among more than two operands are added first, to what a linear map gave where there is such an operand: a
    bias stands with its map, and what is left adds up activations.
    """
    sums = [node for node in graph if node.op_type == "Sum" and node.domain in ("", "ai.onnx") and len(node.inputs) > 1]
    taken = names_in(graph) if any(len(node.inputs) > 2 for node in sums) else set()
    for node in sums:
        if len(node.inputs) == 2:
            stands_for_sum(node)
        while len(node.inputs) > 2:
            forget_spelling(node)
            _split(graph, node, taken)
        node.op_type = "Add"


def _split(graph: ir.Graph, node: ir.Node, taken: set[str]) -> None:
    """Take the first pair out of a sum, into a node of its own."""
    operands = [value for value in node.inputs if value is not None]
    fixed = [value for value in operands if value.const_value is not None]
    moving = [value for value in operands if value.const_value is None]
    if fixed and moving:
        linear = [value for value in moving if (made := value.producer()) is not None and is_linear(made)]
        first, second = (linear or moving)[0], fixed[0]
    else:
        first, second = operands[:2]
    name = fresh_name(f"{node.outputs[0].name}__terms", taken)
    inner = ir.node("Add", [first, second], name=name)
    inner.outputs[0].name = name
    inner.outputs[0].type = node.outputs[0].type
    graph.insert_before(node, inner)
    place = operands.index(first)
    rest = [
        value for index, value in enumerate(operands) if index not in (place, _index_after(operands, second, place))
    ]
    rest.insert(place, inner.outputs[0])
    node.resize_inputs(len(rest))
    for index, value in enumerate(rest):
        node.replace_input_with(index, value)


def _index_after(operands: list[ir.Value], wanted: ir.Value, taken: int) -> int:
    """Where an operand stands, another place than ``taken`` where it is there twice."""
    return next(index for index, value in enumerate(operands) if value is wanted and index != taken)
