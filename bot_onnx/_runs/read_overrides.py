"""Reading what a model is to be run on: arrays from a file, shapes from texts.

Without it sizes are guessed and values made up (see :mod:`bot_onnx._runs.inputs`), which suits most networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._runs.sample_arrays import read_arrays
from bot_onnx.errors import DataError

Array = NDArray[Any]


def read_given(inputs: Path | None, shapes: Iterable[str] = ()) -> Given:
    """Read what is to be fed.

    Args:
        inputs: an ``.npz`` file with an array per input.
        shapes: texts such as ``x=2x3x64x64``; an array given for the same input is repeated or cut to it.

    Raises:
        DataError: the file cannot be read or holds nothing, or a text is no shape.
    """
    arrays: dict[str, Array] = {}
    if inputs is not None:
        arrays, _ = read_arrays(inputs)
        if not arrays:
            raise DataError(f"{inputs} holds no arrays: save one per input")
        if all(array.ndim and not len(array) for array in arrays.values()):
            raise DataError(f"{inputs} holds no samples: no array has any along its first axis")
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
