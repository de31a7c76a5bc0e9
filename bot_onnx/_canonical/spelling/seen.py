"""What is known of values before the analysis: shapes (from constants, later from two runs) and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._ops import record
from bot_onnx._ops.nodes import cast_target

Pair = tuple[int, int]
_ONNX = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Observation:
    """What two runs showed.

    Attributes:
        shapes: value name -> per axis its size in the first and the second run (equal for static axes).
        values: name of a shape-arithmetic value -> its content in both runs.
        single: where the batch was guessed and the graph runs with one of 1 as well, value name -> its shape there,
            beside the sizes in both runs: these tell whether the name still stands for that value.
    """

    shapes: dict[str, tuple[Pair, ...]]
    values: dict[str, tuple[np.ndarray, np.ndarray]]
    single: dict[str, tuple[tuple[Pair, ...], tuple[int, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the values of a graph.

    Attributes:
        shapes: by name, per axis its size in two runs; empty before the graph has run.
        arithmetic: names of values computed from shapes: their numbers are followed one by one, and stay as they are.
        types: of elements, by value.
        learned: nodes whose scalars are weights.
        flows: whether bodies of control flow are inlined.
    """

    shapes: dict[str, tuple[Pair, ...]] = field(default_factory=dict)
    arithmetic: Mapping[str, object] = field(default_factory=dict)
    types: Mapping[ir.Value, ir.DataType] = field(default_factory=dict)
    learned: frozenset[ir.Node] = frozenset()
    flows: bool = False

    def shape(self, value: ir.Value | None) -> tuple[Pair, ...] | None:
        """Sizes of a value's axes in both runs; None: not known."""
        if value is None:
            return None
        if value.const_value is not None:
            return tuple((int(size), int(size)) for size in value.const_value.shape.numpy())
        return self.shapes.get(value.name or "")

    def rank(self, value: ir.Value | None) -> int | None:
        """Number of axes of a value."""
        shape = self.shape(value)
        return None if shape is None else len(shape)


def numbers(node: ir.Node, slot: int, name: str = "") -> NDArray[np.generic] | None:
    """Numbers given to an op by an input, or by the attribute ``name`` where an older opset has that; None: computed,
    or left out.
    """
    if name and name in node.attributes:
        return np.atleast_1d(np.asarray(node.attributes[name].value))
    value = node.inputs[slot] if slot < len(node.inputs) else None
    return None if value is None or value.const_value is None else value.const_value.numpy()


def is_left_out(node: ir.Node, slot: int, name: str = "") -> bool:
    """Whether neither an input nor an attribute gives something."""
    return name not in node.attributes and (slot >= len(node.inputs) or node.inputs[slot] is None)


def types_of(graph: ir.Graph) -> dict[ir.Value, ir.DataType]:
    """Types of elements, as far as the file declares them or the ops' own definitions tell them."""
    found: dict[ir.Value, ir.DataType] = {}
    for value in (*graph.inputs, *graph.initializers.values()):
        if value.dtype is not None:
            found[value] = value.dtype
    for node in graph:
        for index, output in enumerate(node.outputs):
            told = output.dtype or _told(node, index, found, graph.opset_imports.get(node.domain, 0))
            if told is not None:
                found[output] = told
    return found


def _told(node: ir.Node, index: int, found: Mapping[ir.Value, ir.DataType], version: int) -> ir.DataType | None:
    """The type of an output that an op's definition tells: a fixed one, or that of an input."""
    if node.op_type == "Cast":
        return cast_target(node)
    if record(node).random:
        return _drawn(node, found)
    inputs, outputs = _variables(node.domain if node.domain not in _ONNX else "", node.op_type, version)
    if not outputs:
        return None
    variable = outputs[min(index, len(outputs) - 1)]
    if variable.startswith("tensor("):
        return getattr(ir.DataType, variable[len("tensor(") : -1].upper(), None)
    for slot, value in enumerate(node.inputs):
        if value is not None and inputs and inputs[min(slot, len(inputs) - 1)] == variable and value in found:
            return found[value]
    return None


def _drawn(node: ir.Node, found: Mapping[ir.Value, ir.DataType]) -> ir.DataType | None:
    """The type of random numbers: said by the node, or that of what they are like, or the op's own."""
    said = node.attributes.get("dtype")
    if said is not None:
        return ir.DataType(said.as_int())
    if node.op_type == "Multinomial":
        return ir.DataType.INT32
    like = node.inputs[0] if node.inputs else None
    return ir.DataType.FLOAT if like is None else found.get(like)


@lru_cache(maxsize=1024)
def _variables(domain: str, op_type: str, version: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Type variables of an op's inputs and outputs; none for an op that ONNX does not define."""
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return (), ()
    return tuple(slot.type_str for slot in schema.inputs), tuple(slot.type_str for slot in schema.outputs)
