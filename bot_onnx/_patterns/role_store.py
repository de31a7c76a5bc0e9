"""Roles of dims: what is known in the end, and where the rules that find roles put them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bot_onnx._axes.dims import Dim, DimTable, MaybeDim
from bot_onnx._structure import Role


@dataclass(frozen=True, slots=True)
class Roles:
    """Role per dim, in the order in which they were given."""

    table: DimTable
    given: Mapping[Dim, Role]

    def of(self, dim: Dim) -> Role | None:
        """Role of a dim, or None."""
        return self.given.get(self.table.find(dim))

    def dims(self, role: Role) -> list[Dim]:
        """Dims of a role, in the order in which it was given."""
        return [dim for dim, given in self.given.items() if given == role]


@dataclass(frozen=True, slots=True)
class RoleStore(Roles):
    """Roles while they are found; the first one given stays."""

    given: dict[Dim, Role] = field(default_factory=dict)

    def give(self, dim: MaybeDim, role: Role) -> None:
        """Give a static dim a role unless it has one."""
        if dim is not None and self.table.is_static(dim):
            self.given.setdefault(self.table.find(dim), role)

    def facts(self) -> Roles:
        """The roles as they are now."""
        return Roles(self.table, MappingProxyType(dict(self.given)))
