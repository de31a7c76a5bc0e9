"""Match tensors by the numbers that they hold: whole, transposed, joined or split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bot_onnx._checkpoint.types import Array, Candidate, OpenAssignment, Part, Read, Shape, Window

Fingerprint = tuple[Shape, bytes]
_Form = tuple[str, tuple[int, ...] | None, float]  # key, order of axes, what was added
_Candidate = tuple[str, tuple[int, ...] | None, Array]  # name, order of axes, values in that order


def match_by_value(assignment: OpenAssignment, read: Read, absent: Mapping[str, Array]) -> None:
    """Confirm lost tensors whose values are those of keys that have no tensor yet.

    Args:
        assignment: changed in place.
        read: values of an initializer.
        absent: the keys that are still without a tensor, with their values.
    """
    lost = {name: read(name) for name in assignment.lost}
    _match_whole(assignment, lost, absent)
    taken = {candidate.key for candidates in assignment.candidates.values() for candidate in candidates}
    free = {key: values for key, values in absent.items() if key not in taken and not constant(values)}
    for name in [name for name in assignment.lost if not constant(lost[name])]:
        candidates = _joined(name, lost[name], free)
        if candidates:
            assignment.confirm(name, candidates)
            for candidate in candidates:
                del free[candidate.key]
    for key in list(free):
        rest = {name: lost[name] for name in assignment.lost if not constant(lost[name])}
        for candidate in _split(key, free[key], rest):
            assignment.confirm(candidate.tensor, (candidate,))


def views(tensor: Shape, shape: Shape) -> list[tuple[int, ...]]:
    """Orders of a tensor's axes that give a shape which differs from its own in axes of size 1 alone."""
    axes = [axis for axis, size in enumerate(tensor) if size > 1]
    places = [place for place, size in enumerate(shape) if size > 1]
    if len(axes) != len(places):
        return []
    rows = [axes, axes[::-1]] if len(axes) == 2 else [axes]
    return [tuple(row[places.index(place)] if place in places else -1 for place in range(len(shape))) for row in rows]


def orders(tensor: Shape, shape: Shape) -> list[tuple[int, ...] | None]:
    """Ways to see a tensor as one of another shape: as it is, transposed, or as a view with other axes of size 1."""
    if len(tensor) == len(shape):
        return [None, (1, 0)] if len(tensor) == 2 else [None]
    return list(views(tensor, shape))


def constant(values: Array) -> bool:
    """Whether all values are equal: such a tensor says nothing of what it is."""
    return values.size < 2 or bool(np.all(values == values.reshape(-1)[0]))


def fingerprint(values: Array) -> Fingerprint:
    """What two arrays share if and only if they are equal."""
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).digest()


def _match_whole(assignment: OpenAssignment, lost: Mapping[str, Array], absent: Mapping[str, Array]) -> None:
    prints: dict[Fingerprint, list[_Form]] = {}
    for key, values in absent.items():
        prints.setdefault(fingerprint(values), []).append((key, None, 0.0))
        if values.ndim == 2 and not np.array_equal(values, values.T):
            prints.setdefault(fingerprint(values.T), []).append((key, (1, 0), 0.0))
    for name, values in lost.items():
        found = prints.get(fingerprint(values), []) or _in_other_form(values, absent)
        alike = [other for other in lost if other != name and np.array_equal(lost[other], values)]
        if len(found) > 1 and (constant(values) or alike):
            assignment.lose(name, f"{', '.join(repr(key) for key, _, _ in found[:4])} all hold its values")
        elif found:
            assignment.confirm(
                name, tuple(Candidate(key, name, "value", perm, shift=shift) for key, perm, shift in found)
            )


def _in_other_form(values: Array, absent: Mapping[str, Array]) -> list[_Form]:
    """Keys whose values a tensor holds as a view with other axes of size 1, or with one added to each of them."""
    found: list[_Form] = []
    for key, theirs in absent.items():
        if theirs.size != values.size or theirs.dtype != values.dtype:
            continue
        if theirs.ndim == values.ndim:
            if np.array_equal(theirs + theirs.dtype.type(1), values):
                found.append((key, None, 1.0))
            continue
        for perm in views(values.shape, theirs.shape):
            if np.array_equal(Candidate(key, "", "value", perm).inward(theirs, values.shape), values):
                found.append((key, perm, 0.0))
                break
    return found


def _joined(name: str, values: Array, keys: Mapping[str, Array]) -> tuple[Candidate, ...]:
    """Claims of several keys to one initializer, which holds them one after the other along an axis."""
    for axis in range(values.ndim):
        row = _cover(values, keys, axis, gaps=True)
        if row is not None:
            candidates, start, zeros = [], 0, []
            for key, perm, piece in row:
                stop = start + piece.shape[axis]
                if key:
                    candidates.append(
                        Candidate(key, name, "value", perm, Window(axis, start, stop, values.shape[axis]))
                    )
                else:
                    zeros.append((start, stop))
                start = stop
            whole = candidates[0].window
            assert whole is not None
            return (replace(candidates[0], window=replace(whole, zeros=tuple(zeros))), *candidates[1:])
    return ()


def _split(key: str, values: Array, tensors: Mapping[str, Array]) -> tuple[Candidate, ...]:
    """Claims of several initializers, which one after the other along an axis make one key."""
    for axis in range(values.ndim):
        row = _cover(values, tensors, axis)
        if row is not None:
            return tuple(
                Candidate(key, name, "value", perm, part=Part(axis, place)) for place, (name, perm, _) in enumerate(row)
            )
    return ()


def _cover(whole: Array, candidates: Mapping[str, Array], axis: int, gaps: bool = False) -> list[_Candidate] | None:
    """The row of at least two candidates that makes ``whole`` along ``axis``; None if there is none or several.

    With ``gaps`` zeros may stand between them (a bias that a module does not have): a candidate without a name.
    """
    row: list[_Candidate] = []
    start = 0
    while start < whole.shape[axis]:
        fitting: list[_Candidate] = []
        for name, values in candidates.items():
            for perm in (None, (1, 0)) if values.ndim == 2 else (None,):
                turned = values if perm is None else values.transpose(perm)
                if _stands_at(whole, turned, axis, start):
                    fitting.append((name, perm, turned))
        if not fitting and gaps and (gap := _zeros_from(whole, axis, start)).shape[axis]:
            fitting.append(("", None, gap))
        if len(fitting) != 1:
            return None
        row += fitting
        start += fitting[0][2].shape[axis]
    return row if sum(bool(name) for name, _, _ in row) > 1 else None


def _zeros_from(whole: Array, axis: int, start: int) -> Array:
    """The range of zeros that begins at an index of an axis."""
    flat = np.moveaxis(whole, axis, 0).reshape(whole.shape[axis], -1)[start:]
    filled = flat.any(axis=1)
    stop = start + (int(np.argmax(filled)) if filled.any() else len(flat))
    return whole[(slice(None),) * axis + (slice(start, stop),)]


def _stands_at(whole: Array, piece: Array, axis: int, start: int) -> bool:
    if piece.ndim != whole.ndim or piece.dtype != whole.dtype:
        return False
    if any(a != b for place, (a, b) in enumerate(zip(whole.shape, piece.shape, strict=True)) if place != axis):
        return False
    if not 0 < piece.shape[axis] <= whole.shape[axis] - start:
        return False
    window = (slice(None),) * axis + (slice(start, start + piece.shape[axis]),)
    return np.array_equal(whole[window], piece)
