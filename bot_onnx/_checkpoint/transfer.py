"""Move values along an assignment: from initializers to the state dict and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bot_onnx._checkpoint.types import Array, Assignment, Candidate, Read, Shape
from bot_onnx.errors import CheckpointError

_WAY_OUT = "name their keys with --names, or give --like a checkpoint that holds them apart"


def gather(assignment: Assignment, read: Read) -> Iterator[tuple[str, Array]]:
    """Yield the state dict, key by key.

    Args:
        assignment: where every weight belongs.
        read: values of an initializer.

    Raises:
        CheckpointError: two initializers candidate to be the same entry and hold different values.
    """
    for key, candidates in assignment.candidates.items():
        parts = sorted((c for c in candidates if c.part is not None), key=lambda c: c.part.position if c.part else 0)
        if parts and parts[0].part is not None:
            yield key, np.concatenate([_outward(candidate, read) for candidate in parts], axis=parts[0].part.axis)
            continue
        values = _outward(candidates[0], read)
        for candidate in candidates[1:]:
            if not _same(values, _outward(candidate, read)):
                raise CheckpointError(
                    f"tensors {candidates[0].tensor!r} and {candidate.tensor!r} both seem to be {key!r}, but hold "
                    f"different values; {_WAY_OUT}"
                )
        yield key, values
    for fold in assignment.folds:
        yield from fold.outward(read).items()


def scatter(assignment: Assignment, read: Read, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Array]]:
    """Yield new values of every initializer that the assignment covers.

    Args:
        assignment: where every weight belongs.
        read: values of a key of the checkpoint.
        shapes: of the initializers.

    Raises:
        CheckpointError: a key has another shape than the graph needs, keys that share one initializer differ, or a
            part of an initializer is left without values.
    """
    sizes: dict[str, dict[int, int]] = {}  # key -> position -> length along the axis of its parts
    by_tensor: dict[str, list[Candidate]] = {}
    for key, candidates in assignment.candidates.items():
        for candidate in candidates:
            by_tensor.setdefault(candidate.tensor, []).append(candidate)
            if candidate.part is not None:
                length = candidate.shape(shapes[candidate.tensor])[candidate.part.axis]
                sizes.setdefault(key, {})[candidate.part.position] = length
    for tensor, held in by_tensor.items():
        pieces = [(candidate, _inward(candidate, read(candidate.key), shapes[tensor], sizes)) for candidate in held]
        yield tensor, _filled(tensor, shapes[tensor], pieces)
    for fold in assignment.folds:
        yield from fold.inward(read, shapes).items()


def _outward(candidate: Candidate, read: Read) -> Array:
    return candidate.outward(read(candidate.tensor))


def _inward(candidate: Candidate, values: Array, tensor: Shape, sizes: Mapping[str, Mapping[int, int]]) -> Array:
    """The part of a key's values that goes to one initializer, with its axes as there."""
    wanted = candidate.shape(tensor)
    if candidate.part is not None:
        axis, lengths = candidate.part.axis, sizes[candidate.key]
        if values.ndim != len(wanted) or values.shape[axis] != sum(lengths.values()):
            raise _misfit(candidate, values, wanted)
        start = sum(length for position, length in lengths.items() if position < candidate.part.position)
        values = values[(slice(None),) * axis + (slice(start, start + wanted[axis]),)]
    if values.shape != wanted:
        raise _misfit(candidate, values, wanted)
    return candidate.inward(values, tensor)


def _misfit(candidate: Candidate, values: Array, wanted: Shape) -> CheckpointError:
    return CheckpointError(
        f"{candidate.key!r} has the shape {list(values.shape)}, but tensor {candidate.tensor!r} needs {list(wanted)}: "
        "the checkpoint belongs to a network of other sizes; resize the graph to its sizes first"
    )


def _filled(tensor: str, shape: Shape, pieces: list[tuple[Candidate, Array]]) -> Array:
    whole = [(candidate, values) for candidate, values in pieces if candidate.window is None]
    for candidate, values in whole[1:]:
        if not _same(whole[0][1], values):
            raise CheckpointError(
                f"the graph holds {whole[0][0].key!r} and {candidate.key!r} in one tensor ({tensor!r}), but in the "
                "checkpoint they differ: train them tied, or export the framework's model anew"
            )
    if whole:
        return whole[0][1]
    result = np.empty(shape, pieces[0][1].dtype)
    axis = pieces[0][0].window.axis if pieces[0][0].window is not None else 0
    filled = np.zeros(shape[axis], bool)
    for candidate, values in pieces:
        assert candidate.window is not None
        window = slice(candidate.window.start, candidate.window.stop)
        result[(slice(None),) * axis + (window,)] = values
        filled[window] = True
        for start, stop in candidate.window.zeros:
            result[(slice(None),) * axis + (slice(start, stop),)] = 0
            filled[start:stop] = True
    if not filled.all():
        raise CheckpointError(
            f"no key fills tensor {tensor!r} from index {int(np.argmin(filled))} of axis {axis} on; name the missing "
            "ones with --names"
        )
    return result


def _same(first: Array, second: Array) -> bool:
    return first.shape == second.shape and np.array_equal(first, second)
