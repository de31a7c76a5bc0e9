"""What is the same by one of two descriptions, and by that of another, is the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


def numbered(things: Iterable[tuple[Hashable, Hashable]]) -> list[int]:
    """A number per thing, the same for those that share a description, or share one each with a third.

    Args:
        things: the two descriptions of each; a description says of which kind it is.
    """
    numbers: dict[Hashable, int] = {}
    same: list[int] = []  # per number one that is the same; the least of them is itself

    def least(number: int) -> int:
        while same[number] != number:
            number = same[number]
        return number

    def number_of(description: Hashable) -> int:
        number = numbers.setdefault(description, len(same))
        if number == len(same):
            same.append(number)
        return least(number)

    found: list[int] = []
    for one, other in things:
        first, second = number_of(one), number_of(other)
        same[max(first, second)] = min(first, second)
        found.append(first)
    return [least(number) for number in found]
