"""What the solver's passes share: the graph, the spec, the sizes decided so far, and which dim accompanies which."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from bot_onnx._structure import Dim, Role, Structure
from bot_onnx._target.composition import Composition
from bot_onnx._target.constraints import SizeStore
from bot_onnx._target.schema import TargetSpec


@dataclass
class Problem:
    """State of one solution.

    Attributes:
        structure: the analysed source graph.
        spec: what is asked for.
        comp: the composition of the dims.
        sizes: the sizes decided so far.
        requests: ``(dim, size, key)`` for everything that the spec asks of a dim.
        asked: ids of dims whose size the spec gives, by key or under ``dims``.
        overridden: the part of ``asked`` that ``dims`` gives: size and key by id.
        scaled: what ``width`` makes of the leaves that it scales, before they are rounded, by id.
        notes: sentences for the report.
    """

    structure: Structure
    spec: TargetSpec
    comp: Composition
    sizes: SizeStore
    requests: list[tuple[Dim, int, str]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    overridden: dict[str, tuple[int, str]] = field(default_factory=dict)
    scaled: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, structure: Structure, spec: TargetSpec) -> Problem:
        """Set up a problem in which no size is decided yet."""
        comp = Composition(structure)
        return cls(structure, spec, comp, SizeStore(comp))

    def note(self, text: str) -> None:
        """Add a sentence for the report, once."""
        if text not in self.notes:
            self.notes.append(text)

    def new(self, dim: Dim) -> int:
        """Return the decided size of a dim, or its source size where none is decided."""
        found = self.sizes.get(dim.id)
        return dim.size if found is None else found

    def unknown(self, dim: Dim) -> bool:
        """Return whether no size is decided for the dim."""
        return self.sizes.get(dim.id) is None

    def keep_whole(self, dim: Dim, why: str) -> None:
        """Keep the source size of all that a dim is made of, but for the parts that the spec asks for."""
        for leaf in self.comp.leaves(dim.id):
            self.sizes.keep(leaf, why)

    def hidden_of(self, dim: Dim) -> Dim | None:
        """Return the residual stream that a dim works on.

        That is the dim of role ``hidden`` it shares most parameters with (the other axis of its matrices); where it
        shares none, the graph's first one.
        """
        counts = self.companions
        for ident in (dim.id, *self.comp.leaves(dim.id)):
            if counts.get(ident):
                best = max(counts[ident].items(), key=lambda item: item[1])[0]
                return self.comp.dims[best]
        return next(iter(self.comp.with_role(Role.HIDDEN)), None)

    def tensors_of(self, ident: str) -> frozenset[str]:
        """Return the names of the initializers that have a dim, or what is made of it, on some axis."""
        dims = self.comp.dims.values()
        return frozenset(tensor for dim in dims if ident in self.comp.within(dim.id) for tensor, _ in dim.occurrences)

    @cached_property
    def companions(self) -> dict[str, Counter[str]]:
        """How many stacks a dim shares with each dim of role ``hidden``, on another axis than that one."""
        found: dict[str, Counter[str]] = {}
        for axes in self._axis_sets(chains_only=False):
            for ident, hidden in axes:
                found.setdefault(ident, Counter())[hidden] += 1
        return found

    @cached_property
    def in_layers(self) -> frozenset[str]:
        """Ids of the dims that share a stack of some chain of layers with a hidden dim."""
        return frozenset(ident for axes in self._axis_sets(chains_only=True) for ident, _ in axes)

    def _axis_sets(self, *, chains_only: bool) -> list[list[tuple[str, str]]]:
        """Per stack, the pairs ``(dim, hidden dim)`` on two different axes."""
        dims = self.comp.dims
        pairs: list[list[tuple[str, str]]] = []
        for stack in self.structure.stacks:
            if chains_only and stack.chain is None:
                continue
            axes = [self.comp.within(ident) for ident in stack.axes if ident is not None and ident in dims]
            hidden = [[ident for ident in sorted(axis) if dims[ident].role == Role.HIDDEN] for axis in axes]
            pairs.append(
                [
                    (ident, other)
                    for here, axis in enumerate(axes)
                    for there, others in enumerate(hidden)
                    if here != there
                    for other in others
                    for ident in sorted(axis)
                ]
            )
        return pairs


def round_half_up(value: float) -> int:
    """Round to the nearest whole number, halves up (Python's ``round`` would go to the even one)."""
    return math.floor(value + 0.5)


def round_channels(value: float, multiple: int | None) -> int:
    """Round a channel count to the nearest multiple; where that is zero, to the nearest whole number, at least 1."""
    if multiple:
        rounded = round_half_up(value / multiple) * multiple
        if rounded:
            return rounded
    return max(1, round_half_up(value))
