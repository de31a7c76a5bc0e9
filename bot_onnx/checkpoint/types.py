"""What is said of a graph's weights in the framework's terms, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]
Read = Callable[[str], Array]
Shape = tuple[int, ...]

#: How a key was found. ``name``: the exporter kept it; ``scope``: from the place of the node that uses the tensor;
#: ``layer``: as in the other layers of its stack; ``twin``: as the embedding of which it is the transpose; ``value``:
#: the checkpoint holds the same numbers; ``shape``: the only key of the checkpoint that is left for it; ``tied``: the
#: checkpoint holds its numbers under this key as well; ``source``: as in the model that this one was resized from;
#: ``given``: the user said so.
How = Literal["name", "scope", "layer", "twin", "value", "shape", "tied", "source", "given"]


@dataclass(frozen=True, slots=True)
class Window:
    """A range of one axis of an initializer: where the graph has joined what the framework keeps apart (a fused qkv).

    Attributes:
        axis: of the initializer.
        start, stop: indices on it.
        size: of the whole axis.
    """

    axis: int
    start: int
    stop: int
    size: int


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
class Claim:
    """One initializer (or a window of it) is one entry of the state dict (or a part of it).

    The framework's values are ``transpose(initializer[window], perm)``, joined with those of the other parts. Several
    claims of whole entries to one key are copies of each other; an initializer with several claims is tied.

    Attributes:
        key: in the state dict.
        tensor: name of the initializer.
        perm: order of the initializer's axes in the framework's tensor; None: as they are.
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

    def shape(self, tensor: Shape) -> Shape:
        """Shape of the framework's values (of this part), from the initializer's."""
        if self.window is not None:
            axis = self.window.axis
            tensor = (*tensor[:axis], self.window.stop - self.window.start, *tensor[axis + 1 :])
        return tensor if self.perm is None else tuple(tensor[axis] for axis in self.perm)


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
class Draft:
    """What is known so far of the weights of a graph.

    Attributes:
        shapes: of every tensor that must find its home, by name, in graph order.
        claims: by tensor name.
        lost: tensors without a claim, and why.
        left_out: tensors that are no parameters, and why.
    """

    shapes: dict[str, Shape]
    claims: dict[str, tuple[Claim, ...]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def settle(self, tensor: str, claims: tuple[Claim, ...]) -> None:
        """Give a tensor its claims, which are at least one."""
        self.claims[tensor] = claims
        self.lost.pop(tensor, None)
        self.left_out.pop(tensor, None)

    def lose(self, tensor: str, why: str) -> None:
        """Take a tensor's claims from it."""
        self.claims.pop(tensor, None)
        self.lost[tensor] = why


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where every weight of a graph belongs.

    Attributes:
        claims: by key, in graph order of the first tensor.
        left_out: tensors of the graph that are no entry of the state dict, and why.
        absent: keys of the checkpoint that was given for comparison which the graph has no tensor for.
        buffers: keys of that checkpoint that hold whole numbers, which no graph keeps.
        notes: what was found out about prefixes and sizes, in sentences.
    """

    claims: Mapping[str, tuple[Claim, ...]]
    left_out: Mapping[str, str]
    absent: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
