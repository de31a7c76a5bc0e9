"""How norms and readers follow a turn of the stream.

With R (what is written becomes R x), R_in (a reader W becomes W R_inᵀ), s = √(ρ h_s / h_t) and a norm
y = γ∘x̂ + β, whose turned self is y' = γ'∘x̂' + β':

    readers      W' = s · W diag(γ) R_inᵀ diag(1/γ'),   b' = b + W β - W' β'
    folded       γ' = s,   β' = 0, or R (β/γ) where a reader has no bias of its own to take β in
    untrained    γ' = 1, of norms whose γ is 1: a module may have no weight that could hold s
    followed     γ' = s · (R∘R_in) γ,   β' = R β

Folded norms are exact. Where a norm's result is the stream itself, or a tied head reads it, one number per channel
must do for R diag(γ) R_inᵀ: exact where γ is one number, and near where channels of like γ are mixed. Channels whose γ
stands out are therefore pinned: R leaves them alone (:func:`outliers`). Before a tied head the error of a channel is
(γ - m)² E[x̂²] with m the median: few channels hold most of a trained decoder's stream, and a γ that is a little off
there, or of the other sign, is in every logit.
"""

from __future__ import annotations

import numpy as np

from bot_onnx._align.basis import Basis, Floats, Indices
from bot_onnx._align.folding import Folding, Norm
from bot_onnx._align.places import Namespace, to_numpy
from bot_onnx._align.types import AnyArray, Tensors

#: A channel is pinned where log(γ / median γ) is further from 0 than this in any of the norms on the stream.
OUTLIER = 0.5
_MOST = 4  #: at most one in so many of the target's channels is pinned
_LEAST = 1e-3  #: a scale below this share of the median is taken for it where something is divided by it


def outliers(folding: Folding, tensors: Tensors, target: int, moments: Floats, xp: Namespace = np) -> Indices:
    """Channels to pin, in order.

    Those whose scale in the norms on the stream stands out most, then those that a tied head would see most wrong, as
    many as leave the least of what the head reads lost: the channels that are not pinned are a little off, and with
    every one that is, the turn keeps less.

    Args:
        folding: says which norms these are. tensors: the source's. target: channels afterwards.
        moments: second moments of the stream, ``[hidden, hidden]``; the diagonal is its energy by channel.
        xp: namespace in which eigenvalues are found.
    """
    most = target // _MOST
    found = _standing_out(folding, tensors)[:most]
    error = _error_of_head(folding, tensors, moments)
    error[found] = 0.0
    worst: Indices = np.argsort(-error, kind="stable")[: most - len(found)]
    best, count, pins = np.inf, 0, found
    while count <= len(worst) and 0 < error.sum() < np.inf:  # weights that are not finite are refused by the basis
        chosen = np.concatenate([found, worst[:count]])
        lost = _lost(moments, target, chosen, xp)
        if lost >= best:
            break
        off = float(error.sum() - error[worst[:count]].sum())
        if lost + off < best:
            best, pins = lost + off, chosen
        count = count * 2 or 1
    return np.sort(pins)


def _standing_out(folding: Folding, tensors: Tensors) -> Indices:
    if not folding.standing:
        return np.zeros(0, dtype=np.intp)
    logs = []
    tiny = 1e-300
    for norm in folding.standing:
        sizes = np.maximum(np.abs(_vector(tensors, norm.scale)), tiny)
        logs.append(np.log(sizes / max(float(np.median(sizes)), tiny)))
    deviation = np.abs(logs).max(axis=0)
    found: Indices = np.argsort(-deviation, kind="stable")
    found = found[deviation[found] > OUTLIER]
    return found


def _error_of_head(folding: Folding, tensors: Tensors, moments: Floats) -> Floats:
    """By channel, the share of what a tied head reads that is off where the channel is turned with others."""
    energy = np.diagonal(moments).clip(0)
    error = np.zeros(len(energy))
    for norm in folding.tied_to_stream:
        scale = _vector(tensors, norm.scale)
        whole = float((scale**2 * energy).sum())
        if whole > 0:
            error += (scale - np.median(scale)) ** 2 * energy / whole
    return error


def _lost(moments: Floats, target: int, pinned: Indices, xp: Namespace) -> float:
    """Share of the trace that a turn loses which leaves these channels alone."""
    rest = np.setdiff1d(np.arange(len(moments)), pinned)
    values = to_numpy(xp.linalg.eigvalsh(xp.asarray(moments[np.ix_(rest, rest)])))
    trace = float(np.trace(moments))
    return float(values[: len(moments) - target].clip(0).sum()) / trace if trace > 0 else 0.0


