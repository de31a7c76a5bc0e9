"""What a mean is over, or one less: a variance that divides by n - 1 (``ddof=1``), a mean that is made a sum again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isclose, sqrt

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._axes.rules.elementwise import reduced_axes
from bot_onnx._ops import FORM, Calc, carries, computes, reduction_of
from bot_onnx._patterns.attention import Scalar, number_at
from bot_onnx._patterns.closed_forms import match_count

_FEWEST = 3  #: numbers that a mean is over: less one they are 1, which says nothing
_KINDS = ("mean", "sum", "squares", "norm")
_BEFORE = (Calc.DIFFERENCE, Calc.EXTREME)  #: what variances are made by that are no sum of squares: ``max(a - b, 0)``
_LONGEST = 8  #: nodes from a mean to the number that corrects it


@dataclass(frozen=True, slots=True)
class Count:
    """A node that multiplies a mean, or divides it, by a number that follows how many it is over.

    Attributes:
        node: makes the product.
        dim: what the mean is over.
        formula: of the dim's size, by which the node multiplies; a key of
            :data:`bot_onnx._patterns.closed_forms.FORMULAS`.
        scalar: the constant; None where the file works it out from a shape. written: its formula.
    """

    node: ir.Node
    dim: Dim
    formula: str
    scalar: Scalar | None
    written: str


def find_counts(graph: ir.Graph, context: AxisFacts) -> list[Count]:
    """All of them, in graph order.

    What stands between a mean and its correction are products with single numbers, roots and views, and before those
    what is taken off it (the square of another mean); the numbers make n / (n - 1) of it, or a sum of it again, or
    1 / (n - 1) of a sum, or the root of that.
    """
    found: dict[ir.Node, Count] = {}
    for node in graph:
        reduction = reduction_of(node)
        if reduction is None or reduction.windows or reduction.kind not in _KINDS:
            continue
        dim = _reduced(context, node)
        if dim is None or context.table.size(dim)[0] < _FEWEST:
            continue
        power = 0.5 if reduction.kind == "norm" else 1.0
        start = _Way(node.outputs[0], power=power, mean=reduction.kind == "mean")
        for count in _behind(context, start, dim):
            found.setdefault(count.node, count)
    return list(found.values())


def _reduced(context: AxisFacts, node: ir.Node) -> Dim | None:
    """The static dim that is reduced; None: some of it is set at run time."""
    value = node.inputs[0]
    assert value is not None
    dims = context.axes_of(value)
    gone = [dim for axis in sorted(reduced_axes(context, node, len(dims))) if (dim := dims[axis]) is not None]
    return context.table.product(gone) if gone and all(map(context.table.is_static, gone)) else None


@dataclass(frozen=True, slots=True)
class _Way:
    """How far a walk has come: what it is at, by how much it is multiplied, to which power, by which nodes.

    ``mean``: what it began with, or was corrected to last, is a mean, not a sum.
    """

    value: ir.Value
    total: float = 1.0
    power: float = 1.0
    length: int = 0
    counts: tuple[Count | None, ...] = ()
    mean: bool = True


def _behind(context: AxisFacts, start: _Way, dim: Dim) -> Iterator[Count]:
    size = context.table.size(dim)[0]
    pending = [start]
    while pending:
        way = pending.pop()
        for usage in way.value.uses():
            further = _further(context, way, usage.node, usage.idx, dim)
            if further is None or further.length > _LONGEST:
                continue
            for mean, wanted in _corrections(size, mean=further.mean):
                if further.counts and isclose(further.total, wanted**further.power, rel_tol=1e-6):
                    yield from (count for count in further.counts if count is not None) if all(further.counts) else ()
                    further = replace(further, total=1.0, counts=(), mean=mean)
            pending.append(further)


def _corrections(size: int, *, mean: bool) -> list[tuple[bool, float]]:
    """What a mean over n elements, or their sum, is multiplied by, and whether it is a mean of them then."""
    if not mean:
        return [(True, 1 / (size - 1))]
    return [(True, size / (size - 1)), (False, float(size))]


def _further(context: AxisFacts, way: _Way, node: ir.Node, slot: int, dim: Dim) -> _Way | None:
    """The way through one more node; None: it ends there."""
    made = node.outputs[0]
    if carries(node, slot, FORM) or (computes(node, *_BEFORE) and not way.counts):
        return replace(way, value=made, length=way.length + 1)
    if _is_root(node, slot):
        return replace(way, value=made, total=sqrt(way.total), power=way.power / 2, length=way.length + 1)
    divides = computes(node, Calc.QUOTIENT) and slot == 0
    if not divides and not computes(node, Calc.PRODUCT):
        return None
    number = _number(context, node, 1 - slot)
    if number is None or number <= 0:
        return None
    factor = 1 / number if divides else number
    size, held = context.table.size(dim)[0], number_at(node, 1 - slot)
    formula, written = match_count(factor, size), match_count(number, size)
    scalar = None if held is None else Scalar(node, 1 - slot, number)
    count = Count(node, dim, formula, scalar, written) if formula and written else None
    counts = (*way.counts, count)
    return replace(way, value=made, total=way.total * factor, length=way.length + 1, counts=counts)


def _is_root(node: ir.Node, slot: int) -> bool:
    power = number_at(node, 1) if computes(node, Calc.POWER) and slot == 0 else None
    return computes(node, Calc.ROOT) or (power is not None and power.value == 0.5)


def _number(context: AxisFacts, node: ir.Node, slot: int) -> float | None:
    """The number in an input: a constant, or one that the file works out and that was the same in both runs."""
    held = number_at(node, slot)
    if held is not None:
        return held.value
    value = node.inputs[slot]
    seen = None if value is None else context.observed.values.get(value.name or "")
    if seen is None or seen[0].size != 1 or not np.array_equal(*seen):
        return None
    return float(seen[0].reshape(-1)[0])
