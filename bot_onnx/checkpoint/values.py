"""Match tensors by the numbers that they hold: whole, transposed, joined or split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from bot_onnx.checkpoint.types import Array, Claim, Draft, Part, Read, Shape, Window

Fingerprint = tuple[Shape, bytes]
_Candidate = tuple[str, tuple[int, ...] | None, Array]  # name, order of axes, values in that order


def claim_by_value(draft: Draft, read: Read, absent: Mapping[str, Array]) -> None:
    """Settle lost tensors whose values are those of keys that have no tensor yet.

    Args:
        draft: changed in place.
        read: values of an initializer.
        absent: the keys that are still without a tensor, with their values.
    """
    lost = {name: read(name) for name in draft.lost}
    _claim_whole(draft, lost, absent)
    taken = {claim.key for claims in draft.claims.values() for claim in claims}
    free = {key: values for key, values in absent.items() if key not in taken and not constant(values)}
    for name in [name for name in draft.lost if not constant(lost[name])]:
        claims = _joined(name, lost[name], free)
        if claims:
            draft.settle(name, claims)
            for claim in claims:
                del free[claim.key]
    for key in list(free):
        rest = {name: lost[name] for name in draft.lost if not constant(lost[name])}
        for claim in _split(key, free[key], rest):
            draft.settle(claim.tensor, (claim,))


def constant(values: Array) -> bool:
    """Whether all values are equal: such a tensor says nothing of what it is."""
    return values.size < 2 or bool(np.all(values == values.reshape(-1)[0]))


def fingerprint(values: Array) -> Fingerprint:
    """What two arrays share if and only if they are equal."""
    return values.shape, hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).digest()


def _claim_whole(draft: Draft, lost: Mapping[str, Array], absent: Mapping[str, Array]) -> None:
    prints: dict[Fingerprint, list[tuple[str, tuple[int, ...] | None]]] = {}
    for key, values in absent.items():
        prints.setdefault(fingerprint(values), []).append((key, None))
        if values.ndim == 2 and not np.array_equal(values, values.T):
            prints.setdefault(fingerprint(values.T), []).append((key, (1, 0)))
    for name, values in lost.items():
        found = prints.get(fingerprint(values), [])
        alike = [other for other in lost if other != name and np.array_equal(lost[other], values)]
        if len(found) > 1 and (constant(values) or alike):
            draft.lose(name, f"{', '.join(repr(key) for key, _ in found[:4])} all hold its values")
        elif found:
            draft.settle(name, tuple(Claim(key, name, "value", perm) for key, perm in found))


def _joined(name: str, values: Array, keys: Mapping[str, Array]) -> tuple[Claim, ...]:
    """Claims of several keys to one initializer, which holds them one after the other along an axis."""
    for axis in range(values.ndim):
        row = _cover(values, keys, axis)
        if row is not None:
            claims, start = [], 0
            for key, perm, piece in row:
                stop = start + piece.shape[axis]
                claims.append(Claim(key, name, "value", perm, Window(axis, start, stop, values.shape[axis])))
                start = stop
            return tuple(claims)
    return ()


def _split(key: str, values: Array, tensors: Mapping[str, Array]) -> tuple[Claim, ...]:
    """Claims of several initializers, which one after the other along an axis make one key."""
    for axis in range(values.ndim):
        row = _cover(values, tensors, axis)
        if row is not None:
            return tuple(
                Claim(key, name, "value", perm, part=Part(axis, place)) for place, (name, perm, _) in enumerate(row)
            )
    return ()


def _cover(whole: Array, candidates: Mapping[str, Array], axis: int) -> list[_Candidate] | None:
    """The row of at least two candidates that makes ``whole`` along ``axis``; None if there is none or several."""
    row: list[_Candidate] = []
    start = 0
    while start < whole.shape[axis]:
        fitting: list[_Candidate] = []
        for name, values in candidates.items():
            for perm in (None, (1, 0)) if values.ndim == 2 else (None,):
                turned = values if perm is None else values.transpose(perm)
                if _stands_at(whole, turned, axis, start):
                    fitting.append((name, perm, turned))
        if len(fitting) != 1:
            return None
        row += fitting
        start += fitting[0][2].shape[axis]
    return row if len(row) > 1 else None


def _stands_at(whole: Array, piece: Array, axis: int, start: int) -> bool:
    if piece.ndim != whole.ndim or piece.dtype != whole.dtype:
        return False
    if any(a != b for place, (a, b) in enumerate(zip(whole.shape, piece.shape, strict=True)) if place != axis):
        return False
    if not 0 < piece.shape[axis] <= whole.shape[axis] - start:
        return False
    window = (slice(None),) * axis + (slice(start, start + piece.shape[axis]),)
    return np.array_equal(whole[window], piece)
