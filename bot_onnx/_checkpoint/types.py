"""What is said of a graph's weights in the framework's terms, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Read = Callable[[str], Array]
Shape = tuple[int, ...]

#: How a key was found. ``name``: the exporter kept it; ``scope``: from the place of the node that uses the tensor;
#: ``layer``: as in the other layers of its stack; ``twin``: as the embedding of which it is the transpose; ``value``:
#: the checkpoint holds the same numbers; ``shape``: the only key of the checkpoint that is left for it; ``tied``: the
#: checkpoint holds its numbers under this key as well; ``source``: as in the model that this one was resized from;
#: ``given``: the user said so; ``folded``: the exporter
#: computed the tensor from several keys, of which these compute the same.
How = Literal["name", "scope", "layer", "twin", "value", "shape", "tied", "source", "given", "folded"]


@dataclass(frozen=True, slots=True)
class Window:
    """A range of one axis of an initializer: where the graph has joined what the framework keeps apart (a fused qkv).

    Attributes:
        axis: of the initializer.
        start, stop: indices on it.
        size: of the whole axis.
        zeros: other ranges of it, (start, stop), that hold zeros and belong to no key.
    """

    axis: int
    start: int
    stop: int
    size: int
    zeros: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A place in a row: where the graph has split what the framework keeps in one tensor.

    Attributes:
        axis: of the framework's tensor, along which the parts are joined.
        position: of this part, from 0.
    """

    axis: int
    position: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One initializer (or a window of it) is one entry of the state dict (or a part of it).

    The framework's values are ``transpose(initializer[window], perm) - shift``, joined with those of the other parts.
    Several candidates of whole entries to one key are copies of each other; an initializer with several of them is
    tied.

    Attributes:
        key: in the state dict.
        tensor: name of the initializer.
        perm: order of the initializer's axes in the framework's tensor; None: as they are. -1 is an axis of size 1
            that the initializer does not have; its axes that are not named have size 1.
        shift: what the exporter added to every number: the scale of a norm may be stored as ``1 + w``.
        log: the framework has the logarithm of the numbers.
        window: range of the initializer; None: all of it.
        part: place among the parts of the entry; None: it is the whole entry.
        how: evidence.
    """

    key: str
    tensor: str
    how: How
    perm: tuple[int, ...] | None = None
    window: Window | None = None
    part: Part | None = None
    shift: float = 0.0
    log: bool = False

    def shape(self, tensor: Shape) -> Shape:
        """Shape of the framework's values (of this part), from the initializer's."""
        tensor = self._windowed(tensor)
        return tensor if self.perm is None else self.shape_after(tensor)

    def sizes(self, shape: Shape, rank: int) -> Shape:
        """Sizes of the axes of an initializer (of the window) with ``rank`` axes, from the framework's shape."""
        if self.perm is None:
            return shape
        found = dict(zip(self.perm, shape, strict=True))
        return tuple(found.get(axis, 1) for axis in range(rank))

    def outward(self, values: Array) -> Array:
        """The framework's values (of this part), from the initializer's."""
        if self.window is not None:
            window = self.window
            values = values[(slice(None),) * window.axis + (slice(window.start, window.stop),)]
        if self.perm is not None:
            values = values.transpose(self._order(values.ndim)).reshape(self.shape_after(values.shape))
        values = values if not self.shift else values - values.dtype.type(self.shift)
        return np.log(values).astype(values.dtype) if self.log else values

    def inward(self, values: Array, tensor: Shape) -> Array:
        """The initializer's values (of the window), from the framework's; ``tensor`` is the initializer's shape."""
        if self.log:
            values = np.exp(values).astype(values.dtype)
        if self.shift:
            values = values + values.dtype.type(self.shift)
        if self.perm is None:
            return values
        order = self._order(len(tensor))
        windowed = self._windowed(tensor)
        return values.reshape([windowed[axis] for axis in order]).transpose(np.argsort(order))

    def shape_after(self, windowed: Shape) -> Shape:
        """Shape of the framework's values from that of the window."""
        return tuple(1 if axis < 0 else windowed[axis] for axis in self.perm or ())

    def _order(self, rank: int) -> tuple[int, ...]:
        named = tuple(axis for axis in self.perm or () if axis >= 0)
        return (*named, *(axis for axis in range(rank) if axis not in named))

    def _windowed(self, tensor: Shape) -> Shape:
        if self.window is None:
            return tensor
        axis = self.window.axis
        return (*tensor[:axis], self.window.stop - self.window.start, *tensor[axis + 1 :])


