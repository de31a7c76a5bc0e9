"""What may explain a factor: a constant that follows a dim by a formula, or weights that take the factor.

Looked for among the nodes before the value that parts, nearest first; the proof decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import isclose, log, prod

import onnx_ir as ir

from bot_onnx._ops import Calc, computes
from bot_onnx._patterns.attention import scalar_factors
from bot_onnx._patterns.closed_forms import SCALES
from bot_onnx._patterns.parameters import parameter_behind
from bot_onnx._proof.miniature import Miniature, Relations, Repairs
from bot_onnx._surgery.proven import Formula, Gain

_FAR = 20  #: nodes looked at
_EXPONENTS = (-1.0, 1.0, -0.5, 0.5)
_FORMULAS = ("1/n", "n", "1/sqrt(n)", "sqrt(n)")
_ROUNDING = 1e-5
_NEAR = 1e-2
_OF_SCORES = (-0.5, -0.25, -1.0)  #: what one divisor leaves, one of two, and none
Leaves = tuple[str, ...]
_Place = tuple[tuple[str, ...], str]  #: stacks, and the name of the value that shows what they take


def hypotheses(
    mini: Miniature, value: ir.Value, relations: Relations, repairs: Repairs, ratios: Mapping[str, int]
) -> Iterator[Repairs]:
    """Repairs with one more explanation each, likeliest first.

    Args:
        mini: the miniature.
        value: the first value that parts from its copies.
        relations: of all values.
        repairs: what has been explained so far.
        ratios: how many times each leaf grew.
    """
    yield from _afresh(mini, value, relations, repairs)
    nodes = list(_before(value, relations))
    dims = _dims(mini, nodes)
    for node in nodes:
        for formula in _formulas(mini, node, dims):
            if formula not in repairs.formulas:
                yield replace(repairs, formulas=(*repairs.formulas, formula))
    yield from _in_scores(mini, repairs)
    if not repairs.quiet:
        yield replace(repairs, quiet=True)
    carried: list[_Place] = [(stacks, value.name or "") for node in nodes for stacks in _together(mini, node)]
    tied: list[_Place] = [(("",), node.outputs[0].name or "") for node in nodes if _stacks(mini, node)]
    missing = _missing(value, relations)
    # A constant that follows a part of the way goes before weights that would take all of it: nothing that shrinks
    # takes a factor, and the constant would stay where it is.
    for formula, effect in _halves(mini, nodes, dims, ratios):
        nearer = [one / effect for one in missing if abs(log(one / effect)) < abs(log(one)) - _NEAR]
        if nearer and formula not in repairs.formulas:
            following = replace(repairs, formulas=(*repairs.formulas, formula))
            yield from _taken(following, carried, list(_gains(dims, ratios, nearer)))
    for places, wanted in ((carried, missing or None), (carried, None), (tied, missing or None), (tied, None)):
        yield from _taken(repairs, places, list(_gains(dims, ratios, wanted)))


def _taken(repairs: Repairs, places: list[_Place], gains: list[Gain]) -> Iterator[Repairs]:
    """Repairs in which the weights at one of some places take one more factor."""
    for stacks, shown in places:
        held = tuple(one for one in repairs.gains if not one.stack or one.stack not in stacks)
        for gain in gains:
            more = tuple(replace(gain, stack=stack, value=shown) for stack in stacks)
            yield replace(repairs, gains=(*held, *more))


def _halves(
    mini: Miniature, nodes: list[ir.Node], dims: list[Leaves], ratios: Mapping[str, int]
) -> Iterator[tuple[Formula, float]]:
    """Formulas of the nodes' factors, with what each makes of a value where its dims grow."""
    sizes = mini.analysis.structure.dims
    for node in nodes:
        for formula in _formulas(mini, node, dims):
            size = prod(sizes[ident].size for ident in formula.dims)
            ratio = prod(ratios.get(ident, 1) for ident in formula.dims)
            effect = SCALES[formula.formula](size * ratio) / SCALES[formula.formula](size)
            yield formula, 1 / effect if computes(node, Calc.QUOTIENT) and formula.slot == 1 else effect


def _afresh(mini: Miniature, value: ir.Value, relations: Relations, repairs: Repairs) -> Iterator[Repairs]:
    """A value that parts from its copies though all it is made of are copies: nodes of this op begin with those."""
    made = value.producer()
    assert made is not None
    known = [relations.get(read.name or "") for read in mini.excerpt.inputs_of(made)]
    if value.name in repairs.afresh or any(one is not None and (one.odd or one.difference) for one in known):
        return
    alike = [other.name or "" for other in mini.watched if (node := other.producer()) and node.op_type == made.op_type]
    yield replace(repairs, afresh=repairs.afresh.union(alike))


