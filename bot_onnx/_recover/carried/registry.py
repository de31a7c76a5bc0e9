"""Where the functions of the ops are registered, and what they are given to be built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: A node's results from its inputs: a torch tensor, or a tuple of them where the node has several.
Call = Callable[..., Any]


class Uncarried(Exception):
    """An op has no function here, or not with these attributes."""


@dataclass(slots=True)
class Step:
    """A node to be carried.

    Attributes:
        op: type of the node.
        inputs, outputs: names of values; empty where an optional one is missing.
        attributes: by name, as Python values (tensors as torch tensors).
        opset: version of ONNX's own ops.
        constants: torch tensors by name of the values that never change.
    """

    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17
    constants: Mapping[str, Any] = field(default_factory=dict)

    def has(self, place: int) -> bool:
        """Whether the input at a place is given."""
        return place < len(self.inputs) and bool(self.inputs[place])

    def constant(self, place: int) -> Any:
        """The constant at a place, or None where there is none, or it is computed."""
        return self.constants.get(self.inputs[place]) if self.has(place) else None

    def numbers(self, place: int, attribute: str) -> list[int] | None:
        """Whole numbers given by an attribute or, later, by an input; None where neither is there.

        Raises:
            Uncarried: they are computed.
        """
        if attribute in self.attributes:
            return [int(number) for number in self.attributes[attribute]]
        if not self.has(place):
            return None
        found = self.constant(place)
        if found is None:
            raise Uncarried(f"{self.op} with computed {attribute}")
        return [int(number) for number in found.reshape(-1).tolist()]

    def expect(self, **values: Any) -> None:
        """Make sure that attributes have these values, where they are given.

        Raises:
            Uncarried: one has another.
        """
        for name, value in values.items():
            if self.attributes.get(name, value) != value:
                raise Uncarried(f"{self.op} with {name}={self.attributes[name]!r}")


Build = Callable[[Step], Call]
_BUILDS: dict[str, Build] = {}
_NUMBERED: set[str] = set()


def carries(*ops: str, numbered: bool = False) -> Callable[[Build], Build]:
    """Register what builds the functions of ops.

    Args:
        ops: their types.
        numbered: all inputs but the first are read as numbers (sizes, axes), wherever they lie.
    """

    def register(build: Build) -> Build:
        for op in ops:
            assert op not in _BUILDS, op
            _BUILDS[op] = build
            if numbered:
                _NUMBERED.add(op)
        return build

    return register


def tensor_slots(step: Step) -> slice:
    """Places of the inputs that must lie on the device where the op is computed."""
    return slice(0, 1) if step.op in _NUMBERED else slice(None)


def built(step: Step) -> Call:
    """The function of a node.

    Raises:
        Uncarried: there is none.
    """
    if step.op not in _BUILDS:
        raise Uncarried(step.op)
    return _BUILDS[step.op](step)
