"""Symbolic content of small integer tensors: where every element of a computed shape comes from.

Each element is a constant (with the initializer element it was read from), the size of a dim, an operation on elements,
or opaque (its observed value). The surgery evaluates these under the new sizes, and finds the constant to patch where
the outcome is not what a consumer needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import Dim, MaybeDim, Pair
from bot_onnx._ops import IN_ORDER, find, op_key, passes_on, record

MAX_ELEMENTS = 64


@dataclass(frozen=True, slots=True)
class Const:
    """A constant; ``source`` is the (initializer name, flat index) it was read from, None for a literal of an op."""

    value: int
    source: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class SizeOf:
    """The size of a dim."""

    dim: Dim


@dataclass(frozen=True, slots=True)
class Op:
    """An operation on other elements."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Opaque:
    """An element nothing is known of but its value in both runs."""

    value: Pair


Expr = Const | SizeOf | Op | Opaque
Elements = list[Expr]


def evaluate(expr: Expr, size: Callable[[Dim], Pair], constants: Mapping[tuple[str, int], int] | None = None) -> Pair:
    """Value of ``expr`` in both runs, given sizes of dims and replaced constants."""
    if isinstance(expr, Const):
        value = expr.value
        if constants and expr.source is not None:
            value = constants.get(expr.source, value)
        return value, value
    if isinstance(expr, SizeOf):
        return size(expr.dim)
    if isinstance(expr, Opaque):
        return expr.value
    args = [evaluate(arg, size, constants) for arg in expr.args]
    known = find(expr.name)
    assert known is not None and known.whole is not None
    function = known.whole
    return function(*(a[0] for a in args)), function(*(a[1] for a in args))


def constants_of(expr: Expr) -> list[Const]:
    """Patchable constants below ``expr``, in order."""
    if isinstance(expr, Const):
        return [expr] if expr.source is not None else []
    if isinstance(expr, Op):
        return [const for arg in expr.args for const in constants_of(arg)]
    return []


_AxesOf = Callable[[ir.Value], tuple[MaybeDim, ...] | None]
_Follow = Callable[["ShapeValues", ir.Node, int, _AxesOf], Elements | None]
_FOLLOWED: dict[str, _Follow] = {}


def _follows(op: str) -> Callable[[_Follow], _Follow]:
    """Register how the elements of an op's outputs follow from those of its inputs."""

    def register(function: _Follow) -> _Follow:
        _FOLLOWED[op] = function
        return function

    return register