class Following:
    """The norms' parameters in the turned stream, and what their readers become."""

    def __init__(self, folding: Folding, basis: Basis, tensors: Tensors) -> None:
        self._folding, self._basis, self._tensors = folding, basis, tensors
        self._scales = {norm.scale: self._scale(norm) for norm in folding.norms.values()}
        self._biases = {norm.bias: self._bias(norm) for norm in folding.norms.values() if norm.bias is not None}
        #: Scale of a norm -> β - γ∘R_inᵀ(s β'/γ'): what is left of its bias for the readers' own.
        self.left = {
            norm.scale: _vector(tensors, norm.bias)
            - _vector(tensors, norm.scale) * (self.reading(norm).T @ self._biases[norm.bias])
            for norm in folding.norms.values()
            if norm.bias is not None
        }

    def parameter(self, name: str) -> AnyArray | None:
        """Scale or bias of a norm, ``[target]``, a layer scale (1); None for every other tensor."""
        if name in self._folding.layer_scales:
            return np.ones(len(self._basis.write))
        found = self._scales.get(name)
        return self._biases.get(name) if found is None else found

    def unturned(self, name: str) -> AnyArray | None:
        """The same before the turn, ``[source]``: 1 and 0 where a norm is folded into its readers."""
        size = self._basis.write.shape[1]
        if name in self._folding.layer_scales:
            return np.ones(size)
        norm = self._folding.norms.get(name)
        if norm is not None:
            return _vector(self._tensors, name) if norm.follows else np.ones(size)
        norm = self._folding.biases.get(name)
        if norm is None:
            return None
        if norm.follows or not norm.homeless:
            return _vector(self._tensors, name) if norm.follows else np.zeros(size)
        return _vector(self._tensors, name) / _bounded(_vector(self._tensors, norm.scale))

    def reading(self, norm: Norm | None) -> Floats:
        """diag(s/γ') R_in ``[target, source]``: what turns a reader of a norm, or (None) of the stream itself."""
        if norm is None:
            return self._basis.read
        return self._basis.scale / _bounded(self._scales[norm.scale])[:, None] * self._basis.read

    def _scale(self, norm: Norm) -> Floats:
        basis = self._basis
        if self._is_fixed(norm):
            return np.ones(len(basis.write))
        if not norm.follows:
            return np.full(len(basis.write), basis.scale)
        weights = basis.write * basis.read
        gamma = _vector(self._tensors, norm.scale)
        followed: Floats = basis.scale * (weights @ gamma) / weights.sum(axis=1)
        return followed

    def _is_fixed(self, norm: Norm) -> bool:
        """Whether a norm has ones that no training made, and that it keeps: its readers take s in, where they can."""
        computed = self._folding.places[norm.scale][0].closed_form is not None
        return computed or (not norm.follows and bool(np.all(_vector(self._tensors, norm.scale) == 1)))

    def _bias(self, norm: Norm) -> Floats:
        basis = self._basis
        beta = _vector(self._tensors, norm.bias or "")
        if not norm.follows:
            if not norm.homeless:
                return np.zeros(len(basis.write))
            beta = beta / _bounded(_vector(self._tensors, norm.scale))
        turned: Floats = basis.write @ beta
        return turned


def keeps_mean(folding: Folding, tensors: Tensors) -> bool:
    """Whether anything but centring norms sees the mean over the channels: the stream's, or that of a norm's result."""
    if folding.shown or folding.raw or folding.standing:
        return True
    scales = {norm.scale for norm in (*folding.tied, *(norm for norm in folding.norms.values() if norm.homeless))}
    biases = [bias for scale in scales if (bias := folding.norms[scale].bias) is not None]
    return any(np.any(_vector(tensors, bias)) for bias in biases)


def _vector(tensors: Tensors, name: str) -> Floats:
    vector: Floats = tensors[name].numpy().astype(np.float64).ravel()
    return vector


def _bounded(scales: Floats) -> Floats:
    """Scales that can be divided by: none nearer to 0 than a small share of their median."""
    least = _LEAST * max(float(np.median(np.abs(scales))), 1e-30)
    return np.where(np.abs(scales) < least, np.where(scales < 0, -least, least), scales)
