"""bert2BERT: width by copying neurons (FPI), or with the copies taken from the layer above (AKI); depth by stacking.

g is the source of every target index of a dim, c its count. Function-preserving initialisation (FPI):

    W'[i, j] = W[g_o(i), g_i(j)] / c_i(g_i(j))

Advanced knowledge initialisation (AKI) keeps that for the original neurons i; every copied neuron takes its row from
the next layer's expansion, W'_l[i, :] = (FPI of W_{l+1})[i, :], so that copies differ from their originals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._resample.axes import check_axes, place_of, refuse_direction
from bot_onnx._resample.depth import LayerMap, layer_map
from bot_onnx._resample.mapping import Mapping, Selection, duplicate, selection_matrix
from bot_onnx._resample.needs import width_grows
from bot_onnx._resample.registry import AxisDirection, Method, MethodOptions
from bot_onnx._resample.sources import SourceLayers, check_readers
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError

_WAY_OUT = "to shrink use method 'bot' or 'ws'"


class Bert2BertOptions(MethodOptions):
    """Options of method ``bert2bert``."""

    variant: Literal["fpi", "aki"] = Field(
        "aki",
        description="'fpi' copies neurons and keeps the function, 'aki' takes the copies from the layer above.",
    )
    mapping: Mapping = Field(
        "random", description="Which neurons are copied: random ones, or one after the other; balanced in both."
    )


class Bert2Bert(Method[Bert2BertOptions]):
    """FPI and AKI width growth, stacked depth."""

    name = "bert2bert"
    title = "bert2BERT: neurons copied (FPI) or taken from the layer above (AKI), layers stacked"
    reference = "Chen et al., 'bert2BERT', ACL 2022, arXiv:2110.07143"
    direction = "grow"
    promises = ("exact-size", "deterministic", "function-preserving: fpi, width only, norms over whole ratios")
    Options = Bert2BertOptions
    needs = MappingProxyType({"variant": width_grows, "mapping": width_grows})

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: Bert2BertOptions,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers; see :meth:`Method.resample`. AKI reads two layers for every one."""
        check_axes(task)
        refuse_direction(task, "shrink", self.name, _WAY_OUT)
        check_readers(task, source)
        rows = layer_map("stack", *task.layers, wavelet="haar", residual=task.residual, place=place_of(task))
        chosen = Selection(task, partial(duplicate, mapping=options.mapping, seed=seed), split=True)
        layers = SourceLayers(task, source, rows, xp, lambda x: chosen.apply(x, xp))
        above = options.variant == "aki" and task.kind in ("matrix", "kernel", "bias") and len(source) > 1
        return _layers(task, rows, layers, chosen.copied_outputs() if above else None, start)

    def axis_operator(
        self, n_source: int, n_target: int, options: Bert2BertOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """Of FPI: one entry a row, 1 or the share along a contracted axis; mapping of seed 0."""
        if n_target < n_source:
            raise ResampleError(f"method '{self.name}' cannot make {n_target} indices of {n_source}; {_WAY_OUT}")
        if options.variant == "aki" and direction == "out":
            raise ResampleError(f"method '{self.name}' with variant aki mixes two layers: no operator; use variant fpi")
        rule = partial(duplicate, mapping=options.mapping, seed=0)
        return selection_matrix(Axis("leaf", n_source, n_target), rule, contracted=direction == "in")


METHOD = Bert2Bert()


def _layers(
    task: StackTask, rows: LayerMap, layers: SourceLayers, copied: NDArray[np.bool_] | None, start: int
) -> Iterator[Array]:
    """Target layers; where ``copied`` is True they take the values of the layer above, the top layer its own."""
    last = task.layers[0] - 1
    for k in range(start, task.layers[1]):
        own = layers.mixed(k)
        layer = rows.rows[k][0][0]
        if copied is None or layer == last:
            yield own
            continue
        yield layers.xp.where(layers.xp.asarray(copied), layers.read(layer + 1), own)
