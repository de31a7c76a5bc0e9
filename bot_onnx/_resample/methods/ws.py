"""Weight selection: a small network takes evenly spaced weights of a large one, and its first layers.

    W'[i, j] = W[s_o(i), s_i(j)],   s(i) = i · n_source / n_target

Every axis by itself, composite axes part by part; nothing is averaged, scaled or drawn. The preset ``published`` does
what the authors' code does: axes as the tensors have them, so that heads interleave, and a classifier drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._resample.axes import check_axes
from bot_onnx._resample.depth import LayerAxis
from bot_onnx._resample.layered import LayeredMethod
from bot_onnx._resample.mapping import Selection, selection_matrix, spread_evenly
from bot_onnx._resample.needs import depth_changes
from bot_onnx._resample.plain import plain_task
from bot_onnx._resample.registry import AxisDirection, MethodOptions, get_method, make_options
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role
from bot_onnx.errors import ResampleError

_WAY_OUT = "to grow use method 'bot', 'bert2bert' or 'net2net'"


class WeightSelectionOptions(MethodOptions):
    """Options of method ``ws``."""

    layer_axis: Literal["first", "even"] | None = Field(
        None, description="Which layers are kept: the first ones, or evenly spaced ones; by default the first ones."
    )
    preset: Literal["published"] | None = Field(
        None,
        description="'published': as the authors' code does it: every axis by plain index, so that heads interleave, "
        "queries, keys and values as one matrix, and the classifier drawn anew.",
    )


class WeightSelection(LayeredMethod[WeightSelectionOptions]):
    """Uniform element selection."""

    name = "ws"
    title = "weight selection: evenly spaced weights, the first layers"
    reference = "Xu et al., 'Initializing Models with Larger Ones', ICLR 2024, arXiv:2311.18823"
    direction = "shrink"
    promises = ("exact-size", "deterministic", "values are the source's own")
    Options = WeightSelectionOptions
    needs = MappingProxyType({"layer_axis": depth_changes})
    way_out = _WAY_OUT

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: WeightSelectionOptions,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`."""
        if options.preset is None:
            return super().resample(task, source, options, xp=xp, seed=seed, start=start)
        check_axes(task)
        if _is_classifier(task):
            return get_method("scratch").resample(task, source, make_options("scratch"), xp=xp, seed=seed, start=start)
        plain = plain_task(task)
        layers = super().resample(plain.task, plain.readers(source, xp), options, xp=xp, seed=seed, start=start)
        return plain.given(layers, xp)

    def joins_qkv(self, options: WeightSelectionOptions) -> bool:
        """As the published code has them: of a fused projection."""
        return options.preset is not None

    def layer_mode(self, options: WeightSelectionOptions) -> LayerAxis:
        """As the option says, or the paper."""
        return options.layer_axis or "first"

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


def _is_classifier(task: StackTask) -> bool:
    """Whether a tensor makes what an output shows and no trained weight reads: a head's matrix, kernel or bias."""
    ways = zip(task.axes, task.directions, strict=True)
    made = any(axis.role == Role.OUT and way == "out" for axis, way in ways)
    return made and task.layers == (1, 1) and task.kind in ("matrix", "kernel", "bias")
