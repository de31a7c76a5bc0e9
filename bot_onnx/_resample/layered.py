"""The base of methods that make every target layer out of whole source layers: they say how, the rest is done here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import ClassVar

import numpy as np

from bot_onnx._resample.arrays import Array, Namespace, dtype_name
from bot_onnx._resample.axes import changes, check_axes, place_of, refuse_direction, refuse_width, walk
from bot_onnx._resample.depth import LayerAxis, layer_map
from bot_onnx._resample.operators import select_vocabulary
from bot_onnx._resample.registry import AxisDirection, Method, OptionsT
from bot_onnx._resample.sources import SourceLayers, check_readers, neutral_value
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role


class LayeredMethod(Method[OptionsT]):
    """A method that picks or mixes layers by a mode, and changes the width of each layer by itself.

    A subclass has the attributes of a :class:`Method`, says its :meth:`layer_mode`, and how the width changes: by
    :meth:`axis_operator`, if one matrix a leaf does it, or by :meth:`transform`. Checks of axes, directions and
    readers, reading, mixing, and the layers that must do nothing are done here.

    Attributes:
        way_out: what to use in the direction that the method cannot go, for the message.
        only_depth: None; or, for a method that leaves the width alone, what to use to change it, for the message.
    """

    way_out: ClassVar[str] = "use method 'bot'"
    only_depth: ClassVar[str | None] = None

    @abstractmethod
    def layer_mode(self, options: OptionsT) -> LayerAxis:
        """How target layers are made of source layers: a mode of :func:`bot_onnx._resample.depth.layer_map`."""

    def transform(self, task: StackTask, options: OptionsT, *, xp: Namespace, seed: int) -> Callable[[Array], Array]:
        """What makes a layer of ``task.source_shape`` one of ``task.target_shape``; asked once a stack.

        It is not called where no axis changes. By default it applies :meth:`axis_operator` along every leaf that
        changes; a vocabulary keeps its first rows, and new ones are the mean of all.

        Raises:
            ResampleError: the method applies no linear operator.
        """
        return lambda x: self._by_operators(x, task, options, xp)

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: OptionsT,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`."""
        check_axes(task)
        if self.only_depth is not None:
            refuse_width(task, self.name, self.only_depth)
        if self.direction != "both":
            refuse_direction(task, "grow" if self.direction == "shrink" else "shrink", self.name, self.way_out)
        check_readers(task, source)
        rows = layer_map(
            self.layer_mode(options),
            *task.layers,
            wavelet="haar",
            residual=task.residual,
            place=place_of(task),
            turns=task.turns,
        )
        wide = any(changes(axis) for axis in task.axes)
        layers = SourceLayers(task, source, rows, xp, self.transform(task, options, xp=xp, seed=seed) if wide else None)
        values = [neutral_value(task, rows, k) for k in range(task.layers[1])]
        wanted = list(enumerate(values))[start:]
        return (layers.mixed(k) if value is None else layers.full(k, value) for k, value in wanted)

    def _by_operators(self, x: Array, task: StackTask, options: OptionsT, xp: Namespace) -> Array:
        shape = list(task.source_shape)
        for index, axis in enumerate(task.axes):
            if changes(axis):
                direction: AxisDirection = "in" if task.directions[index] == "in" else "out"

                def leaf(y: Array, part: Axis, direction: AxisDirection = direction) -> Array:
                    if part.role == Role.VOCAB:
                        return select_vocabulary(y, part.target, xp)
                    matrix = self.axis_operator(part.source, part.target, options, direction=direction)
                    return xp.matmul(xp.asarray(np.asarray(matrix, dtype=dtype_name(y))), y)

                x = xp.reshape(x, (prod(shape[:index]), shape[index], prod(shape[index + 1 :])))
                x = walk(x, axis, leaf, xp)
                shape[index] = axis.target
                x = xp.reshape(x, tuple(shape))
        return x
