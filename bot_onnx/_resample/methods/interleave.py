"""Interlaced stacking: a deeper network repeats every layer where it stands, W'_k = W_⌊k·L/L'⌋.

Three layers grow to six as 0 0 1 1 2 2. Width stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._resample.axes import check_axes, place_of, refuse_direction, refuse_width
from bot_onnx._resample.depth import layer_map
from bot_onnx._resample.registry import Method, MethodOptions
from bot_onnx._resample.sources import SourceLayers, check_readers
from bot_onnx._stack.types import StackTask


class InterleaveOptions(MethodOptions):
    """Method ``interleave`` has no options."""


class Interleave(Method[InterleaveOptions]):
    """Copies of layers."""

    name = "interleave"
    title = "interlaced stacking: every layer repeated in place"
    reference = "Gong et al., ICML 2019, interlaced; Chang et al., 'Multi-level Residual Networks', ICLR 2018"
    direction = "grow"
    promises = ("exact-size", "deterministic", "values are the source's own")
    Options = InterleaveOptions

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: InterleaveOptions,
        *,
        xp: Namespace,
        seed: int,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`. The seed is not used."""
        check_axes(task)
        refuse_width(task, self.name, "use 'bot --layer-axis interleave', which resizes the width too")
        refuse_direction(task, "shrink", self.name, "to shrink use method 'bot' or 'ws'")
        check_readers(task, source)
        rows = layer_map("interleave", *task.layers, wavelet="haar", residual=task.residual, place=place_of(task))
        layers = SourceLayers(task, source, rows, xp)
        return (layers.mixed(k) for k in range(task.layers[1]))


METHOD = Interleave()
