"""What an option needs to have anything to do, asked of a work order: methods declare it for theirs.

A need takes the options and one work order. A vocabulary is selected from, and layers that the spec names, or chooses,
are taken as they are: no method's option says anything of either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bot_onnx._resample.axes import leaves
from bot_onnx._stack.types import StackTask
from bot_onnx._structure import Role

#: Whether something is done in a work order that an option speaks of.
Need = Callable[[Any, StackTask], bool]


def width_changes(_: Any, task: StackTask) -> bool:
    """Indices along an axis come or go."""
    return any(leaf.source != leaf.target for axis in task.axes for leaf in leaves(axis) if leaf.role != Role.VOCAB)


def width_grows(_: Any, task: StackTask) -> bool:
    """Indices along an axis come."""
    return any(leaf.source < leaf.target for axis in task.axes for leaf in leaves(axis) if leaf.role != Role.VOCAB)


def depth_changes(_: Any, task: StackTask) -> bool:
    """Layers come or go, whoever says which."""
    return task.layers[0] != task.layers[1]


def layers_are_added(_: Any, task: StackTask) -> bool:
    """Layers come that the method makes."""
    return task.layers[0] < task.layers[1] and not task.picks


def is_drawn(_: Any, task: StackTask) -> bool:
    """A fresh network holds random numbers here, of a deviation that no fan-in says."""
    return task.kind in ("matrix", "embedding", "table")
