"""Products that are a MatMul, written as one: FusedMatMul, and an Einsum whose letters say so.

A turned operand is a Transpose of its own then, a factor a Mul: what is known of a MatMul is known of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.spelling.seen import Seen
from bot_onnx._canonical.spelling.source_spelling import Whole, imply, stands_for, swap_steps
from bot_onnx._ops import op_key
from bot_onnx._ops.einsum import Letters, subscripts
from bot_onnx._ops.nodes import fresh_name, names_in

MICROSOFT = "com.microsoft"
Order = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Product:
    """How two operands are multiplied.

    Attributes:
        orders: in which order a MatMul takes the axes of each operand; None: as they are.
        swapped: the operands stand the other way round. factor: of the result.
    """

    orders: tuple[Order, Order] = (None, None)
    swapped: bool = False
    factor: float = 1.0


def spell_products(graph: ir.Graph, seen: Seen) -> bool:
    """Write every product that is a MatMul as one, in place; whether there was one."""
    found = [(node, product) for node in graph if (product := _product(node, seen)) is not None]
    taken = names_in(graph) if found else set()
    for node, product in found:
        _write(graph, node, product, seen, taken)
    return bool(found)


def _product(node: ir.Node, seen: Seen) -> Product | None:
    reads = _READ.get(op_key(node))
    if reads is None or len(node.inputs) != 2 or any(seen.rank(v) is None for v in (*node.inputs, node.outputs[0])):
        return None
    return reads(node, seen)


def _fused(node: ir.Node, seen: Seen) -> Product | None:
    ranks = [seen.rank(value) or 0 for value in node.inputs]
    if min(ranks) < 2:
        return None
    first, second = (_order(node, side, rank) for side, rank in zip("AB", ranks, strict=True))
    return Product((first, second), factor=node.attributes.get_float("alpha", 1.0))


def _order(node: ir.Node, side: str, rank: int) -> Order:
    """Axes of an operand of a FusedMatMul: the first one may stand behind the batch, the last two may be turned."""
    axes = list(range(rank))
    if node.attributes.get_int(f"transBatch{side}", 0):
        axes = [*axes[1:-1], 0, axes[-1]]
    if node.attributes.get_int(f"trans{side}", 0):
        axes[-2:] = axes[-1], axes[-2]
    return None if axes == list(range(rank)) else tuple(axes)


def _einsum(node: ir.Node, seen: Seen) -> Product | None:
    terms, outcome = subscripts(node, [seen.rank(value) or 0 for value in node.inputs])
    if outcome is None or any(len(set(letters)) < len(letters) for letters in (*terms, outcome)):
        return None
    for swapped in (False, True):
        left, right = reversed(terms) if swapped else terms
        turned = _turned(left, right, outcome)
        if turned is not None:
            first, second = (
                _flipped(len(term)) if turn else None for term, turn in zip((left, right), turned, strict=True)
            )
            return Product((first, second), swapped)
    return None


def _flipped(rank: int) -> Order:
    return (*range(rank - 2), rank - 1, rank - 2)


#: How a product is read, by op.
_READ: dict[str, Callable[[ir.Node, Seen], Product | None]] = {f"{MICROSOFT}::FusedMatMul": _fused, "Einsum": _einsum}


def _turned(left: Letters, right: Letters, outcome: Letters) -> tuple[bool, bool] | None:
    """Which operands of a MatMul are turned around, where the letters are those of one; None: they are not."""
    summed = [letter for letter in left if letter in right and letter not in outcome]
    batch = tuple(letter for letter in left if letter in right and letter in outcome)
    rows = tuple(letter for letter in left if letter not in right)
    columns = tuple(letter for letter in right if letter not in left)
    if len(summed) != 1 or len(columns) != 1 or not rows or outcome != (*batch, *rows, *columns):
        return None
    ways = (right == (*batch, summed[0], *columns), right == (*batch, *columns, summed[0]))
    if not any(ways) or (batch and len(rows) > 1):
        return None
    if left == (*batch, *rows, summed[0]):
        return False, ways[1]
    return (True, ways[1]) if len(rows) == 1 and left == (*batch, summed[0], *rows) else None


def _write(graph: ir.Graph, node: ir.Node, product: Product, seen: Seen, taken: set[str]) -> None:
    turned = tuple(order is not None for order in product.orders)
    whole = Whole(node.domain, node.op_type, tuple(node.attributes.values()), turned, product.swapped)
    operands = list(node.inputs)
    if product.swapped:
        operands.reverse()
        swap_steps(node)
    for slot, value in enumerate(operands):
        assert value is not None
        order = product.orders[slot]
        node.replace_input_with(slot, value if order is None else _turn(graph, node, value, order, seen, taken))
    node.domain, node.op_type = "", "MatMul"
    node.attributes.clear()
    stands_for(node, whole)
    if product.factor != 1.0:
        _multiply(graph, node, product.factor, seen, taken)


def _turn(
    graph: ir.Graph, node: ir.Node, value: ir.Value, order: tuple[int, ...], seen: Seen, taken: set[str]
) -> ir.Value:
    shape = seen.shape(value) or ()
    name = fresh_name(f"{node.name or node.op_type}/Transpose", taken)
    turned = ir.node("Transpose", [value], {"perm": order}, name=name)
    turned.outputs[0].name = fresh_name(f"{name}_output", taken)
    turned.outputs[0].type = value.type
    seen.shapes[turned.outputs[0].name] = tuple(shape[axis] for axis in order)
    imply(turned)
    graph.insert_before(node, turned)
    return turned.outputs[0]


def _multiply(graph: ir.Graph, node: ir.Node, factor: float, seen: Seen, taken: set[str]) -> None:
    """A Mul behind ``node``, which takes over its name and that of its result."""
    output = node.outputs[0]
    kind = seen.types.get(output) or ir.DataType.FLOAT
    label = fresh_name(f"{node.name or node.op_type}/alpha", taken)
    content = ir.Tensor(np.array(factor, kind.numpy()), dtype=kind, name=label)
    number = ir.Value(name=label, shape=ir.Shape(()), type=ir.TensorType(kind), const_value=content)
    graph.initializers[label] = number
    seen.shapes[label] = ()
    scaled = ir.node("Mul", [output, number], name=node.name)
    readers = tuple(output.uses())
    graph.insert_after(node, scaled)
    result = scaled.outputs[0]
    for usage in readers:
        if usage.node is not scaled:
            usage.node.replace_input_with(usage.idx, result)
    for index, shown in enumerate(graph.outputs):
        if shown is output:
            graph.outputs[index] = result
    inner = fresh_name(f"{output.name}__product", taken)
    result.name, result.shape, result.type = output.name, output.shape, output.type
    output.name = inner
    seen.shapes[inner] = seen.shape(result) or ()
    node.name = fresh_name(f"{node.name or node.op_type}/MatMul", taken)
    imply(scaled)
