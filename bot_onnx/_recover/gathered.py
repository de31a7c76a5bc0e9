"""From samples with fields to the inputs of a model: arrays under the inputs' names, texts, pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.records import Record
from bot_onnx._recover.rows import Padded, Rows, Spool, starts_of
from bot_onnx._recover.types import Array
from bot_onnx.errors import RecoverError

_MASK: Final = "attention_mask"
_AXES: Final = 4  #: of an image, with the samples'
Pictures = Callable[[Iterable[tuple[Any, str]]], Dataset]
Texts = Callable[[Iterable[tuple[str, str]]], Dataset]


@dataclass(frozen=True, slots=True)
class Makers:
    """What makes a dataset of texts, and of pictures, each with its place."""

    texts: Texts
    pictures: Pictures


def gather(
    records: Iterable[Record],
    specs: Sequence[InputSpec],
    name: str | None,
    makers: Makers,
    rows: Mapping[str, int],
    label: str,
) -> Dataset:
    """Make inputs of samples.

    Args:
        records: the samples.
        specs: inputs of the model.
        name: the field with the text or the picture; None: fields that are the inputs, or the only one that may be.
        makers: of texts and pictures.
        rows: number of rows of the table that an input addresses, by input.
        label: how messages call the data.

    Raises:
        RecoverError: there are no samples, or they do not suit the model.
    """
    given = iter(records)
    first = next(given, None)
    if first is None:
        raise RecoverError(f"{label} holds no samples" if label else "there are no samples: nothing was given")
    every = chain([first], given)
    if isinstance(first[0], str):
        return makers.texts(_texts(every, None))
    keys = first[0]
    if name is None and all(_is_array(keys.get(spec.name)) for spec in specs):
        return arrays_of(every, specs, rows, label)
    name = _field(first, name, specs)
    if is_picture(keys[name]):
        return makers.pictures(_values(every, name))
    return makers.texts(_texts(every, name))


def is_picture(value: Any) -> bool:
    """Whether a value is an image: bytes of a file, ``datasets``' pair of bytes and path, or one of Pillow's."""
    if isinstance(value, Mapping):
        return {"bytes", "path"} >= value.keys() and isinstance(value.get("bytes"), bytes)
    return isinstance(value, bytes) or (hasattr(value, "convert") and hasattr(value, "size"))


def _is_array(value: Any) -> bool:
    return value is not None and not isinstance(value, str) and not is_picture(value)


def _field(first: Record, name: str | None, specs: Sequence[InputSpec]) -> str:
    record, place = first
    assert not isinstance(record, str)
    told = ", ".join(map(str, record)) or "none"
    if name is not None:
        if name not in record:
            raise RecoverError(f"{place} has no field {name!r}; it has {told}")
        return name
    if len(specs) == 1 and len(specs[0].shape) == _AXES:
        found, usual = [key for key, value in record.items() if is_picture(value)], "image"
    else:
        found, usual = [key for key, value in record.items() if isinstance(value, str)], "text"
    found = [usual] if usual in found else found
    if len(found) != 1:
        wanted = ", ".join(spec.name for spec in specs)
        raise RecoverError(
            f"{place} has the fields {told}: give one for every input ({wanted}), or say which holds the text or the "
            "image with --field"
        )
    return found[0]


def _values(records: Iterable[Record], name: str) -> Iterator[tuple[Any, str]]:
    for record, place in records:
        if isinstance(record, str) or record.get(name) is None:
            raise RecoverError(f"{place} has no field {name!r}, as the first sample has: leave such samples out")
        yield record[name], place


def _texts(records: Iterable[Record], name: str | None) -> Iterator[tuple[str, str]]:
    values = ((record, place) for record, place in records) if name is None else _values(records, name)
    for value, place in values:
        if not isinstance(value, str):
            what = "it" if name is None else f"field {name!r}"
            raise RecoverError(f"{place}: {what} is {type(value).__name__}, no text, as the first sample's is")
        if text := value.strip():
            yield text, place


# -- arrays --------------------------------------------------------------------------------------------------------


def arrays_of(records: Iterable[Record], specs: Sequence[InputSpec], rows: Mapping[str, int], label: str) -> Dataset:
    """Samples that have a field for every input: lists or arrays, without the samples' axis.

    Lists of numbers of several lengths are padded with zeros, where the model takes a mask.

    Raises:
        RecoverError: a field is missing, or is none that the model takes; the place is named.
    """
    inputs = [_Input(spec, rows.get(spec.name)) for spec in specs]
    count = 0
    for record, place in records:
        count += 1
        for one in inputs:
            if isinstance(record, str) or record.get(one.spec.name) is None:
                raise RecoverError(f"{place} has no field {one.spec.name!r}, which is an input of the model")
            one.add(record[one.spec.name], place)
    batched = [one for one in inputs if one.spec.shape]
    constant = {one.spec.name: one.first for one in inputs if not one.spec.shape}
    note = f"{count:,} samples of {label}" if label else f"{count:,} samples, given one by one"
    uneven = [one for one in batched if one.uneven]
    names = {one.spec.name for one in batched}
    if not uneven:
        arrays: dict[str, Rows] = {one.spec.name: one.whole(count) for one in batched}
        return Dataset(arrays, constant, mask=_MASK if _MASK in names else None, notes=(note,))
    lengths = np.array(uneven[0].lengths, np.int64)
    together = [one for one in batched if one.open]
    odd = next((one for one in together if one.lengths != uneven[0].lengths), None)
    if _MASK not in {one.spec.name for one in together} or odd is not None:
        why = f"no input is called {_MASK}" if odd is None else f"{odd.spec.name!r} has other lengths"
        sizes = f"samples of {lengths.min()} to {lengths.max()} numbers"
        raise RecoverError(
            f"{label or 'the samples'}: {uneven[0].spec.name!r} has {sizes}, and {why}: make them equally long"
        )
    starts = starts_of(lengths)
    padded = {one.spec.name: Padded(one.spool.array(), starts, lengths, 0, one.spec.dtype) for one in together}
    return Dataset(
        {one.spec.name: padded[one.spec.name] if one.open else one.whole(count) for one in batched},
        constant,
        lengths,
        tuple(padded),
        _MASK,
        notes=(note,),
    )


@dataclass(slots=True)
class _Input:
    """One input, sample by sample."""

    spec: InputSpec
    rows: int | None
    spool: Spool = field(init=False)
    lengths: list[int] = field(default_factory=list)
    first: Array = field(init=False)
    place: str = ""

    def __post_init__(self) -> None:
        self.spool = Spool(self.spec.dtype)

    @property
    def open(self) -> bool:
        """Whether samples are rows whose length the model leaves open."""
        return len(self.spec.shape) == 2 and isinstance(self.spec.shape[1], str)

    @property
    def uneven(self) -> bool:
        return self.open and len(set(self.lengths)) > 1

    def add(self, value: Any, place: str) -> None:
        array = self._checked(value, place)
        if not self.place:
            self.first, self.place = array, place
        elif not self.spec.shape:
            if not np.array_equal(array, self.first):
                raise RecoverError(f"{place}: {self.spec.name!r} is the same for all samples of the model, not {array}")
            return
        elif not self.open and array.shape != self.first.shape:
            raise RecoverError(
                f"{place}: {self.spec.name!r} is {list(array.shape)}, and {list(self.first.shape)} in {self.place}"
            )
        if self.open:
            self.lengths.append(array.size)
        self.spool.append(array)

    def _checked(self, value: Any, place: str) -> Array:
        name, spec = f"{place}: {self.spec.name!r}", self.spec
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise RecoverError(f"{name} is no array of numbers") from error
        if array.dtype.kind not in "biuf":
            raise RecoverError(f"{name} is {type(value).__name__}, no array of numbers")
        wanted = spec.shape[1:]
        if len(wanted) != array.ndim or any(
            isinstance(size, int) and size != had for size, had in zip(wanted, array.shape, strict=True)
        ):
            raise RecoverError(f"{name} is {list(array.shape)}, and a sample of the model is {list(wanted)}")
        if array.dtype.kind == "f" and (spec.dtype.kind != "f" or not np.isfinite(array).all()):
            told = f"floats, and the model takes {spec.dtype}" if spec.dtype.kind != "f" else "NaN or infinite values"
            raise RecoverError(f"{name} holds {told}")
        low, high = (int(array.min()), int(array.max())) if self.rows is not None and array.size else (0, 0)
        if self.rows is not None and not -self.rows <= low <= high < self.rows:
            raise RecoverError(f"{name} goes from {low} to {high}, and the model's table has {self.rows} rows")
        return np.asarray(array, spec.dtype)

    def whole(self, count: int) -> Array:
        shape = (self.lengths[0],) if self.open else self.first.shape
        return self.spool.array(count, *shape)
