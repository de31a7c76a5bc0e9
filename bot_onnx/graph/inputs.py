"""Sizes and values to feed a model whose inputs have open dims.

An open dim is known by its symbol (``batch``, ``sequence``) or, where it has none, by its axis. Which sizes a model
accepts is not written in the file, so a short ladder of guesses is tried, most usual first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

#: Sizes per run for the first, second… open dim. Two runs; primes, so that no size is mistaken for another.
SIZES = ((2, 3), (7, 5), (11, 13), (17, 19), (23, 29), (31, 37))
_FORM = frozenset({"Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Expand"})
#: Sizes for open dims of images (axes 2 and later of a 4-D float input).
IMAGE_SIZES = ((64, 96), (224, 256), (32, 64))


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One graph input: its numpy dtype and, per axis, a size or the symbol of an open dim.

    ``values`` is how many integers it may take (0 … values - 1): 2, or 1 where it looks up a table with a single row.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    values: int = 2


def input_specs(graph: onnx.GraphProto) -> list[InputSpec]:
    """Describe the inputs of ``graph`` that are no initializers."""
    initializers = {tensor.name for tensor in graph.initializer}
    single = _single_row_lookups(graph)
    return [
        _input_spec(value, 1 if value.name in single else 2) for value in graph.input if value.name not in initializers
    ]


def _single_row_lookups(graph: onnx.GraphProto) -> set[str]:
    """Names of values that index tables with one row (directly, or through a change of form)."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    single: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "Gather" and rows.get(node.input[0]) == 1:
            single.add(node.input[1])
        elif node.op_type in _FORM and node.output[0] in single:
            single.add(node.input[0])
    return single


def _input_spec(value: onnx.ValueInfoProto, values: int) -> InputSpec:
    tensor = value.type.tensor_type
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            shape.append(int(dim.dim_value))
        else:
            shape.append(dim.dim_param or f"#{axis}")
    return InputSpec(value.name, _dtype(tensor.elem_type), tuple(shape), values)


def _dtype(element: int) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))


def open_sizes(specs: Sequence[InputSpec]) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """Yield pairs of sizes (first run, second run) for every open symbol, most usual guess first."""
    symbols = list(dict.fromkeys(dim for spec in specs for dim in spec.shape if isinstance(dim, str)))
    spatial = {
        dim for spec in specs if len(spec.shape) == 4 for dim in spec.shape[1:] if isinstance(dim, str)
    }  # fmt: skip
    plain = [symbol for symbol in symbols if symbol not in spatial]
    pairs = dict(zip(plain, SIZES, strict=False))
    for image in IMAGE_SIZES if spatial else ((0, 0),):
        sizes = {**{symbol: image for symbol in spatial}, **pairs}
        for symbol in symbols:
            sizes.setdefault(symbol, SIZES[-1])
        yield {s: sizes[s][0] for s in symbols}, {s: sizes[s][1] for s in symbols}
    # Symbols that differ by name may have to agree in size: one size per axis then.
    axes = {dim: axis for spec in specs for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
    by_axis = {symbol: SIZES[min(axis, len(SIZES) - 1)] for symbol, axis in axes.items()}
    yield {s: by_axis[s][0] for s in symbols}, {s: by_axis[s][1] for s in symbols}
    yield {s: 1 for s in symbols}, {s: 1 for s in symbols}


def feeds(specs: Sequence[InputSpec], sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs at ``sizes``: floats from Normal(0, 1), integers and booleans from {0, 1}.

    Integers stay in {0, 1} because every table and every mask admits them. A mask must leave something to attend to,
    so the first element along the last axis is 1.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, np.ndarray[Any, Any]] = {}
    for spec in specs:
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape)
        if np.issubdtype(spec.dtype, np.integer) or spec.dtype == np.bool_:
            array = rng.integers(0, spec.values, shape)
            if array.ndim:
                array[..., 0] = spec.values - 1
            values[spec.name] = array.astype(spec.dtype)
        else:
            values[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
    return values
