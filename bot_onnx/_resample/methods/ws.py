"""Weight selection: a small network takes evenly spaced weights of a large one, and its first layers.

    W'[i, j] = W[s_o(i), s_i(j)],   s(i) = i · n_source / n_target

Every axis by itself, composite axes part by part; nothing is averaged, scaled or drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._resample.axes import check_axes, place_of, refuse_direction
from bot_onnx._resample.depth import layer_map
from bot_onnx._resample.mapping import Selection, selection_matrix, spread_evenly
from bot_onnx._resample.registry import AxisDirection, Method, MethodOptions
from bot_onnx._resample.sources import SourceLayers, check_readers
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError

_WAY_OUT = "to grow use method 'bot', 'bert2bert' or 'net2net'"


class WeightSelectionOptions(MethodOptions):
    """Options of method ``ws``."""

    layer_axis: Literal["first", "even"] = Field(
        "first", description="Which layers are kept: the first ones, or evenly spaced ones."
    )


class WeightSelection(Method[WeightSelectionOptions]):
    """Uniform element selection."""

    name = "ws"
    title = "weight selection: evenly spaced weights, the first layers"
    reference = "Xu et al., 'Initializing Models with Larger Ones', ICLR 2024, arXiv:2311.18823"
    direction = "shrink"
    promises = ("exact-size", "deterministic", "values are the source's own")
    Options = WeightSelectionOptions

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: WeightSelectionOptions,
        *,
        xp: Namespace,
        seed: int,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`. The seed is not used."""
        check_axes(task)
        refuse_direction(task, "grow", self.name, _WAY_OUT)
        check_readers(task, source)
        rows = layer_map(options.layer_axis, *task.layers, wavelet="haar", residual=task.residual, place=place_of(task))
        chosen = Selection(task, spread_evenly, split=False)
        layers = SourceLayers(task, source, rows, xp, lambda x: chosen.apply(x, xp))
        return (layers.mixed(k) for k in range(task.layers[1]))

    def axis_operator(
        self, n_source: int, n_target: int, options: WeightSelectionOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """One 1 a row; the same in both directions."""
        if n_target > n_source:
            raise ResampleError(f"method '{self.name}' cannot make {n_target} indices of {n_source}; {_WAY_OUT}")
        return selection_matrix(Axis("leaf", n_source, n_target), spread_evenly, contracted=False)


METHOD = WeightSelection()
