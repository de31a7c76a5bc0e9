"""What a plan changes in a graph, edit by edit: frozen values that a plan holds, a file stores and ``apply`` obeys.

A node is called by what it makes (the name of its first output that has one), since nodes need no names. Every edit of
a number says what stood there before, and is refused where that is not so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class SetConstant:
    """One element of a constant of integers: a size that stands in the graph as a number.

    Attributes:
        place: for people. old, new: the number before and after. reason: why, for people.
        constant: name of the initializer. index: flat index into it.
    """

    place: str
    old: int
    new: int
    reason: str
    constant: str
    index: int
    edit: Literal["SetConstant"] = "SetConstant"


@dataclass(frozen=True, slots=True)
class SetAttribute:
    """A whole number in an attribute.

    Attributes:
        place, old, new, reason: see :class:`SetConstant`.
        made: what the node makes. attribute: its name. index: into a list of numbers; None where it is one.
    """

    place: str
    old: int
    new: int
    reason: str
    made: str
    attribute: str
    index: int | None = None
    edit: Literal["SetAttribute"] = "SetAttribute"


@dataclass(frozen=True, slots=True)
class FixShape:
    """One element of a shape that is computed, and is a fixed number from now on where a node reads it.

    Attributes:
        place, old, new, reason: see :class:`SetConstant`; ``old`` is -1, for what is computed has no one number.
        made: what the node makes. slot: its input. element: of the shape.
    """

    place: str
    old: int
    new: int
    reason: str
    made: str
    slot: int
    element: int
    edit: Literal["FixShape"] = "FixShape"


@dataclass(frozen=True, slots=True)
class SetFactor:
    """A scalar that a node computes with: a factor of attention scores, an epsilon.

    Attributes:
        place, old, new, reason: see :class:`SetConstant`.
        made: what the node makes. slot: an input, or the name of an attribute.
    """

    place: str
    old: float
    new: float
    reason: str
    made: str
    slot: int | str
    edit: Literal["SetFactor"] = "SetFactor"


@dataclass(frozen=True, slots=True)
class SetToken:
    """The id of a token that a node compares others with: it has another one in the new vocabulary.

    Attributes:
        place, old, new, reason: see :class:`SetConstant`.
        made: what the node makes. slot: its input, a constant. index: flat index into it.
    """

    place: str
    old: int
    new: int
    reason: str
    made: str
    slot: int
    index: int
    edit: Literal["SetToken"] = "SetToken"


@dataclass(frozen=True, slots=True)
class ReshapeEmpty:
    """A tensor without elements (no tokens of a kind), which has no weights to resample but axes like all others.

    Attributes:
        constant: name of the initializer. shape: its new one.
    """

    constant: str
    shape: tuple[int, ...]
    edit: Literal["ReshapeEmpty"] = "ReshapeEmpty"


@dataclass(frozen=True, slots=True)
class LayerChange:
    """Depth of one chain before and after; ``leading`` of its layers are unlike the others and stay.

    Trailing layers go, or copies follow the last one; inputs and outputs that belong to layers go, come and are
    renumbered with them. ``kept`` says which layer of the source every layer is, where that was chosen; it is empty
    where the method says so. The graph's layers stay in their order all the same: it is weights that move.
    """

    chain: str
    source: int
    target: int
    leading: int = 0
    kept: tuple[int, ...] = ()


NumberEdit = SetConstant | SetAttribute | FixShape | SetFactor | SetToken
Edit = NumberEdit | ReshapeEmpty | LayerChange


def made_by(node: ir.Node) -> str:
    """How edits call a node."""
    return next((value.name for value in node.outputs if value.name), "")


def number_place(edit: NumberEdit) -> tuple[object, ...]:
    """Where an edit of a number stands: no two of one plan change the same number."""
    if isinstance(edit, SetConstant):
        return "constant", edit.constant, edit.index
    if isinstance(edit, SetAttribute):
        return "attribute", edit.made, edit.attribute, edit.index
    if isinstance(edit, FixShape):
        return "shape", edit.made, edit.slot, edit.element
    if isinstance(edit, SetToken):
        return "token", edit.made, edit.slot, edit.index
    return "factor", edit.made, edit.slot


def picks_of(edits: Iterable[Edit]) -> dict[str, tuple[int, ...]]:
    """Per chain whose layers are chosen, the source's layer for every layer of the target."""
    return {edit.chain: edit.kept for edit in edits if isinstance(edit, LayerChange) and edit.kept}


def last_of_each(edits: Iterable[NumberEdit]) -> tuple[NumberEdit, ...]:
    """Edits in their order, the last one of every place."""
    return tuple({number_place(edit): edit for edit in edits}.values())


@dataclass(frozen=True, slots=True)
class Edits:
    """What happens to a graph: numbers, tensors without elements, layers."""

    constants: tuple[NumberEdit, ...]
    empties: tuple[ReshapeEmpty, ...]
    layers: tuple[LayerChange, ...]
