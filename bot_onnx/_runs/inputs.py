"""Sizes and values to feed a model whose inputs have open dims.

An open dim is known by its symbol (``batch``, ``sequence``) or, where it has none, by its axis. Which sizes a model
accepts is not written in the file, so a short ladder of guesses is tried, most usual first.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import onnx

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._ops import keeps_indices
from bot_onnx._runs.demanded_sizes import demanded_sizes
from bot_onnx._runs.fitting_sizes import Fitting
from bot_onnx._runs.masks import drawn_mask, masks
from bot_onnx.errors import GraphError

Pair = tuple[int, int]

#: Sizes per run for the first, second… open dim. Two runs; primes, so that no size is mistaken for another, and all of
#: them grow, so that sums differ between the runs as well.
SIZES = ((2, 3), (5, 7), (11, 13), (17, 19), (23, 29), (31, 37))
#: Sizes for open dims of images (axes 2 and later of a 4-D float input).
IMAGE_SIZES = ((64, 96), (224, 256), (32, 64))
#: Lengths of signals (last axis of a float input without channels behind it), where short ones do not do.
SIGNAL_SIZES = ((256, 288), (1024, 1152), (16000, 17600))
#: Steps in time that convolutions take together, and bins beside them.
FRAMES = ((64, 96), (256, 288))
#: Batches of pairs (two books of codes, two sides of a comparison).
EVEN = (2, 4)
#: Factors by which lengths become longer, for networks that halve them, or that cover some steps at once.
LONGER = (2, 4, 16)
_LONGEST_FORMULA = 200  #: characters of a symbol that is read as one; exporters write short sums
_MOST_ELEMENTS = 1 << 31  #: of one input that is made up
TEXT = "0"  #: what is fed where strings are asked for
MAX_TRIALS = 40  #: guesses at which length is the sum of others


def input_specs(graph: onnx.GraphProto) -> list[InputSpec]:
    """Describe the inputs of ``graph`` that are no initializers; open axes whose size weights demand have that size."""
    initializers = {tensor.name for tensor in graph.initializer}
    single, demanded, hiding = _single_row_lookups(graph), demanded_sizes(graph), masks(graph)
    return [
        replace(_input_spec(value, 1 if value.name in single else 2, demanded), mask=hiding.get(value.name))
        for value in graph.input
        if value.name not in initializers
    ]


def fitting(model: onnx.ModelProto, specs: Sequence[InputSpec]) -> Fitting:
    """What finds sizes of open axes at which a model fits its own weights."""
    shapes = {spec.name: spec.shape for spec in specs}
    return Fitting(
        model.graph, model.opset_import, shapes, [spec.name for spec in specs if spec.dtype.kind not in "iub"]
    )


def _single_row_lookups(graph: onnx.GraphProto) -> set[str]:
    """Names of values that index tables with one row (directly, or through a change of form)."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    single: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "Gather" and rows.get(node.input[0]) == 1:
            single.add(node.input[1])
        elif keeps_indices(node) and node.output[0] in single:
            single.add(node.input[0])
    return single


def _input_spec(value: onnx.ValueInfoProto, values: int, demanded: Mapping[tuple[str, int], int]) -> InputSpec:
    tensor = value.type.tensor_type
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            shape.append(int(dim.dim_value))
        elif (value.name, axis) in demanded:
            shape.append(demanded[value.name, axis])
        else:  # without a symbol: the first open axis is the batch, wherever it stands
            first = all(isinstance(size, int) for size in shape)
            shape.append(dim.dim_param or f"#{0 if first else axis}")
    return InputSpec(value.name, _dtype(tensor.elem_type), tuple(shape), values)


def _dtype(element: int) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))


def open_sizes(
    specs: Sequence[InputSpec],
    lengths: Iterable[int] = (),
    known: Mapping[str, Pair] | None = None,
    fitted: Fitting | None = None,
) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """Yield pairs of sizes (first run, second run) for every open symbol, most usual guess first.

    Args:
        specs: the inputs.
        lengths: what the graph may have been traced at (see :mod:`bot_onnx._runs.baked_lengths`): tried in the end,
            the same in both runs.
        known: sizes that are no guesses.
        fitted: what finds sizes that the graph's weights ask for: first where others would be read wrongly.
    """
    for sizes in chain(
        () if fitted is None else fitted.flattened(),
        _guesses(specs),
        () if fitted is None else fitted.any(),
        _traced(specs, lengths),
    ):
        yield _pair(specs, {**sizes, **(known or {})})


