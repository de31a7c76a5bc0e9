"""Where the passes that find roles put them."""

from __future__ import annotations

from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._structure import Role


class Roles:
    """Role per dim; the first one given stays."""

    def __init__(self, context: AxisFacts) -> None:
        self._context = context
        self._roles: dict[Dim, Role] = {}

    def give(self, dim: MaybeDim, role: Role) -> None:
        """Give a static dim a role unless it has one."""
        if dim is not None and self._context.table.is_static(dim):
            self._roles.setdefault(self._context.table.find(dim), role)

    def of(self, dim: Dim) -> Role | None:
        """Role of a dim, or None."""
        return self._roles.get(self._context.table.find(dim))

    def dims(self, role: Role) -> list[Dim]:
        """Dims of a role, in the order in which it was given."""
        return [dim for dim, given in self._roles.items() if given == role]
