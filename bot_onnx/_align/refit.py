"""What makes up for the units that go: biases and weights of what reads them, from the source on a user's samples.

Of a weight W that reads x, with the places K that stay and D that go, over all positions of all samples:

* ``bias`` (An et al. 2024, "Fluctuation-based Adaptive Structured Pruning" (FLAP), arXiv:2312.11983, section 4.3):

      b' = b + W_D E[x_D]

* ``readers``: least squares of what W makes, W'x_K + b' against W x + b (He et al. 2017, "Channel Pruning for
  Accelerating Very Deep Neural Networks", arXiv:1707.06168, section 3.1), with a ridge that draws W' to W_K:

      min E‖W' x_K + b' - W x - b‖² + λ‖W' - W_K‖²

  What goes is thereby said by what stays, whatever W is: W' = W_K + W_D A and b' = b + W_D (E[x_D] - A E[x_K]) with
  A = C_DK (C_KK + λI)⁻¹ and C the covariance of x. Where nothing takes a constant, b stays, and C = E[x xᵀ].
  λ is a hundredth of the mean variance of x_K, the dampening of GPTQ (Frantar et al. 2023, arXiv:2210.17323).
  A convolution does so at every tap, by the same A; where it reads zeros beyond the border, b stays, too.

All of x is the source's own: no weight is fitted to what others leave, so that their order makes no difference. The
source's tensors are refitted at their own sizes (what goes is cut off afterwards, W'_D = 0), before anything else is
done to them: to turn or fold what a weight makes does not touch what it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.axes import axis_order, leaves_of
from bot_onnx._align.reader_places import ReaderPlace, Unsuited
from bot_onnx._align.types import AnyArray, Facts, Kept, TensorLike, Tensors
from bot_onnx._align.units import READERS
from bot_onnx._runs.watched import finite, no_numbers
from bot_onnx._structure import Stack, Structure
from bot_onnx._target import Refit
from bot_onnx.errors import DataError, ResampleError

Floats = NDArray[np.float64]
RIDGE = 0.01  #: of the mean variance of what stays
_BATCH = 4  #: samples at a time, where the model leaves it open
_ROOM = 1 << 27  #: numbers of moments that are held at a time, 1 GiB: the source runs again for more
_WHAT = "running the source on the samples"


@dataclass(slots=True)
class _Moments:
    """Sums over positions of what a weight reads: ``[n]``, and ``[n, n]`` of products where these are needed."""

    first: Floats
    second: Floats
    count: float = 0.0

    def add(self, share: float, rows: Floats) -> None:
        """Add rows ``[positions, n]``, each counting a share."""
        self.first += share * rows.sum(axis=0)
        self.count += share * len(rows)
        if self.second.size:
            self.second += share * (rows.T @ rows)


@dataclass(frozen=True, slots=True)
class _Changed:
    """A tensor in the place of the source's, of the same shape and type."""

    array: AnyArray

    def numpy(self) -> AnyArray:
        """Its values."""
        return self.array