class Fold(Protocol):
    """Initializers that the exporter computed from several entries of the state dict.

    Outward, entries are made that compute what the initializers do; they need not be the ones that training had.
    """

    @property
    def tensors(self) -> tuple[str, ...]:
        """The initializers."""
        ...

    @property
    def keys(self) -> tuple[str, ...]:
        """The entries."""
        ...

    def outward(self, read: Read) -> dict[str, Array]:
        """Entries that give the initializers' values."""
        ...

    def inward(self, read: Read, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """The initializers' values (of ``shapes``), from the entries'; CheckpointError if these do not fit."""
        ...


class Checkpoint(Protocol):
    """Named tensors of a framework; values are read when asked for."""

    @property
    def path(self) -> str:
        """Where it is, for messages."""
        ...

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape by key, in the checkpoint's order."""
        ...

    @property
    def buffers(self) -> frozenset[str]:
        """Keys of whole numbers or truth values: nothing that is trained."""
        ...

    def read(self, key: str) -> Array:
        """Values of one tensor."""
        ...


@dataclass(slots=True)
class OpenAssignment:
    """What is known so far of the weights of a graph.

    Attributes:
        shapes: of every tensor that must find its home, by name, in graph order.
        candidates: by tensor name.
        lost: tensors without a candidate, and why.
        left_out: tensors that are no parameters, and why.
        idle: why tensors that stay lost may be left out: nothing changes without them.
        folds: by tensor: what the exporter computed from several entries.
        notes: what was concluded, in sentences.
    """

    shapes: dict[str, Shape]
    candidates: dict[str, tuple[Candidate, ...]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    idle: dict[str, str] = field(default_factory=dict)
    folds: dict[str, Fold] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def confirm(self, tensor: str, candidates: tuple[Candidate, ...]) -> None:
        """Give a tensor its candidates, which are at least one."""
        self.candidates[tensor] = candidates
        self.lost.pop(tensor, None)
        self.left_out.pop(tensor, None)

    def confirm_fold(self, fold: Fold) -> None:
        """Take tensors apart that were computed from several entries."""
        for tensor in fold.tensors:
            self.candidates.pop(tensor, None)
            self.lost.pop(tensor, None)
            self.folds[tensor] = fold

    def keys(self) -> set[str]:
        """Every key that has a tensor."""
        found = {candidate.key for candidates in self.candidates.values() for candidate in candidates}
        return found | {key for fold in self.folds.values() for key in fold.keys}

    def lose(self, tensor: str, why: str) -> None:
        """Take a tensor's candidates from it."""
        self.candidates.pop(tensor, None)
        self.lost[tensor] = why


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where every weight of a graph belongs.

    Attributes:
        candidates: by key, in graph order of the first tensor.
        folds: tensors that were computed from several entries.
        left_out: tensors of the graph that are no entry of the state dict, and why.
        absent: keys of the checkpoint that was given for comparison which the graph has no tensor for.
        buffers: keys of that checkpoint that hold whole numbers, which no graph keeps.
        notes: what was found out about prefixes and sizes, in sentences.
    """

    candidates: Mapping[str, tuple[Candidate, ...]]
    left_out: Mapping[str, str]
    absent: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    folds: tuple[Fold, ...] = ()
