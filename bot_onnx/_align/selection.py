"""Keep the heads and neurons that matter most by their norms; the others go.

A head is worth ‖W_o,h W_v,h‖, what it can write for what it can read; a neuron j is worth ‖W2_j‖·√(‖W1_j‖² + b1_j²),
the product over the maps that make it where there are several (a gate). Norms are those of the weights as they
are, under ``rotate`` of the folded ones (:mod:`bot_onnx._align.folding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.axes import Indices, LeafOrder, indices, leaves_of, positions, ranges
from bot_onnx._align.folding import Folding
from bot_onnx._align.mobility import Mobility
from bot_onnx._align.types import AnyArray, Tensors
from bot_onnx._align.units import HEAD_ROLES
from bot_onnx._structure import Role, Stack, Structure

Floats = NDArray[np.float64]
#: Roles of what is chosen from.
CHOSEN_ROLES = (Role.INTERMEDIATE, *HEAD_ROLES)


@dataclass(frozen=True, slots=True)
class HeadRows:
    """Where a weight holds the channels of heads, on an axis of theirs or on that of the heads.

    Attributes:
        stack: of the weight. axes: those that it makes, or that it contracts.
        places: ``[heads, channels]``, along these axes taken together, the last fastest.
    """

    stack: Stack
    axes: tuple[int, ...]
    places: Indices

    def of(self, array: AnyArray) -> AnyArray:
        """The weight as ``[heads, channels, everything else]``."""
        front = np.moveaxis(array, self.axes, range(len(self.axes)))
        return front.reshape(prod(front.shape[: len(self.axes)]), -1)[self.places]


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """Heads of a chain to choose from: leaves in order (heads, or kv_heads and group), and where their worth is read.

    Attributes:
        values: W_v, by the first of the leaves. outputs: W_o, by all of them.
    """

    chain: str
    leaves: tuple[str, ...]
    values: HeadRows
    outputs: HeadRows


@dataclass(frozen=True, slots=True)
class NeuronChoice:
    """Neurons of a chain to choose from: the stacks (and axes) that make them and those that read them."""

    chain: str
    leaf: str
    makers: tuple[tuple[Stack, int], ...]
    readers: tuple[tuple[Stack, int], ...]


Choice = HeadChoice | NeuronChoice


def find_choices(structure: Structure, mobile: Mobility) -> tuple[list[Choice], list[str]]:
    """What a resize lets choose from, and notes on what is left to the resampling method."""
    choices: list[Choice] = []
    notes: list[str] = []
    done: set[str] = set()
    for dim in structure.dims.values():
        if dim.id in done or dim.parts or dim.role not in CHOSEN_ROLES or not mobile.shrinks(dim.id):
            continue
        choice = _neurons(mobile, dim.id) if dim.role == Role.INTERMEDIATE else _heads(structure, mobile, dim.id)
        if choice is None:
            notes.append(f"{dim.name} is resampled, not chosen from: the maps around it are not understood")
            continue
        choices.append(choice)
        done.update(choice.leaves if isinstance(choice, HeadChoice) else (choice.leaf,))
    return choices, notes


def chosen_leaves(choices: list[Choice], mobile: Mobility) -> set[str]:
    """Leaves that the choices bring to their target size."""
    leaves = {leaf for c in choices for leaf in (c.leaves if isinstance(c, HeadChoice) else (c.leaf,))}
    return {leaf for leaf in leaves if mobile.shrinks(leaf)}


def _is_free(mobile: Mobility, leaf: str) -> bool:
    return leaf in mobile.carriers and mobile.bound(leaf) is None and mobile.home(leaf) is not None


def _maps(mobile: Mobility, leaf: str, direction: str) -> list[tuple[Stack, int]]:
    return [
        (stack, axis)
        for stack in mobile.carriers[leaf]
        for axis, dim in enumerate(stack.axes)
        if dim is not None and leaf in leaves_of(mobile.structure, dim)
        and stack.kind == "matrix" and stack.directions[axis] == direction
    ]  # fmt: skip


def _neurons(mobile: Mobility, leaf: str) -> NeuronChoice | None:
    if not _is_free(mobile, leaf):
        return None
    makers, readers = _maps(mobile, leaf, "out"), _maps(mobile, leaf, "in")
    home = mobile.home(leaf)
    if home is None or not makers or not readers:
        return None
    return NeuronChoice(home, leaf, tuple(makers), tuple(readers))


def _heads(structure: Structure, mobile: Mobility, leaf: str) -> HeadChoice | None:
    if not _is_free(mobile, leaf):
        return None
    outputs = _maps(mobile, leaf, "in")
    home = mobile.home(leaf)
    if len(outputs) != 1 or home is None:
        return None
    stack, axis = outputs[0]
    dim = stack.axes[axis]
    leaves = tuple(part for part in leaves_of(structure, dim or "") if structure.dims[part].role in HEAD_ROLES)
    if len(leaves) > 2 or not all(_is_free(mobile, other) and mobile.home(other) == home for other in leaves):
        return None
    read = _head_rows(structure, stack, "in", leaves)
    made = _value_rows(structure, mobile, leaves)
    if len(read) != 1 or len(made) != 1 or read[0].places.shape[1] != made[0].places.shape[1]:
        return None
    return HeadChoice(home, leaves, made[0], read[0])


def _value_rows(structure: Structure, mobile: Mobility, leaves: tuple[str, ...]) -> list[HeadRows]:
    """Matrices (and the pieces of them) that make heads and are neither queries nor keys."""
    return [
        rows
        for stack, _ in _maps(mobile, leaves[0], "out")
        for index, rows in enumerate(_head_rows(structure, stack, "out", leaves[:1]))
        if index not in stack.score_parts
    ]


def _head_rows(structure: Structure, stack: Stack, direction: str, leaves: tuple[str, ...]) -> list[HeadRows]:
    """Where a weight holds heads, for every piece of what it makes (or reads) that holds something else."""
    axes = tuple(i for i, dim in enumerate(stack.axes) if dim is not None and stack.directions[i] == direction)
    dims = [stack.axes[axis] or "" for axis in axes]
    count = prod(structure.dims[leaf].size for leaf in leaves)
    index = indices(structure, dims, leaves)
    found: list[HeadRows] = []
    for part in ranges(structure, *dims):
        places = part.start + np.argsort(index[part], kind="stable")[np.count_nonzero(index[part] < 0) :]
        found.append(HeadRows(stack, axes, places.reshape(count, -1)))
    return found


def choose(
    structure: Structure, mobile: Mobility, choice: Choice, layer: int, folding: Folding, tensors: Tensors,
    sizes: Mapping[str, int],
) -> dict[str, LeafOrder]:  # fmt: skip
    """Indices to keep in one layer, in their old order."""
    if isinstance(choice, NeuronChoice):
        worth = _neuron_worth(structure, choice, layer, folding, tensors)
        return {choice.leaf: LeafOrder(_largest(worth, sizes[choice.leaf]))}
    worth = _head_worth(structure, choice, layer, folding, tensors)
    return by_worth(mobile, choice.leaves, worth.sum(axis=1), worth, sizes)


def by_worth(
    mobile: Mobility, leaves: tuple[str, ...], outer: Floats, inner: Floats, sizes: Mapping[str, int]
) -> dict[str, LeafOrder]:
    """Indices to keep, in their old order.

    Args:
        mobile: which leaves shrink.
        leaves: one leaf, or two: of heads of keys and values, each with its group, as many stay of every group. Where
            the group has an axis of its own somewhere, the same ones stay of all.
        outer: worth per index of the first leaf. inner: ``[n, m]``, worth per index of both.
        sizes: target size per leaf.
    """
    kept: dict[str, LeafOrder] = {}
    if mobile.shrinks(leaves[0]):
        kept[leaves[0]] = LeafOrder(_largest(outer, sizes[leaves[0]]))
    if len(leaves) == 2 and mobile.shrinks(leaves[1]):
        size = sizes[leaves[1]]
        if mobile.lies_within(leaves[1], leaves[0]):
            kept[leaves[1]] = LeafOrder(np.stack([_largest(row, size) for row in inner]), given=leaves[0])
        else:
            kept[leaves[1]] = LeafOrder(_largest(inner.sum(axis=0), size))
    return kept


def _largest(worth: Floats, count: int) -> Indices:
    """The ``count`` most valuable indices, in their old order; equals go to the lower index."""
    return np.sort(np.argsort(-worth, kind="stable")[:count])


def _neuron_worth(structure: Structure, choice: NeuronChoice, layer: int, folding: Folding, tensors: Tensors) -> Floats:
    worth: Floats = np.ones(structure.dims[choice.leaf].size)
    for stack, axis in choice.makers:
        name = stack.tensors[layer]
        squares = _row_squares(structure, stack, axis, choice.leaf, folding.read(name, tensors))
        bias = folding.bias_of(name)
        if bias is not None:
            place, _ = folding.places[bias]
            for bias_axis, dim in enumerate(place.axes):
                if dim is not None and choice.leaf in leaves_of(structure, dim):
                    values = folding.read(bias, tensors)
                    squares = squares + _row_squares(structure, place, bias_axis, choice.leaf, values)
        worth = worth * np.sqrt(squares)
    for stack, axis in choice.readers:
        name = stack.tensors[layer]
        squares = _row_squares(structure, stack, axis, choice.leaf, folding.read(name, tensors))
        worth = worth * np.sqrt(squares)
    return worth


def _row_squares(structure: Structure, stack: Stack, axis: int, leaf: str, array: AnyArray) -> Floats:
    """‖row‖² per index of a leaf."""
    total: Floats = np.zeros(structure.dims[leaf].size)
    every = list(range(array.ndim))
    squares = np.einsum(array, every, array, every, [axis], dtype=np.float64)  # before the indices: no copy of the rows
    for places in positions(structure, stack.axes[axis] or "", (leaf,)):
        total = total + squares[places].sum(axis=1)
    return total


def _head_worth(structure: Structure, choice: HeadChoice, layer: int, folding: Folding, tensors: Tensors) -> Floats:
    """‖W_o,h W_v,h‖² = Σ (W_o,hᵀW_o,h) ∘ (W_v,h W_v,hᵀ): ``[outer, inner]``, inner 1 without groups."""
    values, outputs = (
        rows.of(folding.read(rows.stack.tensors[layer], tensors)) for rows in (choice.values, choice.outputs)
    )
    read = values @ np.swapaxes(values, -1, -2)
    written = outputs @ np.swapaxes(outputs, -1, -2)
    inner = len(written) // len(read)
    worth = (np.repeat(read, inner, axis=0) * written).sum(axis=(-1, -2))
    return np.asarray(worth.reshape(len(read), inner), dtype=np.float64)
