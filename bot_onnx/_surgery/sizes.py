"""Make the integers in a graph follow new sizes: shape constants, slice bounds, attributes.

The analysis says which number must equal the size of which dims. A number read from a constant is changed in place; one
that is computed is corrected at the constant that explains it; where no constant can, its static elements are
overwritten at the point of use. What no way solves is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim, Pair
from bot_onnx._axes.rules import Requirement
from bot_onnx._axes.shape_values import Const, constants_of, evaluate
from bot_onnx._ops.nodes import fresh_name, names_in
from bot_onnx._surgery.types import ConstantPatch
from bot_onnx.errors import GraphError

Place = tuple[str, int]  #: initializer name and flat index


def patch_sizes(analysis: Analysis, sizes: Mapping[str, int]) -> list[ConstantPatch]:
    """Bring every number that depends on a size up to date, in place.

    Args:
        analysis: of the graph; its model is changed.
        sizes: new size per dim id.

    Raises:
        GraphError: a number cannot be made to follow.
    """
    return _SizePatcher(analysis, dict(sizes)).run()


class _SizePatcher:
    def __init__(self, analysis: Analysis, sizes: dict[str, int]) -> None:
        self._analysis = analysis
        self._table = analysis.context.table
        self._sizes = sizes
        self._patches: list[ConstantPatch] = []
        self._cache: dict[Dim, Pair] = {}

    @cached_property
    def _taken(self) -> set[str]:
        """Names in use: a graph that was resized before has nodes of ours already."""
        return names_in(self._analysis.model.graph)

    def run(self) -> list[ConstantPatch]:
        """Settle constants, then what is computed from them, then attributes."""
        self._check_identity()
        constants, computed = self._settle_constants()
        self._write_constants(constants)
        overrides: dict[tuple[ir.Node, int], dict[int, int]] = {}
        for requirement in computed:
            assert requirement.expr is not None and isinstance(requirement.slot, int)
            needed = self._needed(requirement)
            if evaluate(requirement.expr, self._size, constants) != needed:
                if needed[0] != needed[1]:
                    raise self._refusal(requirement, "it depends on the input's size in a way that is not understood")
                overrides.setdefault((requirement.node, requirement.slot), {})[requirement.element] = needed[0]
        for (node, slot), elements in overrides.items():
            self._override(node, slot, elements)
        for requirement in self._analysis.context.requirements:
            if isinstance(requirement.slot, str):
                self._patch_attribute(requirement)
        self._reshape_empty()
        return self._patches

    def _reshape_empty(self) -> None:
        """Tensors without elements (no tokens of a kind) have no weights to resample, but axes like all others."""
        for value in self._analysis.model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.size or not tensor.dtype.is_floating_point():
                continue
            dims = self._analysis.context.of(value)
            shape = [
                old if dim is None else self._size(dim)[0] for old, dim in zip(tensor.shape.numpy(), dims, strict=True)
            ]
            value.const_value = ir.Tensor(np.empty(shape, tensor.dtype.numpy()), name=value.name)
            value.shape = ir.Shape(shape)

    def _check_identity(self) -> None:
        """At the old sizes every number must already be what the analysis says it is; else nothing may be written."""
        for requirement in self._analysis.context.requirements:
            needed = self._needed(requirement, self._table.size)
            if requirement.expr is not None and evaluate(requirement.expr, self._table.size) != needed:
                raise self._refusal(requirement, "it is another number already")

    # -- what is needed ----------------------------------------------------------------------------------------

    def _size(self, dim: Dim) -> Pair:
        root = self._table.find(dim)
        if root not in self._cache:
            self._cache[root] = self._analysis.new_size(root, self._sizes)
        return self._cache[root]

    def _needed(self, requirement: Requirement, size: Callable[[Dim], Pair] | None = None) -> Pair:
        of = size or self._size
        sizes = [of(dim) for dim in requirement.dims]
        first, second = sum(a for a, _ in sizes), sum(b for _, b in sizes)
        return requirement.sign * first + requirement.offset, requirement.sign * second + requirement.offset

    def _changed(self, requirement: Requirement) -> bool:
        return self._needed(requirement) != self._needed(requirement, self._table.size)

    def _settle_constants(self) -> tuple[dict[Place, int], list[Requirement]]:
        """New value per constant, and the requirements whose number is computed or wanted in two ways.

        A constant that serves two requirements with different needs follows the first; the other is overridden where
        it is used.
        """
        constants: dict[Place, int] = {}
        computed: list[Requirement] = []
        wanted = [r for r in self._analysis.context.requirements if isinstance(r.slot, int)]
        for requirement in wanted:
            expr = requirement.expr
            if isinstance(expr, Const) and expr.source is not None:
                needed = self._needed(requirement)
                if needed[0] == needed[1]:
                    constants.setdefault(expr.source, needed[0])
            if expr is None:
                if self._changed(requirement):
                    raise self._refusal(requirement, "it is computed in a way that is not understood")
                continue
            computed.append(requirement)
        for requirement in computed:
            if not isinstance(requirement.expr, Const):
                self._solve(requirement, constants)
        return constants, computed

    def _solve(self, requirement: Requirement, constants: dict[Place, int]) -> None:
        """Find the one constant whose change makes a computed number right in both runs."""
        assert requirement.expr is not None
        needed = self._needed(requirement)
        actual = evaluate(requirement.expr, self._size, constants)
        if actual == needed:
            return
        for const in constants_of(requirement.expr):
            assert const.source is not None
            if const.source in constants:
                continue
            for candidate in _candidates(const.value, needed, actual):
                trial = {**constants, const.source: candidate}
                if evaluate(requirement.expr, self._size, trial) == needed:
                    constants[const.source] = candidate
                    return

    # -- writing -----------------------------------------------------------------------------------------------

    def _write_constants(self, constants: Mapping[Place, int]) -> None:
        changed: dict[str, dict[int, int]] = {}
        for (name, index), value in constants.items():
            changed.setdefault(name, {})[index] = value
        for name, elements in changed.items():
            initializer = self._analysis.model.graph.initializers[name]
            tensor = initializer.const_value
            assert tensor is not None
            array = np.array(tensor.numpy())
            flat = array.reshape(-1)
            for index, number in elements.items():
                if int(flat[index]) != number:
                    self._patches.append(ConstantPatch(name, int(flat[index]), number, "size of an axis"))
                    flat[index] = number
            initializer.const_value = ir.Tensor(array, dtype=tensor.dtype, name=name)

    def _override(self, node: ir.Node, slot: int, elements: Mapping[int, int]) -> None:
        """Overwrite the elements of a computed shape that must be fixed numbers, right before ``node`` reads it."""
        graph = self._analysis.model.graph
        source = node.inputs[slot]
        assert source is not None
        length = len(self._analysis.context.elements(source) or ())
        rank = len(self._analysis.context.sizes(source))
        mask, numbers = np.zeros(length, bool), np.zeros(length, np.int64)
        for element, number in elements.items():
            mask[element], numbers[element] = True, number
            self._patches.append(ConstantPatch(f"{node.name} input {slot}[{element}]", -1, number, "size of an axis"))
        shape = (length,) if rank else ()
        dtype = source.dtype or ir.DataType.INT64
        inputs = [
            add_constant(graph, f"{source.name}__fixed_mask", mask.reshape(shape)),
            add_constant(graph, f"{source.name}__fixed_sizes", numbers.reshape(shape).astype(dtype.numpy())),
            source,
        ]
        patch = ir.node("Where", inputs, name=fresh_name(f"{node.name}__sizes", self._taken))
        patch.outputs[0].name = fresh_name(f"{source.name}__sizes_{node.name}", self._taken)
        graph.insert_before(node, patch)
        node.replace_input_with(slot, patch.outputs[0])

    def _patch_attribute(self, requirement: Requirement) -> None:
        assert isinstance(requirement.slot, str)
        node, name = requirement.node, requirement.slot
        needed = self._needed(requirement)[0]
        attribute = node.attributes[name]
        if attribute.type == ir.AttributeType.INT:
            old = attribute.as_int()
            node.attributes[name] = ir.AttrInt64(name, needed)
        else:
            numbers = list(attribute.as_ints())
            old, numbers[requirement.element] = numbers[requirement.element], needed
            node.attributes[name] = ir.AttrInt64s(name, numbers)
        if old != needed:
            self._patches.append(ConstantPatch(f"{node.name}.{name}", old, needed, "size of an axis"))

    def _refusal(self, requirement: Requirement, why: str) -> GraphError:
        names = ", ".join(
            self._analysis.structure.dims[identity].name
            for dim in requirement.dims
            if (identity := self._analysis.ids.get(self._table.find(dim))) is not None
        )
        node = requirement.node
        return GraphError(
            f"input {requirement.slot} of {node.op_type} (node {node.name!r}) must follow the size of "
            f"{names or 'an axis'}, but {why}; keep that dim at its size"
        )


def _candidates(value: int, needed: Pair, actual: Pair) -> list[int]:
    """Values of a factor or a term that would turn ``actual`` into ``needed``."""
    found = []
    if actual[0] and (value * needed[0]) % actual[0] == 0:
        found.append(value * needed[0] // actual[0])
    if needed[0] and (value * actual[0]) % needed[0] == 0:
        found.append(value * actual[0] // needed[0])  # the constant divides
    return [*found, value + needed[0] - actual[0], value - needed[0] + actual[0]]


def add_constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add an initializer under ``name`` (numbered if that is taken)."""
    unique, number = name, 1
    while unique in graph.initializers:
        number += 1
        unique = f"{name}_{number}"
    tensor = ir.Tensor(array, name=unique)
    value = ir.Value(name=unique, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers[unique] = value
    return value
