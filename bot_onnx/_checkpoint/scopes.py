"""From the scopes of nodes to the modules that parameters belong to.

The older exporter writes the last name of every module that was *called* into a node's name. A module that a network
reaches into without calling it is missing there (``decoder.layers.0`` for ``model.decoder.layers.0``), and a module
that is called again gets a number (``query_1``). What a scope stands for is learned from the parameters whose names
were kept, which are used in scopes too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from bot_onnx._checkpoint.types import Array

_AGAIN = re.compile(r"(?P<name>.+)_\d+")


class Scopes:
    """The modules behind scopes.

    A scope's parts are those of its module's path, in order, with some left out. Every parameter whose name was kept
    says which; what holds for a scope holds for those inside it.
    """

    def __init__(
        self,
        seen: Iterable[tuple[str, str]],
        paths: Iterable[str],
        owners: Iterable[str],
        again: Iterable[str] = (),
    ) -> None:
        """Learn.

        Args:
            seen: scope of a node and owner of a parameter that it uses, for parameters whose names were kept.
            paths: the scopes of all nodes.
            owners: modules that have a parameter whose name was kept.
            again: scopes of modules that are called once more, whatever names say.
        """
        self._votes: dict[tuple[str, ...], frozenset[tuple[str, ...]]] = {}
        self._again: set[tuple[str, ...]] = {tuple(path.split(".")) for path in again}
        self._inner = {outer for path in [*paths, *owners] for outer in _outer(path)}
        pairs = [(tuple(path.split(".")), tuple(owner.split("."))) for path, owner in seen if path and owner]
        for path, owner in pairs:
            found = _AGAIN.fullmatch(path[-1])
            if found is not None and found["name"] == owner[-1]:
                self._again.add(path)
        right = wrong = 0
        for path, owner in pairs:
            places = _places(self._first_call(path), owner)
            inside = owner[: len(path)] == path
            right += bool(places) or inside
            wrong += not places and not inside
            for scope, modules in places.items():
                known = self._votes.get(scope)
                self._votes[scope] = modules if known is None else known & modules
        self.trusted = right >= max(1, wrong)

    def module(self, path: str) -> str | None:
        """Path of the module that a scope stands for; None where the kept names contradict each other.

        Where a name occurs twice in a row (``model.model``), the kept names may leave open which of the two was left
        out: then it is the inner one.
        """
        parts = self._first_call(tuple(path.split("."))) if path else ()
        for end in range(len(parts), 0, -1):
            modules = self._votes.get(parts[:end])
            if modules is not None:
                outer = min(modules, key=len, default=())
                return ".".join((*outer, *parts[end:])) if outer else None
        return path

    def innermost(self, path: str) -> bool:
        """Whether nothing is known to lie inside a scope: its parameters are its own."""
        return path not in self._inner

    def _first_call(self, path: tuple[str, ...]) -> tuple[str, ...]:
        parts: list[str] = []
        for end, part in enumerate(path, start=1):
            found = _AGAIN.fullmatch(part) if path[:end] in self._again else None
            parts.append(part if found is None else found["name"])
        return tuple(parts)


def called_again(held: Mapping[str, Mapping[tuple[str, int], Array]]) -> set[str]:
    """Scopes of modules that are called once more: numbered ones with the numbers of the scope without a number.

    Equal matrices prove it. Where there are such, so do equal scales and biases, though they be all ones or zeros.

    Args:
        held: values of the initializers that the nodes of a scope use, by op and input slot.
    """
    proven: set[str] = set()
    alike: set[str] = set()
    for path, tensors in held.items():
        found = _AGAIN.fullmatch(path)
        first = held.get(found["name"], {}) if found is not None else {}
        common = tensors.keys() & first.keys()
        if not common or any(not np.array_equal(tensors[place], first[place]) for place in common):
            continue
        alike.add(path)
        if any(tensors[place].ndim > 1 and np.unique(tensors[place]).size > 1 for place in common):
            proven.add(path)
    return alike if proven else set()


def _outer(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(len(parts))]


def _places(scope: tuple[str, ...], module: tuple[str, ...]) -> dict[tuple[str, ...], frozenset[tuple[str, ...]]]:
    """Which modules a scope and those around it can be, if the scope's parts are some of the module's, the last too."""
    if not scope or scope[-1] != module[-1]:
        return {}
    early = [0]  # where the first parts end at the earliest
    for part in scope:
        end = next((place for place in range(early[-1], len(module)) if module[place] == part), None)
        if end is None:
            return {}
        early.append(end + 1)
    late = [len(module)]  # where the rest begins at the latest, from behind
    for part in reversed(scope):
        late.append(max(place for place in range(late[-1]) if module[place] == part))
    late.reverse()
    late[-1] = len(module)
    return {
        scope[:end]: frozenset(
            module[:stop]
            for stop in range(early[end - 1] + 1, (late[end] if end < len(scope) else len(module)) + 1)
            if module[stop - 1] == scope[end - 1] and (end < len(scope) or stop == len(module))
        )
        for end in range(1, len(scope) + 1)
    }
