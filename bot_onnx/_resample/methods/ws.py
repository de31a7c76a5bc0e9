"""Weight selection: a small network takes evenly spaced weights of a large one, and its first layers.

    W'[i, j] = W[s_o(i), s_i(j)],   s(i) = i · n_source / n_target

Every axis by itself, composite axes part by part; nothing is averaged, scaled or drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._resample.depth import LayerAxis
from bot_onnx._resample.layered import LayeredMethod
from bot_onnx._resample.mapping import Selection, selection_matrix, spread_evenly
from bot_onnx._resample.registry import AxisDirection, MethodOptions
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError

_WAY_OUT = "to grow use method 'bot', 'bert2bert' or 'net2net'"


class WeightSelectionOptions(MethodOptions):
    """Options of method ``ws``."""

    layer_axis: Literal["first", "even"] = Field(
        "first", description="Which layers are kept: the first ones, or evenly spaced ones."
    )


class WeightSelection(LayeredMethod[WeightSelectionOptions]):
    """Uniform element selection."""

    name = "ws"
    title = "weight selection: evenly spaced weights, the first layers"
    reference = "Xu et al., 'Initializing Models with Larger Ones', ICLR 2024, arXiv:2311.18823"
    direction = "shrink"
    promises = ("exact-size", "deterministic", "values are the source's own")
    Options = WeightSelectionOptions
    way_out = _WAY_OUT

    def layer_mode(self, options: WeightSelectionOptions) -> LayerAxis:
        """As the option says."""
        return options.layer_axis

    def transform(
        self, task: StackTask, options: WeightSelectionOptions, *, xp: Namespace, seed: int
    ) -> Callable[[Array], Array]:
        """Every axis by itself, composite axes part by part; nothing is drawn."""
        chosen = Selection(task, spread_evenly, split=False)
        return lambda x: chosen.apply(x, xp)

    def axis_operator(
        self, n_source: int, n_target: int, options: WeightSelectionOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """One 1 a row; the same in both directions."""
        if n_target > n_source:
            raise ResampleError(f"method '{self.name}' cannot make {n_target} indices of {n_source}; {_WAY_OUT}")
        return selection_matrix(Axis("leaf", n_source, n_target), spread_evenly, contracted=False)


METHOD = WeightSelection()
