"""What is promised of a plan's outputs, and what would keep the function where the plan does not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from bot_onnx._analysis.passes import Analysis
from bot_onnx._proof.miniature import factor
from bot_onnx._proof.promise import Growth, Way
from bot_onnx._proof.prover import Proven
from bot_onnx._resample import get_method, make_options
from bot_onnx._stack.groups import hands_over
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Role
from bot_onnx._surgery.proven import Gain, Promise
from bot_onnx._target import Solution
from bot_onnx.errors import BotError

_DUPLICATION = "net2net"  #: the method that copies at any ratio


def keeping(analysis: Analysis, solution: Solution, proven: Proven, way: Way) -> tuple[Promise, dict[str, float]]:
    """Say whether the function stays.

    Args:
        analysis: of the source.
        solution: the sizes.
        proven: of the sizes, with its miniature.
        way: how the weights are resampled.

    Returns:
        The promise, and the factor per stack id that its weights take for it.
    """
    lost = _shrinks(analysis, solution)
    if lost:
        return Promise(False, why=lost), {}
    if solution.picks:
        return Promise(False, why=f"the spec names the layers of '{min(solution.picks)}'"), {}
    if proven.proof.left_out:
        lost = f"which channels of {', '.join(proven.proof.left_out)} belong together is not followed"
        return Promise(False, why=lost), {}
    if proven.miniature is None:
        return Promise(None, why="no miniature of the network runs"), {}
    growth = Growth(proven.miniature, solution, proven.proof.formulas)
    gains = tuple(gain for gain in proven.proof.gains if gain.stack)
    whole = len(gains) == len(proven.proof.gains)
    for taken in [(), gains] if gains and whole else [()]:
        promise = _promise(growth, way, taken)
        if promise.kept:
            return promise, _numbers(analysis, solution, taken)
    return _with_way_out(promise, growth, way), {}


def leaves_alone(way: Way) -> bool:
    """Whether a method gives a matrix whose sizes stay as it was."""
    matrix = np.random.default_rng(0).standard_normal((4, 6))
    axes = tuple(Axis("leaf", size, size) for size in matrix.shape)
    task = StackTask("", "a matrix", "matrix", axes, ("in", "out"))
    made = get_method(way.method).resample(task, [lambda: matrix], way.options, xp=np, seed=way.seed)
    return all(np.array_equal(array, matrix) for array in made)


def _shrinks(analysis: Analysis, solution: Solution) -> str:
    """Why a network that loses something is another function; empty where nothing shrinks."""
    handed = _handed_over(analysis, solution)
    smaller = [
        f"{dim.name} {dim.size} -> {solution.sizes[dim.id]}"
        for dim in analysis.structure.dims.values()
        if dim.kind == "leaf" and solution.sizes[dim.id] < dim.size and dim.id not in handed
    ]
    fewer = [
        f"{chain.name} {chain.count} -> {solution.layers[chain.name]} layers"
        for chain in analysis.structure.chains
        if solution.layers[chain.name] < chain.count
    ]
    first = [*smaller, *fewer][:1]
    return f"it shrinks ({first[0]})" if first else ""


def _handed_over(analysis: Analysis, solution: Solution) -> set[str]:
    """Ids of the groups of query heads that shrink because there are more key and value heads to share them."""
    dims, sizes = analysis.structure.dims, solution.sizes
    pairs = [pair for dim in dims.values() if dim.kind == "product" for pair in pairwise(dim.parts)]
    return {
        group
        for heads, group in pairs
        if (dims[heads].role, dims[group].role) == (Role.KV_HEADS, Role.GROUP)
        and hands_over((dims[heads].size, sizes[heads]), (dims[group].size, sizes[group]))
    }


def _promise(growth: Growth, way: Way, gains: tuple[Gain, ...]) -> Promise:
    try:
        found = growth.outputs(way, gains)
    except BotError as error:
        return Promise(None, why=str(error))
    except Exception as error:  # onnxruntime's errors have no public base class
        return Promise(None, why=f"the grown miniature does not run: {type(error).__name__}")
    factors: list[tuple[str, float]] = []
    for name, (relation, resized) in found.items():
        if relation.difference:
            return Promise(
                False, why=f"output {name} of a miniature is {relation.difference}{_of_rounding(growth, name)}"
            )
        if relation.mixed or (relation.odd and not resized):
            known = relation.factor is not None and not relation.mixed
            times = f"{relation.factor:.4g} times as large" if known else "a multiple of what it was"
            return Promise(False, why=f"output {name} of a miniature becomes {times}")
        factors += [(name, relation.factor)] if relation.odd and relation.factor else []
    if not found:
        return Promise(None, why="no output belongs to the network as a whole")
    return Promise(True, factors=tuple(factors), outputs=tuple(found))


def _of_rounding(growth: Growth, name: str) -> str:
    """Said of an output that differs from itself where weights do in their last place: no growth keeps it."""
    found = growth.rounded(name).difference
    return f"; rounding weights in their last place alone makes it {found}" if found else ""


def _with_way_out(promise: Promise, growth: Growth, way: Way) -> Promise:
    """The promise with what would keep the function: whole multiples, or copies."""
    ways: list[tuple[str, Growth, Way]] = []
    copying = Way(_DUPLICATION, make_options(_DUPLICATION, mapping="cyclic"), way.seed)
    if growth.uneven:
        ways.append((f"sizes that are whole multiples ({growth.multiples})", growth.at_multiples(), way))
    if way.method != _DUPLICATION:
        ways.append((f"method {_DUPLICATION}", growth, copying))
    for text, tried, how in ways:
        if _promise(tried, how, ()).kept:
            return replace(promise, way=text)
    return promise


def _numbers(analysis: Analysis, solution: Solution, gains: tuple[Gain, ...]) -> dict[str, float]:
    dims = analysis.structure.dims
    ratios = {ident: solution.sizes[ident] / dim.size for ident, dim in dims.items()}
    return {gain.stack: factor(gain, ratios) for gain in gains}
