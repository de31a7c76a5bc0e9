"""What a network costs as polynomials: the same counts as of files and plans, at sizes that are left open."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, TypeVar, cast

from bot_onnx._costs import OUTSIDE, Sizing
from bot_onnx._costs.sizing import macs_at
from bot_onnx._page.polynomials import LAYERS, NotPolynomialError, Polynomial
from bot_onnx._structure import Structure

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LayerMacs:
    """Multiply-accumulates of a chain, layer by layer.

    Attributes:
        leading: of the leading layer. kinds: of one layer each, every formula once.
        layers: index into ``kinds``, of the source's stacked layers in order.
        turns: so many layers at the end are what more layers go on with, in turn.
    """

    leading: Polynomial
    kinds: tuple[Polynomial, ...]
    layers: tuple[int, ...]
    turns: int

    def at(self, values: Mapping[str, int], stacked: int) -> int:
        """Of a chain of ``stacked`` layers behind the leading one."""
        source = len(self.layers)
        places = (n if n < source else source - self.turns + (n - source) % self.turns for n in range(stacked))
        single = [kind.at(values) for kind in self.kinds]
        return self.leading.at(values) + sum(single[self.layers[place]] for place in places)


@dataclass(frozen=True, slots=True)
class PartFormulas:
    """Of one chain, or of what lies outside of all. None: that number is no polynomial of the sizes.

    Attributes:
        name: as :class:`bot_onnx._costs.Cost` has it. chain: name of the chain, None outside.
        count: layers in the source. leading: how many of them are no part of the stacks.
        parameters, weight_bytes: in the leaves that change and, of a chain, in :data:`LAYERS`.
        macs: of one run, likewise but layer by layer.
    """

    name: str
    chain: str | None
    count: int
    leading: int
    parameters: Polynomial | None
    weight_bytes: Polynomial | None
    macs: LayerMacs | None

    def at(self, sizes: Mapping[str, int], layers: int) -> tuple[int | None, int | None, int | None]:
        """Parameters, bytes, multiply-accumulates at sizes of leaves and a depth."""
        values = {**sizes, LAYERS: layers}
        parameters, stored = (None if one is None else one.at(values) for one in (self.parameters, self.weight_bytes))
        return parameters, stored, None if self.macs is None else self.macs.at(values, layers - self.leading)


def formulas_of(sizing: Sizing, free: Collection[str]) -> tuple[PartFormulas, ...]:
    """The polynomials of every chain, then of what lies outside.

    Args:
        sizing: what the network costs at any sizes.
        free: ids of the leaves that stay variables; all others have their sizes of the source.
    """
    sizes = cast(Mapping[str, int], symbols(sizing.structure, free))  # the counts do with these what they do with int
    parts = []
    for entry in sizing.chains:
        name, chain = entry.chain.name, entry.chain
        parameters, stored = _weights(sizing, name, sizes)
        macs = _tried(partial(_layer_macs, entry, sizes))
        parts.append(PartFormulas(name, name, chain.count, chain.leading, parameters, stored, macs))
    parameters, stored = _weights(sizing, None, sizes)
    outside = _tried(lambda: LayerMacs(Polynomial.of(macs_at(sizing.outside, sizes)), (), (), 1))
    return (*parts, PartFormulas(OUTSIDE, None, 0, 0, parameters, stored, outside))


def symbols(structure: Structure, free: Collection[str]) -> dict[str, Polynomial]:
    """Every dim by id as a polynomial in the leaves that are ``free``."""
    made: dict[str, Polynomial] = {}

    def of(ident: str) -> Polynomial:
        if ident not in made:
            dim = structure.dims[ident]
            if dim.parts:
                parts = [of(part) for part in dim.parts]
                made[ident] = Polynomial.of(prod(parts) if dim.kind == "product" else sum(parts))
            else:
                made[ident] = Polynomial.variable(ident) if ident in free else Polynomial.of(dim.size)
        return made[ident]

    for ident in structure.dims:
        of(ident)
    return made


def _weights(sizing: Sizing, name: str | None, sizes: Mapping[str, int]) -> tuple[Polynomial | None, Polynomial | None]:
    layers = cast(int, Polynomial.variable(LAYERS) if name is not None else 0)
    both = _tried(lambda: sizing.weights(name, layers, sizes))
    if both is not None:
        return Polynomial.of(both[0]), Polynomial.of(both[1])
    floats = {stack.id: "UINT8" for stack in sizing.structure.stacks}  # whole bytes, so that parameters can be said
    alone = _tried(lambda: sizing.weights(name, layers, sizes, floats))
    return (None if alone is None else Polynomial.of(alone[0])), None


def _layer_macs(entry: Any, sizes: Mapping[str, int]) -> LayerMacs:
    found = [Polynomial.of(macs_at(layer, sizes)) for layer in entry.layers]
    kinds: dict[Polynomial, int] = {}
    places = tuple(kinds.setdefault(one, len(kinds)) for one in found)
    return LayerMacs(Polynomial.of(macs_at(entry.leading, sizes)), tuple(kinds), places, entry.turns)


def _tried(made: Callable[[], T]) -> T | None:
    """What a count gives; None where it does what polynomials cannot."""
    try:
        return made()
    except (NotPolynomialError, TypeError):
        return None


def total(
    parts: Sequence[PartFormulas], sizes: Mapping[str, int], layers: Mapping[str, int]
) -> tuple[int | None, int | None, int | None]:
    """Parameters, bytes and multiply-accumulates of all parts; None where those of one of them are not known."""
    every = [part.at(sizes, layers[part.chain] if part.chain is not None else 0) for part in parts]
    columns = [[row[column] for row in every] for column in range(3)]
    parameters, stored, macs = (
        None if None in column else sum(one for one in column if one is not None) for column in columns
    )
    return parameters, stored, macs
