"""Turn stacks and solved sizes into work orders for the resampler."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import prod

from bot_onnx._stack.groups import regrouped
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Dim, Role, Stack, Structure
from bot_onnx._surgery.laws import Laws
from bot_onnx._surgery.stacked import inner_picks
from bot_onnx._target import Picks

#: Every dim grows in the method's own way.
EVEN = Laws()

_UNIT = Axis("leaf", 1, 1, "count")


def build_task(
    structure: Structure,
    stack: Stack,
    sizes: Mapping[str, int],
    layers: Mapping[str, int],
    laws: Laws = EVEN,
    picks: Picks | None = None,
) -> StackTask:
    """The work order of one stack.

    Args:
        structure: of the source.
        stack: one of its stacks.
        sizes: new size per dim id. layers: new depth per chain name.
        laws: how dims grow.
        picks: by chain name the source's layer for every layer, where that is not left to the method.
    """
    counts = {chain.name: (chain.stacked, layers[chain.name] - chain.leading) for chain in structure.chains}
    deepest = max(counts.values(), default=(1, 1))
    inside = counts[stack.chain] if stack.chain is not None and not stack.shared else (1, 1)
    return StackTask(
        stack=stack.id,
        name=stack.name,
        kind=stack.kind,
        axes=tuple(
            _UNIT if identity is None else _lawful(_top_axis(structure, stack, identity, sizes), stack, laws)
            for identity in stack.axes
        ),
        directions=stack.directions,
        layers=inside,
        total_layers=counts[stack.chain] if stack.chain is not None else deepest,
        picks=_chosen(structure, stack, picks or {}),
        turns=_turns(structure, stack),
        writes_residual=stack.writes_residual,
        before_tied_head=stack.before_tied_head,
        residual=next((c.residual for c in structure.chains if c.name == stack.chain), structure.residual),
        norm_position=stack.norm_position,
        offset=stack.offset,
        gain=laws.gain(stack),
    )


def _turns(structure: Structure, stack: Stack) -> int:
    """How the layers of a stack's chains are held to their places; 0: not by turns."""
    held = [chain.held for chain in structure.chains if stack.chain in (chain.name, chain.follows)]
    turns = max(held, default=1)
    return 0 if turns == 1 and 0 in held else turns


def _chosen(structure: Structure, stack: Stack, picks: Picks) -> tuple[int, ...]:
    """Per layer of the target the place in the stack of the source's layer."""
    chain = next((chain for chain in structure.chains if chain.name == stack.chain), None)
    if chain is None or stack.shared or chain.name not in picks:
        return ()
    return tuple(inner_picks(chain, picks[chain.name]))


def build_axis(
    structure: Structure, identity: str, sizes: Mapping[str, int], *, output: str = "", laws: Laws = EVEN
) -> Axis:
    """A dim as an axis of activations, to hold the output called ``output`` against the source's."""

    def lawful(axis: Axis) -> Axis:
        parts = tuple(map(lawful, axis.parts))
        return replace(axis, parts=parts, law="even" if parts else laws.of_output(output, axis.dim))

    return lawful(_axis(structure, identity, sizes))


def _lawful(axis: Axis, stack: Stack, laws: Laws) -> Axis:
    if not laws.widened:
        return axis
    if not axis.parts:
        return replace(axis, law=laws.of(stack, axis.dim))
    return replace(axis, parts=tuple(_lawful(part, stack, laws) for part in axis.parts))


def _axis(structure: Structure, identity: str, sizes: Mapping[str, int]) -> Axis:
    dim = structure.dims[identity]
    parts = tuple(_axis(structure, part, sizes) for part in dim.parts)
    if dim.kind == "product":  # a product without a role of its own says no more than its factors
        parts = tuple(
            factor
            for part in parts
            for factor in (part.parts if part.kind == "product" and part.role == Role.FREE else (part,))
        )
    return regrouped(Axis(dim.kind, dim.size, sizes[identity], dim.role, parts, dim=identity))


def _top_axis(structure: Structure, stack: Stack, identity: str, sizes: Mapping[str, int]) -> Axis:
    """An axis of the stack, with the parts marked that carry queries or keys."""
    axis = _axis(structure, identity, sizes)
    head_dim = _head_dim(structure, identity, sizes) if stack.score_parts else None
    if head_dim is None:
        return axis
    if axis.kind == "product":
        counts = [index for index, part in enumerate(axis.parts[:-1]) if part.role == Role.COUNT]
        if counts and counts[0] > 0:  # heads x 3 x head_dim: queries, keys and values of one head in a row
            return _scored_within(axis, counts[0], stack.score_parts, head_dim)
        axis = _unrolled(axis) if counts else axis
    if axis.kind != "concat" or axis.role == Role.HEAD_DIM:
        return replace(axis, score=True, head_dim=head_dim)
    return _scored(axis, stack.score_parts, head_dim)


def _scored(axis: Axis, chosen: Collection[int], head_dim: tuple[int, int]) -> Axis:
    """A concat with the ``chosen`` parts marked."""
    parts = tuple(
        replace(part, score=True, head_dim=head_dim) if index in chosen else part
        for index, part in enumerate(axis.parts)
    )
    return replace(axis, parts=parts)


def _scored_within(axis: Axis, place: int, chosen: Collection[int], head_dim: tuple[int, int]) -> Axis:
    """A product whose factors from ``place`` on, a count first, are written as a concat with marked parts."""
    outer, inner = axis.parts[:place], axis.parts[place:]
    source, target = prod(part.source for part in inner), prod(part.target for part in inner)
    packed = _scored(_unrolled(Axis("product", source, target, "free", inner)), chosen, head_dim)
    return replace(axis, parts=(*outer, packed))


def _unrolled(axis: Axis) -> Axis:
    """``count x rest`` as the concat of ``count`` equal parts, so that each can be told from the others."""
    count, rest = axis.parts[0], axis.parts[1:]
    source, target = axis.source // count.source, axis.target // count.target
    part = rest[0] if len(rest) == 1 else Axis("product", source, target, "free", rest)
    return Axis("concat", axis.source, axis.target, axis.role, (part,) * count.source)


def _head_dim(structure: Structure, identity: str, sizes: Mapping[str, int]) -> tuple[int, int] | None:
    """(source, target) of the head_dim that lies below a dim."""
    inside = _leaves(structure, identity)
    for dim in structure.dims.values():
        if dim.role == Role.HEAD_DIM and _leaves(structure, dim.id) <= inside:
            return dim.size, sizes[dim.id]
    return None


def _leaves(structure: Structure, identity: str) -> set[str]:
    dim: Dim = structure.dims[identity]
    if not dim.parts:
        return {identity}
    return set().union(*(_leaves(structure, part) for part in dim.parts))
