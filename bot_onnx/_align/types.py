"""What an alignment is: decided before a weight is read, carried out tensor by tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.axes import LeafOrder
from bot_onnx._align.calibration import Calibration
from bot_onnx._align.gradients import Gradients
from bot_onnx._align.permutable_dims import Freedom
from bot_onnx._align.places import Namespace
from bot_onnx._align.readings import Readings
from bot_onnx._align.stream import Stream
from bot_onnx._names import AlignKind
from bot_onnx._structure import Stack, Structure
from bot_onnx._target import Refit

Kind = AlignKind
KINDS: tuple[Kind, ...] = get_args(AlignKind)

#: Called with (what is being looked at, steps done, steps in all).
Progress = Callable[[str, int, int], None]
AnyArray = NDArray[Any]


class TensorLike(Protocol):
    """A tensor that is read when asked: all that an alignment needs of one."""

    def numpy(self) -> AnyArray:
        """Its values."""
        ...


Tensors = Mapping[str, TensorLike]


@dataclass(frozen=True, slots=True)
class Facts:
    """What an alignment must know of the graph besides its structure, and of the data where there are some.

    ``gradients`` are who takes them, where they are to be had.
    """

    freedom: Freedom
    stream: Stream
    readings: Readings
    calibration: Calibration | None = None
    gradients: Gradients | None = None


@dataclass(slots=True)
class Kept:
    """Indices that stay, by leaf.

    Attributes:
        layers: per chain and layer, of leaves that live inside the layers.
        common: of all others.
    """

    layers: dict[str, list[dict[str, LeafOrder]]]
    common: dict[str, LeafOrder] = field(default_factory=dict)

    def of(self, stack: Stack, layer: int) -> dict[str, LeafOrder]:
        """Orders that may concern a tensor of a stack."""
        inside = stack.chain is not None and not stack.shared
        return {**self.common, **self.layers[stack.chain][layer]} if inside and stack.chain else self.common

    def bound(self, stack: Stack, layer: int) -> dict[str, LeafOrder]:
        """Those of them that depend on another leaf."""
        return {leaf: order for leaf, order in self.of(stack, layer).items() if order.given is not None}

    def free(self, stack: Stack, layer: int, leaf: str) -> AnyArray | None:
        """Indices of a leaf that stay, where they depend on no other leaf."""
        order = self.of(stack, layer).get(leaf)
        return None if order is None or order.given is not None else order.table


class Aligned(Protocol):
    """The source's tensors, aligned."""

    def read(self, name: str) -> AnyArray:
        """One tensor by its name in the source, in the shape that :attr:`Alignment.structure` gives it."""
        ...

    def whole_energy(self, name: str) -> float:
        """Sum of squares of the same tensor, aligned but with nothing cut off."""
        ...

    def whole(self, name: str) -> AnyArray:
        """The same tensor before what :meth:`cut` tells of is done to it: at the source's sizes where that tells."""
        ...

    def cut(self, name: str, axis: int, leaf: str) -> AnyArray | None:
        """What brings a leaf along an axis of a tensor to its size: ``[target]`` indices, or ``[target, source]``.

        None where nothing does, or where :meth:`whole` has done it already.
        """
        ...


class Alignment(ABC):
    """An alignment that has been decided on.

    Attributes:
        kind: which one (never ``auto``).
        structure: the source's structure as it is after the alignment: a dim that the alignment itself brings to its
            target size has that size here. Work orders for the resampler are built from this structure.
        notes: what was done or left, and why, in sentences.
        exact: with every size kept, the network computes what it did, outputs in their own basis.
        chooses: heads, neurons or channels are chosen, by what they are worth.
        refit: what makes up for what goes, if anything does. refitted: names of the source's tensors that do.
        looks: the samples are looked at, where there are some.
    """

    kind: Kind
    structure: Structure
    notes: tuple[str, ...]
    exact: bool = True
    refit: Refit | None = None
    refitted: frozenset[str] = frozenset()
    looks: bool = False

    @property
    def chooses(self) -> bool:
        """Whether something is chosen."""
        return False

    @abstractmethod
    def align(self, tensors: Tensors, progress: Progress | None = None, xp: Namespace = np) -> Aligned:
        """Look at the weights and align them; see :func:`bot_onnx._align.align`."""
