"""What becomes of a size that a config tells of: looked up in the plan by what the size is for, and its value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bot_onnx._structure import SPEC_ROLES, Role
from bot_onnx._surgery.types import Plan

Move = tuple[int, int]  #: a size before and after

#: Roles that a width beside the config's own keys never is.
_COUNTS = frozenset({Role.COUNT, Role.IO, Role.SPATIAL, Role.HEADS, Role.KV_HEADS, Role.GROUP, Role.EXPERTS})


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a plan.

    Attributes:
        roles: by role, of every dim that has it. chains: layers of every chain, in graph order.
    """

    roles: Mapping[str, frozenset[Move]] = field(default_factory=dict)
    chains: tuple[Move, ...] = ()

    @classmethod
    def of(cls, plan: Plan) -> Sizes:
        """Those of a plan."""
        roles: dict[str, set[Move]] = {}
        for dim in plan.dims:
            roles.setdefault(str(dim.role), set()).add((dim.source, dim.target))
        found = {role: frozenset(moves) for role, moves in roles.items()}
        return cls(found, tuple((layer.source, layer.target) for layer in plan.layers))

    def new(self, role: str, size: int) -> int | None:
        """The size that one of a role becomes; None where several do, or where the graph has none of that size."""
        moves = self.roles.get(role)
        if moves is None and role == Role.KV_HEADS:  # as many as query heads, or one that no axis shows
            return 1 if size == 1 else self.new(Role.HEADS, size)
        return _one(moves or (), size)

    def of_any(self, size: int) -> int | None:
        """The size that a width becomes, whatever it is for; None where several do, or none changes."""
        found = {move for role, moves in self.roles.items() if role not in _COUNTS for move in moves if move[0] == size}
        return next(iter(found))[1] if len({new for _, new in found}) == 1 else None

    def changes(self, size: int, *, of: Iterable[str] | None = None) -> bool:
        """Whether a dim of this size becomes another one, among those of some roles or those that are widths."""
        asked = set(self.roles) - _COUNTS - {Role.VOCAB, Role.POSITIONS} if of is None else of
        return any(old == size != new for role in asked for old, new in self.roles.get(role, ()))

    def changes_role(self, role: str) -> bool:
        """Whether a dim of a role becomes another one."""
        return any(old != new for old, new in self.roles.get(role, ()))

    def layers(self, count: int) -> int | None:
        """The depth that one becomes; None where several do, or where no chain has it."""
        return _one(self.chains, count)

    def told(self) -> dict[str, tuple[str, str]]:
        """Sizes before and after by key of a spec, for people, of what the network has."""
        named: dict[str, Iterable[Move]] = {"layers": self.chains}
        named |= {str(role): sorted(self.roles.get(role, ())) for role in SPEC_ROLES}
        return {
            key: (", ".join(str(old) for old, _ in moves), ", ".join(str(new) for _, new in moves))
            for key, moves in ((key, list(moves)) for key, moves in named.items())
            if moves
        }


def _one(moves: Iterable[Move], size: int) -> int | None:
    moves = list(moves)
    if all(old == new for old, new in moves):
        return size
    found = {new for old, new in moves if old == size}
    return found.pop() if len(found) == 1 else None


@dataclass(slots=True)
class Written:
    """A config on its way: what it will say, and what must be told of it.

    Attributes:
        data: the new content. notes: for people.
    """

    data: dict[str, Any]
    notes: list[str] = field(default_factory=list)
