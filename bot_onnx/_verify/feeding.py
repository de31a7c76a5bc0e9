"""Inputs that look like real ones: token ids from all over the vocabulary, masks that hide nothing at first, then some.

Which integers an input may take follows from the tables it addresses, never from its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._ops import IN_PLACE, Move, keeps_indices, passes_on
from bot_onnx._runs.fitting_sizes import Fitting
from bot_onnx._runs.inputs import TEXT, Pair, open_sizes
from bot_onnx._runs.masks import drawn_mask

Feeds = dict[str, NDArray[Any]]
Shape = tuple[int, ...]


def index_ranges(graph: onnx.GraphProto) -> dict[str, int]:
    """Number of rows of the table that a value addresses, by value; the smallest where it addresses several."""
    tables = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if passes_on(node, IN_PLACE | Move.UNPACKED) and node.input[0] in tables:
            tables[node.output[0]] = tables[node.input[0]]
    ranges: dict[str, int] = {}
    for node in reversed(graph.node):
        if node.op_type == "Gather" and tables.get(node.input[0]):
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            rows, addressed = tables[node.input[0]][axis], node.input[1]
        elif keeps_indices(node) and node.output and node.output[0] in ranges:
            rows, addressed = ranges[node.output[0]], node.input[0]
        else:
            continue
        ranges[addressed] = min(rows, ranges.get(addressed, rows))
    return ranges


def batches(
    specs: Sequence[InputSpec], shapes: Sequence[Mapping[str, Shape]], ranges: Mapping[str, int], seed: int
) -> list[Feeds]:
    """One set of inputs per entry of ``shapes``.

    Floats are Normal(0, 1); integers that address a table are uniform over its rows; all others and booleans are 1.
    Masks of any type hide nothing in the first set, and something in the others.
    """
    rng = np.random.default_rng(seed)
    return [
        {spec.name: _values(spec, sizes[spec.name], ranges, rng, hiding=place > 0) for spec in specs}
        for place, sizes in enumerate(shapes)
    ]


def _values(
    spec: InputSpec, shape: Shape, ranges: Mapping[str, int], rng: np.random.Generator, *, hiding: bool
) -> NDArray[Any]:
    if spec.dtype == np.object_:
        return np.full(shape, TEXT, object)
    rows = ranges.get(spec.name)
    if spec.mask is not None and rows is None:
        array = drawn_mask(shape, spec.mask, rng) if hiding else np.full(shape, spec.mask.kept)
        return array.astype(spec.dtype)
    if spec.dtype.kind not in "iub":
        return rng.standard_normal(shape).astype(spec.dtype)
    if rows is None or spec.dtype.kind == "b":
        return np.ones(shape, spec.dtype)
    return rng.integers(0, max(rows, 1), shape).astype(spec.dtype)


def candidate_shapes(
    specs: Sequence[InputSpec],
    observed: Mapping[str, tuple[tuple[int, int], ...]] | None,
    lengths: Iterable[int] = (),
    known: Mapping[str, Pair] | None = None,
    fitted: Fitting | None = None,
) -> Iterator[list[dict[str, Shape]]]:
    """Pairs of input shapes to run at: those at which the analysis ran, else a ladder of guesses.

    ``lengths`` are those that the graph may have been traced at, ``known`` the sizes of open axes that are no guess,
    ``fitted`` finds those that the weights ask for.
    """
    if observed is not None and all(spec.name in observed for spec in specs):
        yield [{spec.name: tuple(pair[run] for pair in observed[spec.name]) for spec in specs} for run in (0, 1)]
        return
    for pair in open_sizes(specs, lengths, known, fitted):
        yield [{spec.name: _sized(spec, sizes) for spec in specs} for sizes in pair]


def _sized(spec: InputSpec, sizes: Mapping[str, int]) -> Shape:
    return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape)
