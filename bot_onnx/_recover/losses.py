"""What the student is told: how far its outputs and hidden states are from the teacher's.

Every part is free of units, 1 for a student that knows no more than the mean, 0 for one that knows all:

* ``squares``: squared difference over the variance of the teacher's values, over all tokens that are no padding. Where
  the widths differ, a linear map from the student's channels to the teacher's comes first; it starts at the least
  squares solution, is trained along, and thrown away (Romero et al. 2015; Jiao et al. 2020, TinyBERT).
* ``similarity``: the same of the cosine similarities of all pairs of samples in the batch, after a mean over tokens or
  positions, so that distances between embeddings are kept whatever their width (Tung & Mori 2019).
* ``divergence``: KL divergence of the student's distribution from the teacher's, both at a temperature, times its
  square (Hinton et al. 2015). Where an output is the softmax of logits, its logarithm stands for them: a softmax of it
  is the same at every temperature.

Several processes have a share of a batch each. Means, variances and pairs are those of the whole batch, and what the
shares contribute adds up to its loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bot_onnx._recover.extras import torch
from bot_onnx._recover.ranks import WHOLE, Share
from bot_onnx._recover.types import Compared, Settings
from bot_onnx.errors import RecoverError

_RIDGE = 1e-3  # of the mean variance of the student's channels
_TINY = 1e-12
_LEAST_SPREAD = 1e-3  # of the teacher's cosine similarities, as a variance
_LEAST_CHANCE = 1e-30  # below it probabilities of float32 lose their digits

How = Literal["divergence", "squares", "projected", "similarity"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two values that are compared.

    Attributes:
        what: whether these are outputs or hidden states.
        student, teacher: names of the values.
        logits, chances: whether the last axis holds logits of classes, or their probabilities.
        words: whether these are logits over a vocabulary.
    """

    what: Literal["output", "hidden"]
    student: str
    teacher: str
    logits: bool = False
    words: bool = False
    chances: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    pair: Pair
    hows: tuple[How, ...]
    channel: int  # axis of the channels
    weight: float
    number: int  # of the pair, which names its maps


class Objective:
    """The loss of a batch, and the maps that it needs.

    Args:
        pairs: what is compared.
        settings: of the training.
        batches: of both sides' values by name and the mask of tokens that count (None: all), to look at the shapes and
            to solve for the maps.

    Raises:
        RecoverError: no pair can be compared, or not in the way that was asked for.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        settings: Settings,
        batches: Sequence[tuple[Mapping[str, Any], Mapping[str, Any], Any]],
    ) -> None:
        self._temperature = settings.temperature
        self.parameters: dict[str, Any] = {}
        self.notes: list[str] = []
        self._parts: list[_Part] = []
        student, teacher, _ = batches[0]
        counts = {what: sum(pair.what == what for pair in pairs) for what in ("output", "hidden")}
        for number, pair in enumerate(pairs):
            shapes = tuple(student[pair.student].shape), tuple(teacher[pair.teacher].shape)
            chosen = _choose(pair, *shapes, settings)
            if isinstance(chosen, str):
                self.notes.append(f"{pair.what} {pair.student!r} is not compared: {chosen}")
                continue
            hows, channel = chosen
            weight = (settings.hidden if pair.what == "hidden" else 1.0) / counts[pair.what]
            part = _Part(pair, hows, channel, weight, number)
            self._parts.append(part)
            if "projected" in hows:
                values = [(s[pair.student], t[pair.teacher], mask) for s, t, mask in batches]
                matrix, shift = _least_squares(values, channel)
                self.parameters[f"{number}.matrix"] = matrix
                self.parameters[f"{number}.shift"] = shift
        if not any(part.pair.what == "output" for part in self._parts):
            raise RecoverError(f"no output can be compared with the teacher's: {'; '.join(self.notes)}")

    @property
    def compared(self) -> tuple[Compared, ...]:
        """What is compared, and how, in words."""
        words = {
            "projected": "squares, through a linear map",
            "squares": "squares",
            "similarity": "similarity of samples",
            "divergence": "KL divergence",
        }
        return tuple(
            Compared(part.pair.what, part.pair.student, part.pair.teacher, " + ".join(words[how] for how in part.hows))
            for part in self._parts
        )

    def __call__(self, student: Mapping[str, Any], teacher: Mapping[str, Any], mask: Any, share: Share = WHOLE) -> Any:
        """The loss of a batch, or what a share of it contributes to that, a torch number.

        Args:
            student, teacher: values by name, torch tensors with the samples along axis 0.
            mask: ``[batch, tokens]``, 1.0 where a token counts, or None.
            share: of the batch that the values are of.
        """
        total: Any = 0.0
        for part in self._parts:
            ours, theirs = student[part.pair.student], teacher[part.pair.teacher]
            if part.pair.words and ours.shape[-1] != theirs.shape[-1]:  # tokens are never mixed
                kept = min(ours.shape[-1], theirs.shape[-1])
                ours, theirs = ours[..., :kept], theirs[..., :kept]
            weights = _weights(ours, mask)
            for how in part.hows:
                if how == "divergence":
                    value = _divergence(*_logits_of(part.pair, ours, theirs), weights, self._temperature, share)
                elif how == "similarity":
                    value = _similarity(ours, theirs, part.channel, weights, share)
                else:
                    a, b = ours.movedim(part.channel, -1), theirs.movedim(part.channel, -1)
                    if how == "projected":
                        a = a @ self.parameters[f"{part.number}.matrix"] + self.parameters[f"{part.number}.shift"]
                    value = _squares(a, b, weights, share)
                total = total + part.weight * value / len(part.hows)
        return total


def hidden_pairs(student: Mapping[str, tuple[str, ...]], teacher: Mapping[str, tuple[str, ...]]) -> list[Pair]:
    """Pairs of what stands before and after the student's layers with the teacher's at the same relative depth.

    Chains belong together by name, or because both have but one.

    Args:
        student, teacher: by chain, what enters the first layer and what leaves each.
    """
    pairs: list[Pair] = []
    single = next(iter(teacher.values())) if len(student) == len(teacher) == 1 else None
    for chain, ours in student.items():
        theirs = teacher.get(chain, single)
        for place, name in enumerate(ours) if theirs is not None else ():
            assert theirs is not None
            match = round(place * (len(theirs) - 1) / (len(ours) - 1))
            pairs.append(Pair("hidden", name, theirs[match]))
    return pairs


def _choose(
    pair: Pair, ours: tuple[int, ...], theirs: tuple[int, ...], settings: Settings
) -> tuple[tuple[How, ...], int] | str:
    """How a pair is compared and along which axis its channels lie, or why it is not."""
    if len(ours) != len(theirs) or len(ours) < 2:
        return f"shapes {list(ours)} and {list(theirs)}"
    differing = [axis for axis, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    if len(differing) > 1 or differing == [0]:
        return f"shapes {list(ours)} and {list(theirs)} differ in more than a width"
    channel = differing[0] if differing else len(ours) - 1
    squares: How = "projected" if differing else "squares"
    wanted = settings.output_loss if pair.what == "output" else "squares"
    comparable = not differing or pair.words
    if wanted == "divergence" or (wanted == "auto" and (pair.logits or pair.chances)):
        if not comparable:
            return f"{ours[channel]} and {theirs[channel]} classes have no divergence"
        return ("divergence",), len(ours) - 1
    if wanted == "similarity":
        return ("similarity",), channel
    if wanted == "auto" and differing:
        return ("projected", "similarity"), channel
    return (squares,), channel


def _weights(values: Any, mask: Any) -> Any:
    """The mask of tokens, if the values have tokens where it has them."""
    if mask is None or values.dim() < 3 or tuple(values.shape[:2]) != tuple(mask.shape):
        return None
    return mask


def _mean(values: Any, weights: Any, share: Share) -> Any:
    """Mean over everything of ``[batch, …]``, tokens weighted."""
    if weights is None:
        return values.mean() * share.part
    per_token = values.flatten(2).mean(-1) if values.dim() > 2 else values
    return (per_token * weights).sum() / share.sum(weights.sum()).clamp_min(1.0)


def _squares(ours: Any, theirs: Any, weights: Any, share: Share) -> Any:
    rows = theirs.reshape(-1, theirs.shape[-1])
    if weights is not None:
        rows = theirs[weights > 0].reshape(-1, theirs.shape[-1])
    middle = share.average(rows.mean(0), len(rows))
    variance = share.average((rows - middle).square().mean(), len(rows))
    return _mean((ours - theirs).square(), weights, share) / (variance + _TINY)


def _logits_of(pair: Pair, ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Values whose softmax are the distributions: of probabilities their logarithms."""
    if not pair.chances:
        return ours, theirs
    return ours.clamp_min(_LEAST_CHANCE).log(), theirs.clamp_min(_LEAST_CHANCE).log()


