"""Passes from facts to facts, and the driver that runs them.

A pass is a function. Its signature says which facts it needs, by their types, and which it gives; its declaration, what
it changes. Dims are one mutable store (:class:`DimStore`): a pass that merges, freezes or releases them says so, and a
later one that must see the outcome without reading a fact of that pass names it in ``after``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args, get_type_hints

Effect = Literal["graph", "merges", "freezes", "releases"]
#: What a pass may change: the graph, or dims (merged with others, frozen, or free again).
EFFECTS: tuple[Effect, ...] = get_args(Effect)
Fact = TypeVar("Fact")


class OrderError(ValueError):
    """Passes that do not fit together."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One step of an analysis.

    Attributes:
        name: of the function.
        run: takes the facts of ``requires``, in order; gives the one of ``provides``.
        requires, provides: types of facts.
        after: types of facts whose passes have changed what this one looks at.
        effects: what it may change.
    """

    name: str
    run: Callable[..., object]
    requires: tuple[type, ...]
    provides: type
    after: tuple[type, ...] = ()
    effects: frozenset[Effect] = frozenset()


def analysis_pass(*effects: Effect, after: tuple[type, ...] = ()) -> Callable[[Callable[..., object]], Pass]:
    """Make a pass of a function, by the types in its signature.

    Raises:
        OrderError: an effect that there is not.
    """
    unknown = set(effects) - set(EFFECTS)
    if unknown:
        raise OrderError(f"{', '.join(sorted(unknown))}: no such effect; there are {', '.join(EFFECTS)}")

    def declare(function: Callable[..., object]) -> Pass:
        types = get_type_hints(function)
        provides = types.pop("return")
        return Pass(function.__name__, function, tuple(types.values()), provides, after, frozenset(effects))

    return declare


def in_order(given: Iterable[type], *passes: Pass) -> tuple[Pass, ...]:
    """The passes, if every one finds what it needs: ``given``, or provided by one before it.

    Raises:
        OrderError: something is provided twice, too late, or by no pass.
    """
    known = set(given)
    makers: dict[type, str] = {}
    for one in passes:
        if one.provides in known or one.provides in makers:
            raise OrderError(f"{one.name} provides {one.provides.__name__}, which there is already")
        makers[one.provides] = one.name
    for one in passes:
        for kind in (*one.requires, *one.after):
            if kind in known:
                continue
            maker = makers.get(kind)
            where = "no pass provides" if maker is None else f"{maker} provides only later"
            raise OrderError(f"{one.name} needs {kind.__name__}, which {where}")
        known.add(one.provides)
    return passes


class Facts:
    """One fact of every type that was given or provided so far."""

    __slots__ = ("_held",)

    def __init__(self, *given: object) -> None:
        self._held: dict[type, object] = {type(fact): fact for fact in given}

    def __getitem__(self, kind: type[Fact]) -> Fact:
        """The fact of a type.

        Raises:
            KeyError: there is none.
        """
        found = self._held[kind]
        assert isinstance(found, kind)
        return found

    def then(self, one: Pass) -> Facts:
        """These facts and what ``one`` makes of them."""
        return Facts(*self._held.values(), one.run(*(self._held[kind] for kind in one.requires)))


def run_passes(passes: Iterable[Pass], *given: object) -> Facts:
    """Run passes that are in order on what is given."""
    facts = Facts(*given)
    for one in passes:
        facts = facts.then(one)
    return facts
