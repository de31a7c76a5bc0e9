"""What a caller says a model is to be run on: arrays, or the shapes of inputs. It is kept with the model.

Without it sizes are guessed and values made up, which suits most networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx.errors import DataError

_KEY = "bot_onnx.given"

Array = NDArray[Any]
Pair = tuple[int, int]


class Mask(NamedTuple):
    """The number in a mask that leaves an element, and the one that hides it."""

    kept: int
    hidden: int


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One graph input: its numpy dtype and, per axis, a size or the symbol of an open dim.

    ``values`` is how many integers it may take (0 … values - 1): 2, or 1 where it looks up a table with a single row.
    ``mask`` is what a mask may hold; None where the input is none.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    values: int = 2
    mask: Mask | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """Arrays and shapes of inputs, by name. An input may have neither: it is made up.

    ``strict``: they must be ones that the model takes; what was resized may take others than its source.

    Of a model that is one of several which are resized together (:mod:`bot_onnx._together`), ``linked`` are the inputs
    and outputs that another one gives or takes, ``shared`` the tensors that another one holds as well, each with a key
    that is the same in both.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    strict: bool = True
    linked: frozenset[str] = frozenset()
    shared: Mapping[str, str] = field(default_factory=dict)

    def specs(self, specs: Sequence[InputSpec]) -> list[InputSpec]:
        """``specs`` whose open axes that have no symbol do not share one between inputs, where sizes are given.

        Raises:
            DataError: a name is no input, or a shape is not one that the model takes.
        """
        names = [spec.name for spec in specs]
        for name in (*self.arrays, *self.shapes):
            if self.strict and name not in names:
                raise DataError(f"the model has no input {name!r}: its inputs are {', '.join(names) or 'none'}")
        made = []
        for spec in specs:
            wanted = self._shape(spec.name)
            if wanted is not None:
                if self.strict:
                    _check(spec, wanted, self.arrays.get(spec.name))
                own = (f"{spec.name}{dim}" if isinstance(dim, str) and dim[0] == "#" else dim for dim in spec.shape)
                spec = replace(spec, shape=tuple(own))
            made.append(spec)
        return made

    def sizes(self, specs: Sequence[InputSpec]) -> Iterator[dict[str, Pair]]:
        """Sizes of open axes in two runs, likeliest first: as given, then another batch, other lengths, or the same.

        Raises:
            DataError: one symbol is given two sizes.
        """
        known: dict[str, int] = {}
        batches: set[str] = set()
        for spec in specs:
            for axis, (dim, size) in enumerate(zip(spec.shape, self._shape(spec.name) or (), strict=False)):
                if isinstance(dim, str):
                    if known.setdefault(dim, size) != size:
                        raise DataError(
                            f"the axis {dim!r} is {known[dim]} and {size} in the inputs given: make them one"
                        )
                    batches |= {dim} if axis == 0 else set()
        if not known:
            yield {}
            return
        lengths = known.keys() - batches
        for changed in (known.keys(), batches, lengths):
            if changed:
                yield {dim: (size, _another(size, dim in batches)) if dim in changed else (size, size)
                       for dim, size in known.items()}  # fmt: skip
        yield {dim: (size, size) for dim, size in known.items()}

    def filled(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """``feeds`` with the arrays given in the place of those that were made up, at their shapes."""
        made = {name: self._fill(name, values.shape) for name, values in feeds.items()}
        return {
            name: values if (array := made[name]) is None else array.astype(values.dtype, copy=False)
            for name, values in feeds.items()
        }

    def _fill(self, name: str, shape: Sequence[int]) -> Array | None:
        """The array of an input at ``shape``, repeated or cut along its axes; None where none is given."""
        array = self.arrays.get(name)
        if array is None or array.ndim != len(shape) or 0 in array.shape:
            return None
        for axis, size in enumerate(shape):
            if array.shape[axis] != size:
                array = array.take(np.arange(size) % array.shape[axis], axis=axis)
        return array

    def _shape(self, name: str) -> tuple[int, ...] | None:
        if name in self.shapes:
            return self.shapes[name]
        return self.arrays[name].shape if name in self.arrays else None

    def __bool__(self) -> bool:
        """Whether anything is given."""
        return bool(self.arrays) or bool(self.shapes)


def _another(size: int, batch: bool) -> int:
    return size + 1 if batch or size < 16 else 2 * size


def _check(spec: InputSpec, shape: tuple[int, ...], array: Array | None) -> None:
    fits = len(shape) == len(spec.shape) and all(
        isinstance(dim, str) or dim == size for dim, size in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise DataError(f"input {spec.name!r} is given as {list(shape)}, and the model takes {list(spec.shape)}")
    if array is not None and not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise DataError(f"input {spec.name!r} is given as {array.dtype}, and the model takes {spec.dtype}: save it so")
    if array is not None and array.dtype.kind == "f" and np.isnan(array).any():
        raise DataError(f"input {spec.name!r} is given with NaN in it, on which nothing can be compared: replace it")


def attach(model: ir.Model, given: Given | None) -> None:
    """Keep what is given with a model."""
    model.meta[_KEY] = given


def given_to(model: ir.Model) -> Given | None:
    """What was given with a model."""
    found: Given | None = model.meta.get(_KEY)
    return found
