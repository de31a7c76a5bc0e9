"""Source layers of a stack: read when a target layer needs them, shared, and let go; and layers that do nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from bot_onnx._resample.arrays import Array, Moments, Namespace, is_floating, to_working, working_dtype
from bot_onnx._resample.axes import changes, place_of
from bot_onnx._resample.depth import LayerMap
from bot_onnx._resample.transfers import Link, Sent, link_to
from bot_onnx._stack.types import StackTask
from bot_onnx.errors import ResampleError

Reader = Callable[[], Array]


def check_readers(task: StackTask, source: Sequence[Reader]) -> None:
    """Refuse another number of readers than the task has source layers.

    Raises:
        ResampleError: says both numbers.
    """
    if len(source) != task.layers[0]:
        raise ResampleError(
            f"{place_of(task)}: {len(source)} source tensors for {task.layers[0]} layers; "
            "pass one reader per source layer"
        )


class SourceLayers:
    """The source layers of one stack, mixed into target layers as a :class:`LayerMap` says.

    A selection holds one layer and reads it again rather than keep it for later; a filter holds those under its taps.
    """

    def __init__(
        self,
        task: StackTask,
        source: Sequence[Reader],
        layers: LayerMap,
        xp: Namespace,
        prepare: Callable[[Array], Array] | None = None,
    ) -> None:
        """``prepare`` is applied to every layer as it is read, once for all the target layers that share it."""
        self.task, self.source, self.layers, self.xp, self.prepare = task, source, layers, xp, prepare
        self._last_use = {layer: k for k, row in enumerate(layers.rows) for layer, _ in row}
        self._held: dict[int, Array] = {}
        self._order = _reading_order(layers)
        self._sent: dict[int, tuple[Link, Sent]] = {}
        self._passes = layers.is_selection and not any(changes(axis) for axis in task.axes)

    def place(self, layer: int) -> str:
        """How messages call a layer."""
        return f"{place_of(self.task)}, layer {layer}"

    def mixed(self, k: int) -> Array:
        """Σ_l R_L[k, l] W_l of prepared layers. Do not write into it.

        Indices and masks pass through as they are where no arithmetic is asked.

        Raises:
            ResampleError: a shape that is not the task's, or values that are no floating-point numbers.
        """
        total = None
        for layer, weight in self.layers.rows[k]:
            x = self.read(layer)
            term = x if weight == 1.0 else x * weight
            total = term if total is None else total + term
        self._release(k)
        return total

    def _release(self, k: int) -> None:
        rows = self.layers.rows
        following = {layer for layer, _ in rows[k + 1]} if k + 1 < len(rows) else set()
        for layer in list(self._held):
            later = self._last_use[layer] > k and not self.layers.is_selection
            if layer not in following and not later:
                del self._held[layer]

    def read(self, layer: int) -> Array:
        """One prepared source layer."""
        if layer in self._held:
            return self._held[layer]
        raw = self._arrived(layer)
        if self._passes and not is_floating(raw):
            return self.xp.asarray(raw)
        x = to_working(raw, self.xp, self.place(layer))
        if self.prepare is not None:
            x = self.prepare(x)
        self._held[layer] = x
        return x

    def _arrived(self, layer: int) -> Array:
        """One source layer as it is; for a CUDA device the next one is sent on its way before work on it starts."""
        on_its_way = self._sent.pop(layer, None) or self._send(layer)
        if not isinstance(on_its_way, tuple):
            return on_its_way
        following = self._order.get(layer)
        if following is not None and following not in self._sent and following not in self._held:
            further = self._send(following)
            if isinstance(further, tuple):
                self._sent = {following: further}
        link, sent = on_its_way
        return link.receive(sent)

    def _send(self, layer: int) -> Array | tuple[Link, Sent]:
        raw = self.raw(layer)
        link = link_to(self.xp, raw)
        return raw if link is None else (link, link.send(raw))

    def raw(self, layer: int) -> Array:
        """One source layer as it is, its shape checked."""
        raw = self.source[layer]()
        if tuple(raw.shape) != self.task.source_shape:
            raise ResampleError(
                f"{self.place(layer)}: shape {tuple(raw.shape)} where the plan says {self.task.source_shape}; "
                "plan again from the present file"
            )
        return raw

    def moments(self) -> Moments:
        """Mean and standard deviation of the whole source stack; reads every layer, holds none."""
        moments = Moments()
        for array in self.working_layers():
            moments.add(array, self.xp)
        return moments

    def working_layers(self) -> Iterator[Array]:
        """Every source layer as it is, in working precision, one after the other."""
        for layer in range(len(self.source)):
            yield to_working(self.raw(layer), self.xp, self.place(layer))

    def full(self, k: int, value: float) -> Array:
        """A constant target layer, in the working precision of layer ``k``'s source."""
        layer = self.layers.rows[k][0][0]
        dtype = working_dtype(self.raw(layer), self.place(layer))
        return self.xp.full(self.task.target_shape, value, dtype=getattr(self.xp, dtype))


def _reading_order(layers: LayerMap) -> dict[int, int]:
    """Which source layer is read after which."""
    reads = list(dict.fromkeys(layer for row in layers.rows for layer, _ in row))
    return dict(pairwise(reads))


def neutral_value(task: StackTask, layers: LayerMap, k: int) -> float | None:
    """The constant that fills a tensor of a layer that must do nothing (mode ``identity``), None for all others.

    Whatever writes to the residual stream is zero in an added layer. In post-norm networks the layer's norms
    then normalise what is normalised already, and the affine map of a layer's last norm moves to the last of the
    layers added after it: exact up to the norms' epsilon.
    """
    added = layers.added
    if added[k] and task.writes_residual:
        return 0.0
    if task.residual != "post-norm" or task.kind not in ("norm_scale", "norm_bias"):
        return None
    followed = k + 1 < len(added) and added[k + 1]
    moved = task.norm_position == "last" and followed
    if moved or (task.norm_position == "inner" and added[k]):
        return task.gain - task.offset if task.kind == "norm_scale" else 0.0
    return None


def reads_afresh(task: StackTask, layers: LayerMap, k: int) -> bool:
    """Whether a tensor of a layer that must do nothing may hold anything, and can start as in a fresh network.

    A matrix or kernel that reads in such a layer, or its bias: what the layer writes is zero whatever it reads.
    """
    return layers.added[k] and not task.writes_residual and task.kind in ("matrix", "kernel", "bias")
