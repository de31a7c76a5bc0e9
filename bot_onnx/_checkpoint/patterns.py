"""Keys of two checkpoints side by side: the same names behind other prefixes, the same layers in other numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


def pattern(key: str) -> tuple[str, tuple[int, ...]]:
    """A key with its layer numbers replaced by ``*``, and the numbers: ``h.3.ln`` is ``h.*.ln`` and ``(3,)``."""
    parts = key.split(".")
    numbers = tuple(int(part) for part in parts if part.isdigit())
    return ".".join("*" if part.isdigit() else part for part in parts), numbers


@dataclass(frozen=True, slots=True)
class Prefix:
    """How the keys of one side are those of the other: ``old`` at the beginning is replaced by ``new``."""

    old: str = ""
    new: str = ""

    def __call__(self, key: str) -> str:
        """The key on the other side."""
        return self.new + key[len(self.old) :] if key.startswith(self.old) else key


def find_prefix(ours: Iterable[str], theirs: Iterable[str]) -> Prefix:
    """The replacement that most keys agree on; none where no two keys end alike."""
    others: dict[tuple[str, ...], list[list[str]]] = {}
    for text in dict.fromkeys(pattern(key)[0] for key in theirs):
        parts = text.split(".")
        others.setdefault(tuple(parts[-2:]), []).append(parts)
    votes: Counter[Prefix] = Counter()
    for own in dict.fromkeys(pattern(key)[0] for key in ours):
        parts = own.split(".")
        found = [(_common_end(parts, other), other) for other in others.get(tuple(parts[-2:]), ())]
        longest = max((length for length, _ in found), default=0)
        for length, other in found:
            if length == longest:
                votes[Prefix(_start(parts, length), _start(other, length))] += 1
    # Of equally many votes the one that changes least.
    best = max(votes, key=lambda prefix: (votes[prefix], -len(prefix.old) - len(prefix.new)), default=Prefix())
    return Prefix() if "*" in best.old + best.new else best


def _common_end(first: list[str], second: list[str]) -> int:
    length = 0
    while length < min(len(first), len(second)) and first[-1 - length] == second[-1 - length]:
        length += 1
    return length


def _start(parts: list[str], end: int) -> str:
    return "".join(f"{part}." for part in parts[: len(parts) - end])


@dataclass(slots=True)
class Depths:
    """Which layers one side has, by pattern."""

    numbers: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    def add(self, key: str) -> None:
        """Take a key in."""
        text, numbers = pattern(key)
        self.numbers.setdefault(text, []).append(numbers)

    def has_layers_like(self, key: str) -> bool:
        """Whether other layers have a tensor like ``key``."""
        text, numbers = pattern(key)
        return bool(numbers) and text in self.numbers

    def ends_before(self, key: str) -> bool:
        """Whether ``key`` is of a layer behind the last one that there is here."""
        text, numbers = pattern(key)
        known = self.numbers.get(text)
        if not known or not numbers:
            return False
        return any(number > max(other[place] for other in known) for place, number in enumerate(numbers))