def _guesses(specs: Sequence[InputSpec]) -> Iterator[dict[str, Pair]]:
    symbols = open_symbols(specs)
    spatial = _spatial(specs)
    plain = [symbol for symbol in symbols if symbol not in spatial]
    distinct = {symbol: SIZES[min(place, len(SIZES) - 1)] for place, symbol in enumerate(plain)}
    images = IMAGE_SIZES if spatial else (SIZES[-1],)
    for image in images:
        yield {**dict.fromkeys(spatial, image), **distinct}
    signals = _signals(specs)
    for length in SIGNAL_SIZES if signals else ():
        yield {**dict.fromkeys(spatial, images[0]), **distinct, **dict.fromkeys(signals, length)}
    for related in _related(specs, distinct):
        yield {**dict.fromkeys(spatial, images[0]), **related}
    # Symbols that differ by name may have to agree in size: one size per axis then.
    axes = _axes(specs)
    by_axis = {symbol: SIZES[min(axes.get(symbol, 1), len(SIZES) - 1)] for symbol in symbols}
    yield by_axis
    for related in _related(specs, by_axis):
        yield related
    batches = _batches(specs)
    yield {**by_axis, **dict.fromkeys(batches, EVEN)}
    for factor in LONGER:
        longer = {symbol: (first * factor, second * factor) for symbol, (first, second) in by_axis.items()}
        yield {**longer, **{symbol: by_axis[symbol] for symbol in batches}}
    for length in FRAMES if signals or _framed(specs) else ():  # what looks like a batch are steps in time
        yield dict.fromkeys(symbols, length)


def _traced(specs: Sequence[InputSpec], lengths: Iterable[int]) -> Iterator[dict[str, Pair]]:
    symbols = open_symbols(specs)
    batches = _batches(specs)
    for traced in lengths:
        for batch in (SIZES[0], (1, 1), (traced, traced)):
            yield {**dict.fromkeys(symbols, (traced, traced)), **dict.fromkeys(batches, batch)}
    yield dict.fromkeys(symbols, (1, 1))


def _axes(specs: Sequence[InputSpec]) -> dict[str, int]:
    """The axis at which each open size stands last."""
    return {dim: axis for spec in specs for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}


def _batches(specs: Sequence[InputSpec]) -> list[str]:
    axes = _axes(specs)
    return [symbol for symbol in open_symbols(specs) if not axes.get(symbol, 1)]


def _framed(specs: Sequence[InputSpec]) -> bool:
    """Whether inputs may be steps in time by bins (by channels), without a batch."""
    return any(
        len(spec.shape) in (2, 3) and spec.dtype.kind not in "iub" and isinstance(spec.shape[0], str) for spec in specs
    )


def _spatial(specs: Sequence[InputSpec]) -> set[str]:
    """Open heights and widths of images.

    Those of 4-D inputs of floats, unless there are several with one open length each: that is a cache of keys and
    values ``[batch, heads, past, head_dim]``.
    """
    images = [spec for spec in specs if len(spec.shape) == 4 and spec.dtype.kind not in "iub"]
    single = len(images) == 1
    return {
        dim
        for spec in images
        if single or all(isinstance(dim, str) for dim in spec.shape[2:])
        for dim in spec.shape[1:]
        if isinstance(dim, str)
    }


def _signals(specs: Sequence[InputSpec]) -> set[str]:
    """Open lengths of sound and its like: ``[batch, length]`` or ``[batch, channels, length]``, of floats."""
    return {
        last
        for spec in specs
        if len(spec.shape) in (2, 3) and spec.dtype.kind not in "iub" and isinstance(last := spec.shape[-1], str)
    }


def open_symbols(specs: Sequence[InputSpec]) -> list[str]:
    """Symbols whose sizes can be chosen, in order of appearance; ``past + sequence`` is computed from two of them."""
    found: dict[str, None] = {}
    for dim in (dim for spec in specs for dim in spec.shape if isinstance(dim, str)):
        formula = _formula(dim)
        names = [dim] if formula is None else [n.id for n in ast.walk(formula) if isinstance(n, ast.Name)]
        found.update(dict.fromkeys(names))
    return list(found)


