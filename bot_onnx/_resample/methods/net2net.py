"""Net2Net: a larger network that computes what the small one does.

Net2WiderNet copies units and shares their outgoing weights, g the source of every target index, c its count:

    W'[i, j] = W[g_o(i), g_i(j)] / c_i(g_i(j))

Net2DeeperNet adds layers that do nothing: here blocks whose residual branch is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bot_onnx._resample.arrays import Array, Namespace, dtype_name
from bot_onnx._resample.axes import check_axes, place_of, refuse_direction
from bot_onnx._resample.depth import LayerMap, layer_map
from bot_onnx._resample.draws import normal, stream
from bot_onnx._resample.mapping import Indices, Mapping, Selection, duplicate, selection_matrix
from bot_onnx._resample.needs import width_grows
from bot_onnx._resample.registry import AxisDirection, Method, MethodOptions
from bot_onnx._resample.shares import unequal_shares
from bot_onnx._resample.sources import SourceLayers, check_readers, neutral_value
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError

_WAY_OUT = "to shrink use method 'bot' or 'ws'"


class Net2NetOptions(MethodOptions):
    """Options of method ``net2net``."""

    mapping: Mapping = Field(
        "random", description="Which neurons are copied: random ones, or one after the other; balanced in both."
    )
    shares: Literal["equal", "unequal"] = Field(
        "equal",
        description="What the copies of a unit have of its outgoing weights: as much each, or unequal parts that sum "
        "to 1, so that they get other gradients at once; both keep the function.",
    )
    noise: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="Noise on the copied units' weights, in standard deviations of their tensor; 0 keeps the function.",
    )


class Net2Net(Method[Net2NetOptions]):
    """Exact duplication of units, identity layers."""

    name = "net2net"
    title = "Net2Net: units copied, their outgoing weights shared, identity layers added"
    reference = "Chen, Goodfellow & Shlens, 'Net2Net', ICLR 2016, arXiv:1511.05641"
    direction = "grow"
    promises = ("exact-size", "deterministic", "function-preserving: without noise, norms over whole ratios")
    Options = Net2NetOptions
    needs = MappingProxyType({"mapping": width_grows, "shares": width_grows, "noise": width_grows})

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: Net2NetOptions,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`."""
        check_axes(task)
        refuse_direction(task, "shrink", self.name, _WAY_OUT)
        check_readers(task, source)
        rows = layer_map(
            "identity",
            *task.layers,
            wavelet="haar",
            residual=task.residual,
            place=place_of(task),
            turns=task.turns,
        )
        rule = partial(duplicate, mapping=options.mapping, seed=seed)
        shares = None if options.shares == "equal" else partial(_unequal, stack=task.stack, seed=seed)
        chosen = Selection(task, rule, split=True, shares=shares)
        layers = SourceLayers(task, source, rows, xp, lambda x: chosen.apply(x, xp))
        return _layers(task, rows, layers, chosen, options.noise, seed, start)

    def axis_operator(
        self, n_source: int, n_target: int, options: Net2NetOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """One entry a row: 1, or the share along a contracted axis; mapping of seed 0."""
        if n_target < n_source:
            raise ResampleError(f"method '{self.name}' cannot make {n_target} indices of {n_source}; {_WAY_OUT}")
        rule = partial(duplicate, mapping=options.mapping, seed=0)
        return selection_matrix(Axis("leaf", n_source, n_target), rule, contracted=direction == "in")


METHOD = Net2Net()


def _unequal(axis: Axis, index: Indices, *, stack: str, seed: int) -> NDArray[np.float64]:
    """Unequal shares of the copies of a leaf's indices, the same in all layers of a stack."""
    return unequal_shares(index, stream(seed, f"{stack} shares {axis.dim}", 0))


def _layers(
    task: StackTask, rows: LayerMap, layers: SourceLayers, chosen: Selection, noise: float, seed: int, start: int
) -> Iterator[Array]:
    copied = chosen.copied_outputs() if noise and task.kind in ("matrix", "kernel") else None
    for k in range(start, task.layers[1]):
        neutral = neutral_value(task, rows, k)
        if neutral is not None:
            yield layers.full(k, neutral)
            continue
        x = layers.mixed(k)
        if copied is not None:
            xp, dtype = layers.xp, dtype_name(x)
            draws = normal(stream(seed, task.draws, k), task.target_shape, dtype)
            x = x + xp.asarray(draws * copied) * (noise * float(xp.std(x)))
        yield x
