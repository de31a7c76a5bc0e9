"""Decompose a quantised graph: packed weights become floats, ops on integers the ops they stand for, roundings go.

What is quantised on the way (activations) is followed by its floating-point counterpart: the value that went into the
quantisation. An op that cannot be followed stays, and the planner refuses the file by its name.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from bot_onnx._canonical.decompose import integers, quantised_layers  # noqa: F401  (they register their ops)
from bot_onnx._canonical.decompose.builder import Attribute, Site
from bot_onnx._canonical.decompose.counterparts import DECOMPOSERS, Quantised, decomposes, plain_name
from bot_onnx._canonical.decompose.roundings import Grid, rounded_by
from bot_onnx._canonical.decompose.saturation import saturated
from bot_onnx._ops import data_slots, record
from bot_onnx._ops.nodes import names_in


@dataclass(frozen=True, slots=True)
class Decomposed:
    """What a quantised graph had.

    Attributes:
        weights: those in floating point, and the names they should have once the packed ones are gone.
        roundings: activations that were rounded by calibrated scales, in floating point.
    """

    weights: tuple[tuple[ir.Value, str], ...] = ()
    roundings: tuple[tuple[ir.Value, Grid], ...] = ()


def decompose_quantised(graph: ir.Graph) -> Decomposed:
    """Write quantised ops of ``graph`` in floating point, in place; those that cannot be followed stay."""
    if not any(record(node).packing is not None for node in graph):
        return Decomposed()
    graph.sort()
    state = Quantised(graph, taken=names_in(graph))
    for node in list(graph):
        if node.graph is not graph:
            continue
        decompose = DECOMPOSERS.get(node.op_type)
        if decompose is not None:
            decompose(state, Site(graph, node, state.taken))
        elif record(node).alike:
            _move(state, Site(graph, node, state.taken))
    return Decomposed(
        tuple((value, plain_name(str(key[0]))) for key, value in state.weights.items()),
        tuple((value, grid) for value, rounded in state.rounded.items() if (grid := rounded.grid()) is not None),
    )


@decomposes("QuantizeLinear", "DynamicQuantizeLinear")
def _quantise(state: Quantised, site: Site) -> bool:
    """What is rounded is followed by what it was before, held to where its range begins."""
    value = site.need(0)
    plain = state.floats.get(value, value)
    if site.node.op_type == "QuantizeLinear":
        plain = saturated(site, plain, site.input(1), site.input(2))
        state.rounded.setdefault(plain, rounded_by(site, 1))
    state.floats[site.node.outputs[0]] = plain
    return True


@decomposes("DequantizeLinear")
def _dequantise(state: Quantised, site: Site) -> bool:
    value = site.need(0)
    block, axis = site.node.attributes.get_int("block_size", 0), site.node.attributes.get_int("axis", 1)
    if value.const_value is None:
        plain = state.read(value, *(usage.node.op_type for usage in site.node.outputs[0].uses()))
    else:
        plain = state.weight(site, value, site.need(1), site.input(2), axis, block=block)
    if plain is None:
        return False
    site.replace(plain)
    return True


def _move(state: Quantised, site: Site) -> None:
    """Beside an op that moves quantised numbers, the same op on their counterparts."""
    node = site.node
    operands = {slot: value for slot in data_slots(node) if (value := site.input(slot)) is not None}
    if not any(value in state.floats or _is_small(value) for value in operands.values()):
        return
    inputs = list(node.inputs)
    for slot, value in operands.items():
        plain = state.floats.get(value)
        if plain is None and value.const_value is not None:
            meaning = _meaning(node.outputs[0])
            plain = None if meaning is None else state.weight(site, value, *meaning, 0)
        if plain is None:
            return
        inputs[slot] = plain
    kept: dict[str, Attribute] = {name: attribute.value for name, attribute in node.attributes.items()}
    twin = site.op(node.op_type, *inputs, attributes=kept, outputs=len(node.outputs)).producer()
    assert twin is not None
    state.floats.update(zip(node.outputs, twin.outputs, strict=True))


def _is_small(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and len(tensor.shape) > 1 and tensor.dtype in (ir.DataType.INT8, ir.DataType.UINT8)


def _meaning(value: ir.Value) -> tuple[ir.Value, ir.Value | None] | None:
    """Scale and zero point of moved numbers, as the op says that reads them, if they are one for all."""
    for _ in range(16):
        usage = next(iter(value.uses()), None)
        if usage is None:
            return None
        node, slot = usage.node, usage.idx
        if record(node).alike:
            value = node.outputs[0]
            continue
        packing = record(node).packing
        if packing is None or not (slot in packing.meant or (packing.every and slot % 3 == 2)):
            return None
        scale, zero_point = (node.inputs[i] if i < len(node.inputs) else None for i in (slot + 1, slot + 2))
        known = scale is not None and scale.const_value is not None and scale.const_value.size == 1
        return (scale, zero_point) if known and scale is not None else None
    return None
