"""Numbers that a file works out from constants as it runs: ``sqrt(16)`` is 4, whoever says it.

What reads such a number reads it as a constant, which can be explained and changed like any other. One that is the same
in the end is written as its source makes it; one that is not is written as a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.constants import is_literal
from bot_onnx._canonical.spelling.seen import Observation
from bot_onnx._canonical.spelling.source_spelling import keep_spelling
from bot_onnx._ops import MARKS, measures, operands_of, record
from bot_onnx._ops.nodes import FLOATS, fresh_name, names_in

_MADE = "bot_onnx.made_by"
_DEEP = 64  #: nodes that a number is made by, one behind the other, at most


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A constant of the source that numbers are made from.

    Attributes:
        name, tensor: of the initializer.
        plain: it is no number that training may have made: the file has it where no weight stands, or it is whole, or
            so many quarters.
        told: and it is none that a weight may be at the start (0, 1, a half).
    """

    name: str
    tensor: ir.TensorProtocol
    plain: bool
    told: bool


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """How the source makes a constant.

    Attributes:
        node: that makes it. inputs: what it reads, also when it has left the graph.
        kind: the type that a CastLike gives: whose type that is says nothing, and it is written as a Cast.
        plain: all numbers that it is made from are (see :class:`Held`). told: and one of them is.
        depth: nodes, one behind the other.
    """

    node: ir.Node
    inputs: tuple[Recipe | Held | None, ...]
    kind: ir.DataType | None
    plain: bool
    told: bool
    depth: int


def fold_numbers(graph: ir.Graph, observed: Observation) -> bool:
    """Let what reads a number that is made of constants alone read a constant, in place.

    Weights are left as they are: a single number that may be one is no constant, and neither is what is made of it.

    Args:
        graph: whose constants are initializers.
        observed: contents of the values that are worked out from shapes and constants; shapes are added to it.

    Returns:
        Whether there was one: nodes that nothing reads may be left.
    """
    recipes: dict[ir.Value, Recipe] = {}
    held: dict[ir.Value, Held] = {}
    for node in graph:
        recipe = _recipe(node, recipes, held, observed)
        if recipe is not None:
            recipes[node.outputs[0]] = recipe
    taken = names_in(graph) if recipes else set()
    changed = False
    for value, recipe in recipes.items():
        number = _number(value, observed) if recipe.plain and recipe.told else None
        readers = [usage for usage in value.uses() if not _works_out(usage.node, recipes)]
        if number is None or not readers:
            continue
        constant = _constant(graph, fresh_name(f"{value.name}__number", taken), ir.Tensor(number))
        constant.meta[_MADE] = recipe, number
        observed.shapes[constant.name or ""] = tuple((size, size) for size in number.shape)
        for usage in readers:
            usage.node.replace_input_with(usage.idx, constant)
        changed = True
    return changed


def _works_out(node: ir.Node, recipes: Mapping[ir.Value, Recipe]) -> bool:
    """Whether a node makes a constant itself, or only marks where a body of control flow ends."""
    return node.domain == MARKS or any(output in recipes for output in node.outputs)


def _number(value: ir.Value, observed: Observation) -> NDArray[np.generic] | None:
    """The one finite floating-point number that a value was in both runs."""
    first, second = observed.values[value.name or ""]
    single = first.size == 1 and first.dtype.kind == "f" and first.shape == second.shape
    return first if single and bool(np.isfinite(first).all()) and np.array_equal(first, second) else None


def _recipe(
    node: ir.Node, recipes: Mapping[ir.Value, Recipe], held: dict[ir.Value, Held], observed: Observation
) -> Recipe | None:
    """How a node makes a constant; None: it makes something else, or nothing was seen of it."""
    output = node.outputs[0]
    if len(node.outputs) != 1 or output.name not in observed.values or measures(node):
        return None
    like = node.op_type == "CastLike"
    given = node.inputs[:1] if like else node.inputs
    read = tuple(_part(value, recipes, held) for value in given)
    if any(part is None and value is not None for part, value in zip(read, given, strict=True)):
        return None
    data = [part for slot, part in enumerate(read) if slot in operands_of(node) and part is not None]
    kind = ir.DataType.from_numpy(observed.values[output.name][0].dtype) if like else None
    plain, told = all(part.plain for part in data), record(node).fills or any(part.told for part in data)
    depth = 1 + max((part.depth for part in read if isinstance(part, Recipe)), default=0)
    return None if depth > _DEEP else Recipe(node, read, kind, plain, told, depth)


def _part(
    value: ir.Value | None, recipes: Mapping[ir.Value, Recipe], held: dict[ir.Value, Held]
) -> Recipe | Held | None:
    if value is None or value in recipes or value.const_value is None:
        return None if value is None else recipes.get(value)
    if value not in held:
        held[value] = Held(value.name or "", value.const_value, *_kind(value, value.const_value))
    return held[value]


def _kind(value: ir.Value, tensor: ir.TensorProtocol) -> tuple[bool, bool]:
    """Whether a constant is plain, and told to be so."""
    if tensor.dtype not in FLOATS or is_literal(value):
        return True, True
    number = float(tensor.numpy().reshape(-1)[0]) if tensor.size == 1 else nan
    return (4 * number).is_integer(), number.is_integer() and abs(number) > 1


def restore_numbers(graph: ir.Graph) -> None:
    """Make the numbers that are what they were as the source makes them, in place."""
    kept = [(value, *value.meta[_MADE]) for value in graph.initializers.values() if _MADE in value.meta]
    made: dict[Recipe | Held, ir.Value] = {}
    taken = names_in(graph) if kept else set()
    for value, recipe, number in kept:
        uses = tuple(value.uses())
        if not uses or value.const_value is None or not np.array_equal(value.const_value.numpy(), number):
            continue
        source = _restored(graph, recipe, graph[0], made, taken)
        for usage in uses:
            usage.node.replace_input_with(usage.idx, source)


def _restored(
    graph: ir.Graph, part: Recipe | Held, before: ir.Node, made: dict[Recipe | Held, ir.Value], taken: set[str]
) -> ir.Value:
    """What a recipe makes, by nodes in front of ``before``; those that are there already are not made twice."""
    if part in made:
        return made[part]
    if isinstance(part, Held):
        made[part] = _constant(
            graph, fresh_name(part.name, taken), ir.Tensor(part.tensor.numpy(), dtype=part.tensor.dtype)
        )
        return made[part]
    inputs: Sequence[ir.Value | None] = [
        None if one is None else _restored(graph, one, before, made, taken) for one in part.inputs
    ]
    node, kind = part.node, part.kind
    attributes = [*node.attributes.values()] if kind is None else [ir.AttrInt64("to", int(kind))]
    name = fresh_name(node.name or node.op_type, taken)
    copy = ir.Node(node.domain, node.op_type if kind is None else "Cast", inputs, attributes, num_outputs=1, name=name)
    copy.metadata_props.update(node.metadata_props)
    keep_spelling(node, copy)
    copy.outputs[0].name = fresh_name(node.outputs[0].name or name, taken)
    graph.insert_before(before, copy)
    made[part] = copy.outputs[0]
    return made[part]


def _constant(graph: ir.Graph, name: str, tensor: ir.Tensor[NDArray[np.generic]]) -> ir.Value:
    tensor.name = name
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
