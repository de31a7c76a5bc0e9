"""Layers and tokens that were chosen, for methods that need not know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role

Reader = Callable[[], Any]


def picked(task: StackTask, readers: Sequence[Reader], tokens: Sequence[int] = ()) -> tuple[StackTask, list[Reader]]:
    """The work order and its readers as if the source had the chosen layers and tokens, and no others.

    So every method takes them as they are, and resamples the other axes as it always does.

    Args:
        task: the work order.
        readers: give the source's tensors, one a layer.
        tokens: ids of the source's tokens that stay, in order; empty: they were not named.
    """
    chosen = list(readers)
    places = [place for place, axis in enumerate(task.axes) if _picks(axis, len(tokens))]
    if places:
        chosen = [_Cut(reader, tuple(places), tokens) for reader in chosen]
        axes = (replace(axis, source=axis.target) if place in places else axis for place, axis in enumerate(task.axes))
        task = replace(task, axes=tuple(axes))
    if not task.picks:
        return task, chosen
    depth = (len(task.picks), len(task.picks))
    return replace(task, picks=(), layers=depth, total_layers=depth), [chosen[place] for place in task.picks]


def _picks(axis: Axis, count: int) -> bool:
    """Whether an axis goes over all tokens of the source, and over ``count`` of them in the target."""
    return count > 0 and axis.role == Role.VOCAB and axis.kind == "leaf" and axis.source > axis.target == count


class _Cut:
    """A reader of a tensor whose axes over the tokens have those that stay."""

    def __init__(self, read: Reader, places: tuple[int, ...], tokens: Sequence[int]) -> None:
        self._read, self._places, self._tokens = read, places, tokens

    def __call__(self) -> Any:
        """The tensor, read."""
        array = np.asarray(self._read())
        for place in self._places:
            array = np.take(array, np.asarray(self._tokens), axis=place)
        return array