def _in_scores(mini: Miniature, repairs: Repairs) -> Iterator[Repairs]:
    """Scores take what queries and keys cannot: one matrix makes both, or values as well."""
    ids = mini.analysis.ids
    for exponent in _OF_SCORES if repairs.scored else ():
        gains = [
            Gain("", scale.scalar.node.outputs[0].name or "", exponent, (ids[scale.dim],))
            for scale in mini.analysis.scales
            if not (scale.stream or scale.counts or scale.sums) and scale.dim in ids
        ]
        if gains:
            yield replace(repairs, gains=(*repairs.gains, *gains), scored=False)


def _missing(value: ir.Value, relations: Relations) -> list[float]:
    """Factors that would make copies of what the value is made from, where it is a multiple of them; else empty."""
    made = value.producer()
    operands = [value, *(made.inputs if made is not None else ())]
    known = [relations.get(operand.name or "") for operand in operands if operand is not None]
    return [1 / one.factor for one in known if one is not None and one.odd and one.factor]


def _before(value: ir.Value, relations: Relations) -> Iterator[ir.Node]:
    """The node that makes a value and those before it, those on the way of an odd factor first."""
    made = value.producer()
    assert made is not None
    pending, later, seen = [made], list[ir.Node](), {made}
    while (pending or later) and len(seen) <= _FAR:
        node = pending.pop(0) if pending else later.pop(0)
        yield node
        for operand in node.inputs:
            source = None if operand is None else operand.producer()
            if operand is None or source is None or source in seen:
                continue
            seen.add(source)
            relation = relations.get(operand.name or "")
            (pending if relation is not None and relation.odd else later).append(source)


def _dims(mini: Miniature, nodes: list[ir.Node]) -> list[Leaves]:
    """Growing dims along the axes of what the nodes read and make, as their leaves, nearest first."""
    table, ids = mini.analysis.context.table, mini.analysis.ids
    found: dict[Leaves, None] = {}
    for node in nodes:
        for value in (*node.inputs, *node.outputs):
            for dim in mini.analysis.context.axes_of(value) if value is not None else ():
                leaves = [] if dim is None else table.leaves(dim)
                idents = tuple(ids[leaf] for leaf in leaves if leaf in ids)
                found[idents] = None
                found.update(dict.fromkeys((ident,) for ident in idents))
    grown = set(mini.sizes.grown)
    return [leaves for leaves in found if grown.intersection(leaves)]


def _formulas(mini: Miniature, node: ir.Node, dims: list[Leaves]) -> Iterator[Formula]:
    """Formulas that give the node's scalar factor at the source's sizes."""
    sizes = mini.analysis.structure.dims
    for scalar in scalar_factors(node):
        for leaves in dims:
            size = prod(sizes[ident].size for ident in leaves)
            for formula in _FORMULAS:
                if isclose(SCALES[formula](size), abs(scalar.value), rel_tol=_ROUNDING) and abs(scalar.value) != 1.0:
                    yield Formula(node.outputs[0].name or "", scalar.slot, formula, leaves)


def _stacks(mini: Miniature, node: ir.Node) -> list[str]:
    """Stacks of the parameters that a node reads, views looked through."""
    names = {parameter.name for operand in node.inputs if (parameter := parameter_behind(operand)) is not None}
    stacks = mini.analysis.structure.stacks
    return [stack.id for stack in stacks if stack.closed_form is None and names.intersection(stack.tensors)]


def _together(mini: Miniature, node: ir.Node) -> Iterator[tuple[str, ...]]:
    """Stacks that may take a factor: one alone, and a linear map with its bias."""
    own = _stacks(mini, node)
    yield from ((stack,) for stack in own)
    before = [operand.producer() for operand in node.inputs if operand is not None] if node.op_type == "Add" else []
    found = [*own, *(stack for other in before if other is not None and own for stack in _stacks(mini, other))]
    if len(found) > 1:
        yield tuple(dict.fromkeys(found))


def _gains(dims: list[Leaves], ratios: Mapping[str, int], wanted: list[float] | None) -> Iterator[Gain]:
    """Factors that follow some dims; those that are ``wanted``, where that is known."""
    for leaves in dims:
        ratio = prod(ratios.get(ident, 1) for ident in leaves)
        for exponent in _EXPONENTS if ratio > 1 else ():
            if wanted is None or any(isclose(ratio**exponent, one, rel_tol=_NEAR) for one in wanted):
                yield Gain("", "", exponent, leaves)
