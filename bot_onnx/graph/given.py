"""What a caller says a model is to be run on: arrays, or the shapes of inputs.

Without it sizes are guessed and values made up (see :mod:`bot_onnx.graph.inputs`), which suits most networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx.errors import DataError
from bot_onnx.graph.inputs import InputSpec, Pair
from bot_onnx.graph.sample_arrays import read_arrays

Array = NDArray[Any]
_KEY = "bot_onnx.given"


@dataclass(frozen=True, slots=True)
class Given:
    """Arrays and shapes of inputs, by name. An input may have neither: it is made up.

    ``strict``: they must be ones that the model takes; what was resized may take others than its source.
    """

    arrays: Mapping[str, Array] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    strict: bool = True

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


def read_given(inputs: Path | None, shapes: Iterable[str] = ()) -> Given:
    """Read what is to be fed.

    Args:
        inputs: an ``.npz`` file with an array per input.
        shapes: texts such as ``x=2x3x64x64``; an array given for the same input is repeated or cut to it.

    Raises:
        DataError: the file cannot be read, or a text is no shape.
    """
    arrays: dict[str, Array] = {}
    if inputs is not None:
        arrays, _ = read_arrays(inputs)
        if not arrays:
            raise DataError(f"{inputs} holds no arrays: save one per input")
    return Given(arrays, dict(map(_shape, shapes)))


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, sizes = text.rpartition("=")
    parts = sizes.lower().split("x") if sizes else []
    if (
        not equals
        or not name
        or not parts
        or not all(part.isascii() and part.isdigit() and 0 < len(part) < 10 for part in parts)
    ):
        raise DataError(f"{text!r} is no shape of an input: give NAME=2x3x64x64")
    return name, tuple(map(int, sizes.lower().split("x")))


def as_given(inputs: Any, shapes: Mapping[str, Sequence[int]] | None) -> Given | None:
    """From what the API takes: a path or arrays by name, and shapes by name; None where there is neither."""
    if inputs is None and not shapes:
        return None
    read = Given(inputs) if isinstance(inputs, Mapping) else read_given(None if inputs is None else Path(inputs))
    return replace(read, shapes={name: tuple(map(int, shape)) for name, shape in (shapes or {}).items()})


def attach(model: ir.Model, given: Given | None) -> None:
    """Keep what is given with a model."""
    model.meta[_KEY] = given


def given_to(model: ir.Model) -> Given | None:
    """What was given with a model."""
    found: Given | None = model.meta.get(_KEY)
    return found
