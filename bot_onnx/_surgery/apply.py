"""Carry out the edits of a plan on a graph. Nothing else changes one; every edit is held against what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import isclose

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops.nodes import filled_with, fresh_name, names_in
from bot_onnx._patterns.fixed_vectors import is_one_number
from bot_onnx._surgery.edits import (
    Edit,
    FixShape,
    LayerChange,
    ReshapeEmpty,
    SetAttribute,
    SetConstant,
    SetFactor,
    SetToken,
    made_by,
    picks_of,
)
from bot_onnx._surgery.scales import factor_of
from bot_onnx._surgery.stacked import Depth, resize_depth
from bot_onnx.errors import GraphError


def apply(analysis: Analysis, edits: Sequence[Edit]) -> Depth:
    """Change a graph, in place: the numbers in the order of the edits, then the depth.

    Args:
        analysis: of the graph.
        edits: of one plan for it. Chains that no edit names keep their layers.

    Returns:
        What the change of depth made.

    Raises:
        GraphError: an edit names what the graph does not have, another number stands there than it says, or something
            outside a layer that would go uses its inside.
    """
    numbers = _Numbers(analysis, [edit for edit in edits if isinstance(edit, FixShape)])
    for edit in edits:
        if isinstance(edit, SetConstant):
            numbers.set_constant(edit)
        elif isinstance(edit, SetAttribute):
            numbers.set_attribute(edit)
        elif isinstance(edit, FixShape):
            numbers.fix_shape(edit)
        elif isinstance(edit, SetFactor):
            numbers.set_factor(edit)
        elif isinstance(edit, SetToken):
            numbers.set_token(edit)
        elif isinstance(edit, ReshapeEmpty):
            numbers.reshape_empty(edit)
    layers = {chain.name: chain.count for chain in analysis.structure.chains}
    layers |= {edit.chain: edit.target for edit in edits if isinstance(edit, LayerChange)}
    return resize_depth(analysis, layers, picks_of(edits))


class _Numbers:
    def __init__(self, analysis: Analysis, fixed: Iterable[FixShape]) -> None:
        self._context, self._graph = analysis.context, analysis.model.graph
        self._nodes = {made_by(node): node for node in self._graph}
        self._fixed: dict[tuple[str, int], dict[int, int]] = {}
        for edit in fixed:
            self._fixed.setdefault((edit.made, edit.slot), {})[edit.element] = edit.new

    @cached_property
    def _taken(self) -> set[str]:
        """Names in use: a graph that was resized before has nodes of ours already."""
        return names_in(self._graph)

    def set_constant(self, edit: SetConstant) -> None:
        value = self._initializer(edit.constant)
        tensor = value.const_value
        array = None if tensor is None else np.array(tensor.numpy())
        if tensor is None or array is None or not 0 <= edit.index < array.size or array.dtype.kind not in "iu":
            raise GraphError(f"constant {edit.constant!r} has no whole number {edit.index} that could be set")
        flat = array.reshape(-1)
        _expect(edit, int(flat[edit.index]))
        flat[edit.index] = edit.new
        value.const_value = ir.Tensor(array, dtype=tensor.dtype, name=edit.constant)

    def set_attribute(self, edit: SetAttribute) -> None:
        attributes = self._node(edit.made).attributes
        attribute = attributes.get(edit.attribute)
        wanted = ir.AttributeType.INT if edit.index is None else ir.AttributeType.INTS
        if attribute is None or attribute.type != wanted:
            raise GraphError(f"{edit.place}: the node has no such attribute of whole numbers")
        if edit.index is None:
            _expect(edit, attribute.as_int())
            attributes[edit.attribute] = ir.AttrInt64(edit.attribute, edit.new)
            return
        numbers = list(attribute.as_ints())
        if not 0 <= edit.index < len(numbers):
            raise GraphError(f"{edit.place}: the attribute has no number {edit.index}")
        _expect(edit, numbers[edit.index])
        numbers[edit.index] = edit.new
        attributes[edit.attribute] = ir.AttrInt64s(edit.attribute, numbers)

    def set_factor(self, edit: SetFactor) -> None:
        node, slot = self._node(edit.made), edit.slot
        if isinstance(slot, str) and filled_with(node) is not None:
            _expect(edit, factor_of(node, slot))
            kind = node.attributes[slot].as_tensor().dtype
            node.attributes[slot] = ir.AttrTensor(slot, ir.Tensor(_scalar(edit, (1,), kind)))
            return
        if isinstance(slot, str):
            if slot in node.attributes:  # one that is left out has the number that the op's definition says
                _expect(edit, factor_of(node, slot))
            _check_finite(edit, abs(edit.new) <= float(np.finfo(np.float32).max))
            node.attributes[slot] = ir.AttrFloat32(slot, edit.new)
            return
        value = node.inputs[slot] if 0 <= slot < len(node.inputs) else None
        tensor = value.const_value if value is not None else None
        single = tensor is not None and tensor.size == 1 and tensor.dtype.is_floating_point()
        if value is None or tensor is None or not (single or is_one_number(value)):
            raise GraphError(f"{edit.place}: input {slot} of the node is no scalar that could be set")
        _expect(edit, factor_of(node, slot))
        # One element also of a number that stands there for every channel, of which there may be others now.
        array = _scalar(edit, (1,) * len(tensor.shape), tensor.dtype)
        node.replace_input_with(slot, _add_constant(self._graph, f"{value.name}__scaled", array))

    def set_token(self, edit: SetToken) -> None:
        """Set it in a copy of the constant: another node may mean another number by the same one."""
        node, slot = self._node(edit.made), edit.slot
        value = node.inputs[slot] if 0 <= slot < len(node.inputs) else None
        tensor = value.const_value if value is not None else None
        array = None if tensor is None else np.array(tensor.numpy())
        if value is None or array is None or not 0 <= edit.index < array.size or array.dtype.kind not in "iu":
            raise GraphError(f"{edit.place}: input {slot} of the node has no whole number {edit.index}")
        flat = array.reshape(-1)
        _expect(edit, int(flat[edit.index]))
        flat[edit.index] = edit.new
        node.replace_input_with(slot, _add_constant(self._graph, f"{value.name}__tokens", array))

    def reshape_empty(self, edit: ReshapeEmpty) -> None:
        value = self._initializer(edit.constant)
        tensor = value.const_value
        if tensor is None or tensor.size or 0 not in edit.shape:
            raise GraphError(f"constant {edit.constant!r} has elements: its shape cannot be set alone")
        value.const_value = ir.Tensor(np.empty(edit.shape, tensor.dtype.numpy()), name=value.name)
        value.shape = ir.Shape(edit.shape)

    def fix_shape(self, edit: FixShape) -> None:
        """Overwrite all elements of a computed shape that must be fixed numbers, right before the node reads it."""
        elements = self._fixed.pop((edit.made, edit.slot), {})
        if not elements:
            return
        node, slot = self._node(edit.made), edit.slot
        source = node.inputs[slot] if 0 <= slot < len(node.inputs) else None
        length = len(self._context.elements(source) or ())
        if source is None or not all(0 <= element < length for element in elements):
            raise GraphError(f"{edit.place}: input {slot} of the node is no shape that has such an element")
        mask, numbers = np.zeros(length, bool), np.zeros(length, np.int64)
        for element, number in elements.items():
            mask[element], numbers[element] = True, number
        shape = (length,) if self._context.sizes(source) else ()
        dtype = source.dtype or ir.DataType.INT64
        inputs = [
            _add_constant(self._graph, f"{source.name}__fixed_mask", mask.reshape(shape)),
            _add_constant(self._graph, f"{source.name}__fixed_sizes", numbers.reshape(shape).astype(dtype.numpy())),
            source,
        ]
        where = ir.node("Where", inputs, name=fresh_name(f"{node.name}__sizes", self._taken))
        where.outputs[0].name = fresh_name(f"{source.name}__sizes_{node.name}", self._taken)
        self._graph.insert_before(node, where)
        node.replace_input_with(slot, where.outputs[0])

    def _node(self, made: str) -> ir.Node:
        if made not in self._nodes:
            raise GraphError(f"the graph has no node that makes {made!r}, and the plan changes a number of it")
        return self._nodes[made]

    def _initializer(self, name: str) -> ir.Value:
        if name not in self._graph.initializers:
            raise GraphError(f"the graph has no constant {name!r}, and the plan changes it")
        return self._graph.initializers[name]


def _scalar(edit: SetFactor, shape: Sequence[int], kind: ir.DataType) -> NDArray[np.generic]:
    """The new number in the shape and type of the old one."""
    with np.errstate(over="ignore"):
        array = np.full(shape, edit.new).astype(kind.numpy())
    _check_finite(edit, bool(np.isfinite(array).all()))
    return array


def _expect(edit: SetConstant | SetAttribute | SetFactor | SetToken, found: float) -> None:
    """An edit is of a graph in which the number that it says stands."""
    if not (edit.old == found or isclose(edit.old, found, rel_tol=1e-12)):
        raise GraphError(f"{edit.place} is {found:g} in the graph, and the plan says that it was {edit.old:g}")


def _check_finite(edit: SetFactor, fits: bool) -> None:
    if not fits:
        raise GraphError(f"{edit.place} would become {edit.new:g}, which its type cannot hold")


def _add_constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add an initializer under ``name`` (numbered if that is taken)."""
    unique, number = name, 1
    while unique in graph.initializers:
        number += 1
        unique = f"{name}_{number}"
    tensor = ir.Tensor(array, name=unique)
    value = ir.Value(name=unique, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers[unique] = value
    return value
