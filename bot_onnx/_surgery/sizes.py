"""How the integers in a graph follow new sizes: shape constants, slice bounds, attributes. Nothing is changed here.

The analysis says which number must equal the size of which dims. A number read from a constant is changed there; one
that is computed is corrected at the constant that explains it; where no constant can, its static elements are
overwritten at the point of use. What no way solves is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim, Pair
from bot_onnx._axes.facts import Requirement
from bot_onnx._axes.shape_values import Const, constants_of, evaluate
from bot_onnx._surgery.edits import FixShape, NumberEdit, ReshapeEmpty, SetAttribute, SetConstant, last_of_each, made_by
from bot_onnx.errors import GraphError

Place = tuple[str, int]  #: initializer name and flat index


SizeEdit = NumberEdit | ReshapeEmpty
_REASON = "size of an axis"


def size_edits(analysis: Analysis, sizes: Mapping[str, int]) -> tuple[SizeEdit, ...]:
    """What brings every number that depends on a size up to date.

    Args:
        analysis: of the graph.
        sizes: new size per dim id.

    Raises:
        GraphError: a number cannot be made to follow.
    """
    return _Sizes(analysis, dict(sizes)).edits()


class _Sizes:
    def __init__(self, analysis: Analysis, sizes: dict[str, int]) -> None:
        self._analysis = analysis
        self._table = analysis.context.table
        self._sizes = sizes
        self._cache: dict[Dim, Pair] = {}

    def edits(self) -> tuple[SizeEdit, ...]:
        """Of constants, of what is computed from them, of attributes, of tensors without elements."""
        self._check_identity()
        constants, computed = self._settle_constants()
        slotted = (r for r in self._analysis.context.requirements if isinstance(r.slot, str))
        numbers: list[SetConstant | SetAttribute | FixShape] = [
            *self._set(constants),
            *self._fixed(computed, constants),
            *map(self._attribute, slotted),
        ]
        changed = (edit for edit in numbers if edit.old != edit.new or isinstance(edit, FixShape))
        return (*last_of_each(changed), *self._empty())

    def _empty(self) -> Iterator[ReshapeEmpty]:
        for name, value in self._analysis.model.graph.initializers.items():
            tensor = value.const_value
            if tensor is None or tensor.size or not tensor.dtype.is_floating_point():
                continue
            old, dims = tensor.shape.numpy(), self._analysis.context.axes_of(value)
            shape = tuple(n if dim is None else self._size(dim)[0] for n, dim in zip(old, dims, strict=True))
            if shape != tuple(old):
                yield ReshapeEmpty(name, shape)

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

    # -- edits -------------------------------------------------------------------------------------------------

    def _set(self, constants: Mapping[Place, int]) -> Iterator[SetConstant]:
        for (name, index), value in constants.items():
            tensor = self._analysis.model.graph.initializers[name].const_value
            assert tensor is not None
            yield SetConstant(name, int(tensor.numpy().reshape(-1)[index]), value, _REASON, name, index)

    def _fixed(self, computed: list[Requirement], constants: Mapping[Place, int]) -> Iterator[FixShape]:
        """The elements of computed shapes that no constant makes right."""
        for requirement in computed:
            assert requirement.expr is not None and isinstance(requirement.slot, int)
            needed = self._needed(requirement)
            if evaluate(requirement.expr, self._size, dict(constants)) != needed:
                if needed[0] != needed[1]:
                    raise self._refusal(requirement, "it depends on the input's size in a way that is not understood")
                node, slot, element = requirement.node, requirement.slot, requirement.element
                place = f"{node.name} input {slot}[{element}]"
                yield FixShape(place, -1, needed[0], _REASON, made_by(node), slot, element)

    def _attribute(self, requirement: Requirement) -> SetAttribute:
        assert isinstance(requirement.slot, str)
        node, name = requirement.node, requirement.slot
        needed, attribute = self._needed(requirement)[0], node.attributes[name]
        index = None if attribute.type == ir.AttributeType.INT else requirement.element
        old = attribute.as_int() if index is None else attribute.as_ints()[index]
        return SetAttribute(f"{node.name}.{name}", int(old), needed, _REASON, made_by(node), name, index)

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