class ShapeValues:
    """Tracks elements value by value, in graph order.

    Args:
        size: size pair of a dim (from the dim table).
        observed: contents of the shape-arithmetic values in both runs.
    """

    def __init__(self, size: Callable[[Dim], Pair], observed: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self._size = size
        self._observed = observed
        self._elements: dict[str, Elements] = {}

    def elements(self, value: ir.Value | None) -> Elements | None:
        """Elements of an integer value of one axis (others are 1) or none, or None where it is not tracked."""
        if value is None:
            return None
        known = self._elements.get(value.name or "")
        if known is not None:
            return known
        tensor = value.const_value
        if tensor is None or tensor.size > MAX_ELEMENTS or not tensor.dtype.is_integer() or len(tensor.shape) > 1:
            return None
        name = value.name or ""
        return [Const(int(v), (name, i)) for i, v in enumerate(tensor.numpy().reshape(-1))]

    def visit(self, node: ir.Node, axes: Callable[[ir.Value], tuple[MaybeDim, ...] | None]) -> None:
        """Track the outputs of ``node``; anything that cannot be followed becomes opaque."""
        for index, output in enumerate(node.outputs):
            name = output.name or ""
            pair = self._observed.get(name)
            if pair is None or pair[0].size > MAX_ELEMENTS or pair[0].shape != pair[1].shape:
                continue
            if pair[0].ndim > 1 and pair[0].size != pair[0].shape[-1]:
                continue
            if pair[0].dtype.kind not in "iub":
                continue
            first, second = pair[0].reshape(-1), pair[1].reshape(-1)
            elements = self._compute(node, index, axes)
            if elements is None or len(elements) != first.size:
                elements = [Opaque((0, 0))] * int(first.size)
            # What the symbols say must be what the runs showed; else only the observation is kept.
            self._elements[name] = [
                element if evaluate(element, self._size) == (int(a), int(b)) else Opaque((int(a), int(b)))
                for element, a, b in zip(elements, first, second, strict=True)
            ]

    def _compute(self, node: ir.Node, index: int, axes: _AxesOf) -> Elements | None:
        follow = _FOLLOWED.get(op_key(node))
        if follow is not None:
            return follow(self, node, index, axes)
        if passes_on(node, IN_ORDER):
            return self.elements(node.inputs[0])
        return self._apply(node) if record(node).whole is not None else None

    @_follows("Shape")
    def _shape(self, node: ir.Node, index: int, axes: _AxesOf) -> Elements | None:
        value = node.inputs[0]
        dims = axes(value) if value is not None else None
        if dims is None:
            return None
        start = node.attributes.get_int("start", 0)
        stop = node.attributes.get_int("end", len(dims))
        return [Const(1) if dim is None else SizeOf(dim) for dim in dims[start:stop]]

    @_follows("Concat")
    def _concat(self, node: ir.Node, index: int, axes: _AxesOf) -> Elements | None:
        parts = [self.elements(value) for value in node.inputs]
        return None if any(p is None for p in parts) else [e for part in parts if part for e in part]

    @_follows("Gather")
    def _gather(self, node: ir.Node, index: int, axes: _AxesOf) -> Elements | None:
        elements, picks = (self.elements(value) for value in node.inputs)
        if elements is None or picks is None or not all(isinstance(pick, Const) for pick in picks):
            return None
        chosen = [pick.value for pick in picks if isinstance(pick, Const)]
        return [elements[i] for i in chosen] if all(-len(elements) <= i < len(elements) for i in chosen) else None

    @_follows("OneHot")
    def _one_hot(self, node: ir.Node, index: int, axes: _AxesOf) -> Elements | None:
        """One number among equal ones: how some exporters write the repeats of a single axis."""
        place, depth = (self._constant(value) for value in node.inputs[:2])
        both = self.elements(node.inputs[2])
        if place is None or depth is None or both is None or len(both) != 2:
            return None
        return [both[1] if index == place % depth else both[0] for index in range(depth)]

    @_follows("Split")
    def _split(self, node: ir.Node, index: int, axes: _AxesOf) -> Elements | None:
        """The elements of output ``index``: as many as it showed, behind those of the outputs before it."""
        elements = self.elements(node.inputs[0])
        sizes = [self._observed[output.name or ""][0].size for output in node.outputs[: index + 1]]
        start = sum(sizes[:index])
        return None if elements is None else elements[start : start + sizes[index]]

    @_follows("Slice")
    def _slice(self, node: ir.Node, index: int, axes: _AxesOf) -> Elements | None:
        elements = self.elements(node.inputs[0])
        bounds = [self._constant(value) for value in node.inputs[1:3]]
        step = self._constant(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else 1
        if elements is None or None in bounds or step is None:
            return None
        return elements[bounds[0] : bounds[1] : step]

    def _constant(self, value: ir.Value | None) -> int | None:
        elements = self.elements(value)
        if elements is None or len(elements) != 1:
            return None
        first, second = evaluate(elements[0], self._size)
        return first if first == second else None

    @_follows("ReduceProd")
    def _fold(self, node: ir.Node, index: int, axes: _AxesOf) -> Elements | None:
        elements = self.elements(node.inputs[0])
        if not elements:
            return None
        result = elements[0]
        for element in elements[1:]:
            result = Op("Mul", (result, element))
        return [result]

    def _apply(self, node: ir.Node) -> Elements | None:
        inputs = [self.elements(value) for value in node.inputs]
        if any(not elements for elements in inputs):
            return None
        length = max(len(elements) for elements in inputs if elements)
        columns = [elements * length if len(elements) == 1 else elements for elements in inputs if elements]
        if any(len(column) != length for column in columns):
            return None
        return [Op(op_key(node), tuple(args)) for args in zip(*columns, strict=True)]