def _divergence(ours: Any, theirs: Any, weights: Any, temperature: float, share: Share) -> Any:
    library = torch()
    log_p = library.log_softmax(theirs / temperature, -1)
    log_q = library.log_softmax(ours / temperature, -1)
    rows = (log_p.exp() * (log_p - log_q)).sum(-1)
    return _mean(rows, weights, share) * temperature**2


def samples_as_rows(values: Any, channel: int, weights: Any) -> Any:
    """One vector per sample, ``[batch, channels]``: the mean over all other axes, padding left out."""
    rows = values.movedim(channel, -1)
    if rows.dim() == 2:
        return rows
    if weights is not None and channel != 1:
        tokens = rows.flatten(2, -2).mean(2) if rows.dim() > 3 else rows
        return (tokens * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp_min(1.0)
    return rows.flatten(1, -2).mean(1)


def _similarity(ours: Any, theirs: Any, channel: int, weights: Any, share: Share) -> Any:
    library = torch()
    normalise = library.nn.functional.normalize
    a, b = (normalise(share.rows(samples_as_rows(values, channel, weights)), dim=-1) for values in (ours, theirs))
    off = ~library.eye(len(a), dtype=library.bool, device=a.device)
    found, wanted = (a @ a.T)[off], (b @ b.T)[off]
    # Samples that the teacher sees as equally similar tell nothing, and must not drown what other outputs tell.
    return share.once((found - wanted).square().mean() / wanted.var(correction=0).clamp_min(_LEAST_SPREAD))


def _least_squares(values: Iterable[tuple[Any, Any, Any]], channel: int) -> tuple[Any, Any]:
    """Matrix ``[ours, theirs]`` and shift ``[theirs]`` that map student channels to the teacher's with least error."""
    library = torch()
    left, right = [], []
    for ours, theirs, mask in values:
        a, b = (side.detach().movedim(channel, -1) for side in (ours, theirs))
        weights = _weights(ours, mask) if channel != 1 else None
        left.append((a if weights is None else a[weights > 0]).reshape(-1, a.shape[-1]).double())
        right.append((b if weights is None else b[weights > 0]).reshape(-1, b.shape[-1]).double())
    a, b = library.cat(left), library.cat(right)
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = a - mean_a, b - mean_b
    gram = a.T @ a
    ridge = _RIDGE * gram.diagonal().mean() + _TINY
    matrix = library.linalg.solve(gram + ridge * library.eye(len(gram), dtype=gram.dtype), a.T @ b)
    shift = mean_b - mean_a @ matrix
    make = library.nn.Parameter
    return make(matrix.float().contiguous()), make(shift.float().contiguous())