class Refitting:
    """Which tensors make up for the units that go; decided before a weight is read.

    Attributes:
        kind: as given. names: of all tensors of the source that change.
        notes: what makes up for what, and what is left as it is, in sentences.
    """

    def __init__(self, kind: Refit, structure: Structure, leaves: Iterable[str], facts: Facts) -> None:
        """Find the weights that read the units.

        Args:
            kind: ``bias`` or ``readers``.
            structure: of the source. leaves: from which units are chosen. facts: of the source's graph.

        Raises:
            DataError: there are no samples.
            ResampleError: nothing can make up for what goes.
        """
        self.kind, self._structure, self._leaves = kind, structure, frozenset(leaves)
        samples = facts.readings.samples
        if samples is None:
            raise DataError(
                "'refit' makes up for what goes by what it is on samples of what the network will see: give them as "
                "--calibration FILE.npz (an array per input)"
            )
        self._places: list[tuple[ReaderPlace, Stack, int]] = []
        left: dict[str, str] = {}
        for stack, inner in self._readers():
            try:
                self._places += self._of_stack(facts, stack, inner)
            except Unsuited as why:
                left[stack.name] = str(why)
        told = [f"{name} is left as it is: it {why}" for name, why in left.items()]
        if not self._places:
            raise ResampleError(
                f"'refit' is '{kind}', and nothing makes up for what goes ({'; '.join(told) or 'no weight reads it'}); "
                + ("take 'readers', or drop it" if kind == "bias" else "drop it")
            )
        takers = {place.taker.name for place, _, _ in self._places if place.taker is not None}
        weights = {place.weight for place, _, _ in self._places} if kind == "readers" else set()
        self.names = frozenset(takers | weights)
        self._watched = facts.readings.watch(place.value for place, _, _ in self._places)
        self.notes = (self._told(len(samples)), *told)

    def _readers(self) -> Iterator[tuple[Stack, int]]:
        for stack in self._structure.stacks:
            for axis, dim in enumerate(stack.axes):
                reads = stack.kind in READERS and stack.directions[axis] == "in" and dim is not None
                if reads and not self._leaves.isdisjoint(leaves_of(self._structure, dim or "")):
                    yield stack, axis

    def _of_stack(self, facts: Facts, stack: Stack, inner: int) -> list[tuple[ReaderPlace, Stack, int]]:
        """The places of all layers: a stack makes up for what goes in all of them, or in none."""
        twins = {other.twin_of for other in self._structure.stacks}
        if stack.twin_of is not None or stack.id in twins:
            raise Unsuited("is tied to another weight")
        places = [facts.readings.place(name, stack, inner) for name in stack.tensors]
        if self.kind == "bias" and any(place.taker is None for place in places):
            raise Unsuited("has no bias of its own that could take it")
        return [(place, stack, layer) for layer, place in enumerate(places)]

    def _told(self, count: int) -> str:
        dims = self._structure.dims.values()
        names = ", ".join(dim.name for dim in dims if dim.id in self._leaves)
        weights = sorted({place.weight for place, _, _ in self._places})
        many = len(weights) > 1
        readers = (
            f"{len(weights)} weights that read it ('{weights[0]}' …)" if many else f"'{weights[0]}', which reads it"
        )
        if self.kind == "bias":
            behind = "the biases" if many else "the bias"
            return f"what goes of {names} is made up for by its mean on {count} samples, in {behind} of {readers}"
        taking = sum(place.taker is not None for place, _, _ in self._places)
        behind = f", with the biases of {taking} of them," if taking and many else ", with its bias," if taking else ""
        return (
            f"what goes of {names} is made up for by what stays: {readers}{behind or (',' if not many else '')} "
            f"{'are' if many else 'is'} fitted to the source's activations on {count} samples by least squares"
        )

    def tensors(self, tensors: Tensors, kept: Kept) -> Tensors:
        """The source's tensors, refitted to what stays.

        Memory: the weights that change, the source's weights and values of one run, 1 GiB of moments (or those of one
        value).

        Args:
            tensors: the source's. kept: what stays.

        Raises:
            DataError: the source does not run on the samples, or gives no finite numbers.
        """
        changed: dict[str, TensorLike] = {}
        for places in self._groups():
            moments = self._measured(places, tensors)
            for place, stack, layer in places:
                order = axis_order(self._structure, place.dim, kept.of(stack, layer))
                if order is not None:
                    changed |= self._fitted(place, moments[place.value, place.strides], order, tensors)
        return {**tensors, **changed}

    def _groups(self) -> Iterator[list[tuple[ReaderPlace, Stack, int]]]:
        """Places whose moments are held at a time."""
        group: list[tuple[ReaderPlace, Stack, int]] = []
        held: dict[tuple[str, tuple[int, ...]], int] = {}
        for one in self._places:
            place = one[0]
            size = self._structure.dims[place.dim].size ** (2 if self.kind == "readers" else 1)
            key = place.value, place.strides
            if group and key not in held and sum(held.values()) + size > _ROOM:
                yield group
                group, held = [], {}
            held[key] = size
            group.append(one)
        yield group

    def _measured(
        self, places: Iterable[tuple[ReaderPlace, Stack, int]], tensors: Tensors
    ) -> dict[tuple[str, tuple[int, ...]], _Moments]:
        read = {(place.value, place.strides): place for place, _, _ in places}
        found: dict[tuple[str, tuple[int, ...]], _Moments] = {}
        for key, place in read.items():
            size = self._structure.dims[place.dim].size
            second = (size, size) if self.kind == "readers" else (0, 0)
            found[key] = _Moments(np.zeros(size), np.zeros(second))
        for share, run in self._watched.runs(tensors, _BATCH):
            for key, place in read.items():
                found[key].add(share, _rows(run[place.value], place))
        if not all(moments.count for moments in found.values()):
            raise no_numbers()
        return found

    def _fitted(self, place: ReaderPlace, moments: _Moments, order: AnyArray, tensors: Tensors) -> dict[str, _Changed]:
        """The weight and what takes a constant, where they change."""
        size = len(moments.first)
        stay = np.asarray(order)
        go = np.setdiff1d(np.arange(size), stay)
        mean = moments.first / moments.count
        array = tensors[place.weight].numpy()
        weight = np.moveaxis(np.asarray(array, dtype=np.float64), (place.outer, place.inner), (0, 1))
        taps = weight.reshape(weight.shape[0], size, -1)
        said = np.zeros((len(go), len(stay)))
        changed: dict[str, _Changed] = {}
        if self.kind == "readers":
            said = _regression(moments, stay, go, centred=place.taker is not None)
            fitted = np.zeros_like(taps)
            fitted[:, stay] = taps[:, stay] + np.einsum("ogt,gs->ost", taps[:, go], said, optimize=True)
            whole = np.moveaxis(fitted.reshape(weight.shape), (0, 1), (place.outer, place.inner))
            changed[place.weight] = _Changed(_typed(whole, array))
        if place.taker is not None:
            constant = taps[:, go].sum(axis=2) @ (mean[go] - said @ mean[stay])
            taken = tensors[place.taker.name].numpy()
            total = np.asarray(taken, dtype=np.float64) + place.taker.sign * constant.reshape(taken.shape)
            changed[place.taker.name] = _Changed(_typed(total, taken))
        return changed


def _rows(values: AnyArray, place: ReaderPlace) -> Floats:
    """What is read, ``[positions, units]``."""
    for axis, stride in enumerate(place.strides, start=2):
        values = values[(slice(None),) * axis + (slice(None, None, stride),)]
    return finite(np.moveaxis(values, place.axis, -1)).reshape(-1, values.shape[place.axis])


def _regression(moments: _Moments, stay: AnyArray, go: AnyArray, *, centred: bool) -> Floats:
    """A, ``[go, stay]``: what goes, as what stays says it; see the head of this module."""
    second = moments.second / moments.count
    if centred:
        mean = moments.first / moments.count
        second = second - np.outer(mean, mean)
    inside = second[np.ix_(stay, stay)]
    ridge = RIDGE * float(np.trace(inside)) / len(stay)
    if ridge <= 0:
        return np.zeros((len(go), len(stay)))
    across = second[np.ix_(stay, go)]
    return np.asarray(np.linalg.solve(inside + ridge * np.eye(len(stay)), across).T, dtype=np.float64)


def _typed(array: Floats, like: AnyArray) -> AnyArray:
    """In double precision where the source is, else in single: what is written has the source's type."""
    return array.astype(np.float64 if like.dtype == np.float64 else np.float32)
