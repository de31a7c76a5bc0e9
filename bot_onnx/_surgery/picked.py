"""Layers that were chosen, for methods that need not know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from bot_onnx._stack.types import StackTask

ReaderT = TypeVar("ReaderT", bound=Callable[[], Any])


def picked(task: StackTask, readers: Sequence[ReaderT]) -> tuple[StackTask, list[ReaderT]]:
    """The work order and its readers as if the source had the chosen layers and no others.

    So every method takes them as they are along the depth, and resamples the other axes as it always does.
    """
    if not task.picks:
        return task, list(readers)
    depth = (len(task.picks), len(task.picks))
    return replace(task, picks=(), layers=depth, total_layers=depth), [readers[place] for place in task.picks]