def _related(specs: Sequence[InputSpec], sizes: dict[str, Pair]) -> Iterator[dict[str, Pair]]:
    """Sizes where one open length is the sum of two others, or one more than another.

    A network with a cache of past keys and values takes a mask as long as the past and the new tokens together; where
    one token at a time is added, that length is fixed. Which symbol is the sum is not written in the file. Lengths of
    integer inputs (masks) are the likeliest; the first axis is the batch.
    """
    lengths = {
        dim: spec.dtype.kind not in "iub" for spec in reversed(specs) for dim in spec.shape[1:] if dim in sizes
    }  # fmt: skip
    totals = sorted(
        (str(symbol) for symbol in lengths), key=lambda symbol: (lengths[symbol], -list(sizes).index(symbol))
    )
    trials = 0
    for total in totals:
        parts = [str(symbol) for symbol in lengths if symbol != total]
        sums = [(a, b) for index, a in enumerate(parts) for b in parts[index + 1 :]]
        for a, b in sums:
            yield {**sizes, total: (sizes[a][0] + sizes[b][0], sizes[a][1] + sizes[b][1])}
        for a in parts:
            yield {**sizes, total: (sizes[a][0] + 1, sizes[a][1] + 1)}
        trials += len(sums) + len(parts)
        if trials >= MAX_TRIALS:
            return


def _pair(specs: Sequence[InputSpec], sizes: dict[str, Pair]) -> tuple[dict[str, int], dict[str, int]]:
    """Sizes per run, those of symbols that are formulas of others included."""
    runs = [{symbol: size[run] for symbol, size in sizes.items()} for run in (0, 1)]
    for dim in (dim for spec in specs for dim in spec.shape if isinstance(dim, str)):
        formula = _formula(dim)
        for run in runs if formula is not None and dim not in sizes else ():
            run[dim] = max(_evaluate(formula, run), 1)
    return runs[0], runs[1]


def _formula(symbol: str) -> ast.expr | None:
    """The arithmetic that a symbol such as ``past_length + 1`` spells out; None for a plain name."""
    if not re.search(r"[+*-]", symbol) or len(symbol) > _LONGEST_FORMULA:
        return None
    try:
        with warnings.catch_warnings():  # Python warns of what looks like its own code, such as "1if"
            warnings.simplefilter("ignore")
            tree = ast.parse(symbol, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last one: parentheses nest too deep
        return None
    allowed = (ast.BinOp, ast.Name, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Load)
    whole = all(isinstance(node.value, int) for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return tree if whole and all(isinstance(node, allowed) for node in ast.walk(tree)) else None


def _evaluate(formula: ast.expr | None, sizes: dict[str, int]) -> int:
    match formula:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return sizes[name]
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _evaluate(left, sizes), _evaluate(right, sizes)
            return a + b if isinstance(op, ast.Add) else a - b if isinstance(op, ast.Sub) else a * b
    raise AssertionError("a formula of another kind")


def feeds(specs: Sequence[InputSpec], sizes: dict[str, int], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs at ``sizes``: floats from Normal(0, 1), integers and booleans from {0, 1}, strings all the same.

    Integers stay in {0, 1} because every table and every mask admits them. A mask must leave something to attend to,
    so the first element along the last axis is 1; what is known to be a mask hides something and leaves something, of
    whatever type it is.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, np.ndarray[Any, Any]] = {}
    for spec in specs:
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape)
        if prod(shape) > _MOST_ELEMENTS:
            told = "x".join(map(str, shape))
            raise GraphError(
                f"input {spec.name!r} would have the shape {told[:100]}: too large to run; export it again"
            )
        if spec.dtype == np.object_:
            values[spec.name] = np.full(shape, TEXT, object)
        elif spec.mask is not None and spec.values > 1:
            values[spec.name] = drawn_mask(shape, spec.mask, rng).astype(spec.dtype)
        elif np.issubdtype(spec.dtype, np.integer) or spec.dtype == np.bool_:
            array = rng.integers(0, spec.values, shape)
            if array.ndim:
                array[..., 0] = spec.values - 1
            values[spec.name] = array.astype(spec.dtype)
        else:
            values[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
    return values
