"""StackBERT: a deeper network repeats the whole run of layers, W'_k = W_(k mod L).

Three layers grow to six as 0 1 2 0 1 2. Width stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._resample.axes import check_axes, place_of, refuse_direction, refuse_width
from bot_onnx._resample.depth import layer_map
from bot_onnx._resample.registry import Method, MethodOptions
from bot_onnx._resample.sources import SourceLayers, check_readers
from bot_onnx._stack.types import StackTask


class StackOptions(MethodOptions):
    """Method ``stack`` has no options."""


class Stack(Method[StackOptions]):
    """Copies of layers."""

    name = "stack"
    title = "StackBERT: the whole run of layers repeated"
    reference = "Gong et al., 'Efficient Training of BERT by Progressively Stacking', ICML 2019"
    direction = "grow"
    promises = ("exact-size", "deterministic", "values are the source's own")
    Options = StackOptions

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: StackOptions,
        *,
        xp: Namespace,
        seed: int,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`. The seed is not used."""
        check_axes(task)
        refuse_width(task, self.name, "use 'bot --layer-axis stack', which resizes the width too")
        refuse_direction(task, "shrink", self.name, "to shrink use method 'bot' or 'ws'")
        check_readers(task, source)
        rows = layer_map("stack", *task.layers, wavelet="haar", residual=task.residual, place=place_of(task))
        layers = SourceLayers(task, source, rows, xp)
        return (layers.mixed(k) for k in range(task.layers[1]))


METHOD = Stack()
