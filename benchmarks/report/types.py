"""What a row of the page is: a piece of work, its figures with what they should reach, and how they are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

#: A ratio that is worse than the published one by more than this part is told by ``--check``.
TOLERANCE: Final = 0.3


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure of a row.

    Attributes:
        key: among what the row measures.
        told: the figure in words.
        reach: what it should come to; None: it is shown and has no goal.
        unit: behind the number.
        more: whether larger is better.
        ratio: whether both sides were measured in one run, so that another machine or a busy one gives much the same.
    """

    key: str
    told: str
    reach: float | None = None
    unit: str = ""
    more: bool = False
    ratio: bool = False

    def met(self, value: float) -> bool:
        """Whether a measured figure is what it should be."""
        return self.reach is None or (value >= self.reach if self.more else value <= self.reach)

    def worse(self, value: float, published: float, tolerance: float = TOLERANCE) -> bool:
        """Whether a figure is worse than the published one beyond the tolerance."""
        return value < published / (1 + tolerance) if self.more else value > published * (1 + tolerance)


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows are measured.

    Attributes:
        cache: generated models that are kept. scratch: a folder that is removed in the end. big: whether large ones are
            made. runs: of what is short.
    """

    cache: Path
    scratch: Path
    big: bool
    runs: int


#: By key; what begins with :data:`PART` is no goal's, but a part of one, told where the goal was not met.
Figures = Mapping[str, float]
PART: Final = "part: "


@dataclass(frozen=True, slots=True)
class Work:
    """One row.

    Attributes:
        name: for ``--row``. told: what is done. goals: its figures. measure: measures all of them.
        profiled: arguments of ``python`` whose profile explains the distance. big: only with ``--big``.
    """

    name: str
    told: str
    goals: tuple[Goal, ...]
    measure: Callable[[Place], Figures]
    profiled: Callable[[Place], tuple[str, ...]] | None = None
    big: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What is kept of a row.

    Attributes:
        figures: by key. profile: lines of it, where a goal was not met. date, commit, machine: of the measurement.
        load: how many processes wanted a processor meanwhile, this one's own included (the system's load average).
    """

    figures: dict[str, float]
    profile: list[str] = field(default_factory=list)
    date: str = ""
    commit: str = ""
    machine: str = ""
    load: float = 0.0

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Measured:
        """What the JSON file says of a row."""
        return cls(**content)
