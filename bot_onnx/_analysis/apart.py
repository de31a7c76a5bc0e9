"""Queries, keys and values that a file keeps in three tensors of one shape, where another has one matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx_ir as ir

from bot_onnx._axes.facts import AxisFacts
from bot_onnx._ops import is_linear
from bot_onnx._patterns.attention import Attention, projections
from bot_onnx._patterns.parameters import Parameter
from bot_onnx._structure import Stack

Names = tuple[str, ...]


def kept_apart(
    context: AxisFacts, attentions: Iterable[Attention], parameters: Mapping[str, Parameter]
) -> Iterator[Names]:
    """Names of queries, keys and values that are kept apart, attention by attention: of matrices, then of biases.

    The three matrices are read from one value: those of a cross-attention are not, and are no such three.
    """
    for attention in attentions:
        values = projections(context, attention.value_operand, [])
        sides = [
            [parameters[name] for value, part in found if part is None and (name := value.name or "") in parameters]
            for found in (attention.queries, attention.keys, values)
        ]
        matrices, biases = (_one_each(sides, kind) for kind in ("matrix", "bias"))
        if matrices and len({_read_by(parameter) for parameter in matrices} - {None}) == 1:
            yield tuple(parameter.name for parameter in matrices)
            if biases:
                yield tuple(parameter.name for parameter in biases)


def _one_each(sides: Sequence[Sequence[Parameter]], kind: str) -> list[Parameter]:
    """The parameter of a kind that each side has; empty where one has none, or several, or two have the same."""
    found = [[parameter for parameter in side if parameter.kind == kind] for side in sides]
    if any(len(side) != 1 for side in found) or len({side[0].name for side in found}) < len(found):
        return []
    return [side[0] for side in found]


def _read_by(parameter: Parameter) -> ir.Value | None:
    """The value that a matrix is multiplied with; None where that is not one alone."""
    read = {
        value
        for node, slot in parameter.uses
        if is_linear(node)
        for place, value in enumerate(node.inputs)
        if place != slot and value is not None and value.const_value is None
    }
    return read.pop() if len(read) == 1 and len(parameter.uses) == 1 else None


def stacks_apart(stacks: Sequence[Stack], named: Iterable[Names]) -> tuple[Names, ...]:
    """The same by stack: ids of those that hold the three in all layers, of one shape, and in no other three."""
    holders = {name: stack for stack in stacks for name in stack.tensors}
    found: dict[Names, None] = {}
    for names in named:
        three = [holders[name] for name in names if name in holders]
        alike = {(stack.shape, stack.kind, stack.directions, stack.chain, len(stack.tensors)) for stack in three}
        outputs = three[0].directions.count("out") if three else 0
        if len(three) == len(names) == 3 and len(alike) == 1 and outputs == 1:
            found[tuple(stack.id for stack in three)] = None
    counted = [identity for three in found for identity in three]
    return tuple(three for three in found if all(counted.count(identity) == 1 for identity in three))
