"""Norms folded into their readers, layer scales into their writers: the same network with fewer numbers per channel.

A reader of n = γ∘(x - μ)/σ + β computes W n + b = (W·diag γ) (x - μ)/σ + (b + W β). A head tied to the embedding cannot
take γ and β, since its weight writes into the stream as well, and what a norm puts on the stream is read by all that
follows: there the norm keeps them. A branch λ∘(W x + b) writes (diag λ·W) x + λ∘b.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bot_onnx._align.stream import Stream
from bot_onnx._align.types import AnyArray, Tensors
from bot_onnx._structure import Stack, Structure
from bot_onnx.errors import ResampleError


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm's parameters, and what they mean for a turn; one for all norms that share a scale.

    Attributes:
        scale, bias, centred: as in :class:`bot_onnx._align.stream.StreamNorm`.
        follows: its result is the stream, or is read by a tied head: scale and bias stay, turned as far as they can be.
        homeless: readers whose bias cannot take the norm's in: none, or one that others add, too.
    """

    scale: str
    bias: str | None
    centred: bool
    follows: bool
    homeless: bool


class Folding:
    """Tensors of a network with its norms folded in.

    Attributes:
        norms: by the name of their scale. biases: the same by the name of their bias.
        norm_of: the norm that a weight reads, for every reader of one but tied heads.
        raw: weights that read the stream as it is, but tied heads.
        layer_scales: names of the vectors that scale what is written; folded into the writers, 1 afterwards.
        shown: names of the graph outputs that carry the stream.
        places: stack and layer of every tensor.
    """

    def __init__(self, structure: Structure, stream: Stream, biases: Mapping[str, str] | None = None) -> None:
        """Look at what reads the stream.

        Args:
            structure: of the source. stream: of its graph.
            biases: of weights that are not known to read the stream, by the name of the weight; to look at alone.
        """
        self.hidden = stream.hidden
        self._other_biases = biases or {}
        self.places: dict[str, tuple[Stack, int]] = {
            name: (stack, layer) for stack in structure.stacks for layer, name in enumerate(stack.tensors)
        }
        self._twins = {name for stack in structure.stacks if stack.twin_of is not None for name in stack.tensors}
        self._scales_of = {name: scales for name, scales in stream.writers.items() if scales}
        self.layer_scales = frozenset(scale for scales in self._scales_of.values() for scale in scales)
        self._stream = stream
        self.shown = stream.outputs
        self._reader_bias = self._own_biases()
        self.norms = self._merged()
        self.biases = {norm.bias: norm for norm in self.norms.values() if norm.bias is not None}
        self.norm_of = self._readers()
        self.raw = frozenset(reader.weight for reader in stream.readers if not self._is_tied(reader.weight))
        both = self.raw.intersection(self.norm_of)
        if both:
            raise refusal(f"'{min(both)}' reads the stream with a norm before it, and without")

    def _is_tied(self, weight: str) -> bool:
        """Whether a reader is a tied head: its weight writes into the stream as well."""
        return weight in self._twins or (weight in self._stream.writers and self.places[weight][0].kind == "embedding")

    def _own_biases(self) -> dict[str, str]:
        """Bias -> the one reader after which it is added."""
        found: dict[str, set[str]] = {}
        for reader in (*(r for norm in self._stream.norms for r in norm.readers), *self._stream.readers):
            if reader.bias is not None:
                found.setdefault(reader.bias, set()).add(reader.weight)
        return {bias: min(weights) for bias, weights in found.items() if len(weights) == 1}

    def _merged(self) -> dict[str, Norm]:
        with_bias = set(self._reader_bias.values())
        found: dict[str, Norm] = {}
        for norm in self._stream.norms:
            tied = [reader.weight for reader in norm.readers if self._is_tied(reader.weight)]
            homeless = norm.bias is not None and any(
                reader.weight not in with_bias for reader in norm.readers if reader.weight not in tied
            )
            known = found.setdefault(norm.scale, Norm(norm.scale, norm.bias, norm.centred, False, False))
            if (known.bias, known.centred) != (norm.bias, norm.centred):
                raise refusal(f"norms of two kinds share the scale '{norm.scale}'")
            found[norm.scale] = replace(
                known, follows=known.follows or norm.stands or bool(tied), homeless=known.homeless or homeless
            )
        return found

    def _readers(self) -> dict[str, Norm]:
        found: dict[str, Norm] = {}
        for norm in self._stream.norms:
            for reader in norm.readers:
                if self._is_tied(reader.weight):
                    continue
                if found.setdefault(reader.weight, self.norms[norm.scale]).scale != norm.scale:
                    raise refusal(f"'{reader.weight}' reads two norms, whose scales it cannot both take in")
        return found

    @property
    def tied(self) -> tuple[Norm, ...]:
        """Norms that are read by a tied head."""
        scales = {n.scale for n in self._stream.norms if any(self._is_tied(r.weight) for r in n.readers)}
        return tuple(self.norms[scale] for scale in sorted(scales))

    @property
    def tied_to_stream(self) -> tuple[Norm, ...]:
        """Those of them that are on the stream itself, and are not its result: no map of a head lies between."""
        return () if self._stream.activated else tuple(norm for norm in self.tied if norm not in self.standing)

    @property
    def standing(self) -> tuple[Norm, ...]:
        """Norms whose result is the stream."""
        scales = {norm.scale for norm in self._stream.norms if norm.stands}
        return tuple(self.norms[scale] for scale in sorted(scales))

    @property
    def folded_biases(self) -> frozenset[str]:
        """Biases that take a norm's bias in."""
        return frozenset(self._reader_bias)

    def read(self, name: str, tensors: Tensors, left: Mapping[str, AnyArray] | None = None) -> AnyArray:
        """A tensor with its norm and what scales it folded in: float64 where the source is, else float32.

        Scales and biases of norms come as they are.

        Args:
            name: of the tensor.
            tensors: the source's.
            left: scale of a norm -> what is left of its bias for the readers' biases, ``[hidden]``; all of it without.
        """
        array = working(tensors[name].numpy())
        if name in self.norm_of:
            scale = working(tensors[self.norm_of[name].scale].numpy()).ravel()
            array = array * _along(scale, array.ndim, self.reading_axis(name))
        weight = self._reader_bias.get(name)
        norm = self.norm_of.get(weight) if weight is not None else None
        if weight is not None and norm is not None and norm.bias is not None:
            beta = working(tensors[norm.bias].numpy()).ravel() if left is None else left[norm.scale]
            gained = np.tensordot(working(tensors[weight].numpy()), beta, (self.reading_axis(weight), 0))
            array = array + gained.reshape(array.shape).astype(array.dtype)
        for layer_scale in self._scales_of.get(name, ()):
            factor = working(tensors[layer_scale].numpy()).ravel()
            array = array * _along(factor, array.ndim, self.writing_axis(name))
        return array

    def bias_of(self, weight: str) -> str | None:
        """Name of the bias added after a weight."""
        own = (bias for bias, reader in self._reader_bias.items() if reader == weight)
        return next(own, self._other_biases.get(weight))

    def reads(self, name: str) -> bool:
        """Whether a tensor reads the stream, and is not a tied head."""
        return name in self.norm_of or name in self.raw

    def reading_axis(self, weight: str) -> int:
        """Axis of a reader that is contracted with the stream."""
        return self._axis(weight, "in")

    def writing_axis(self, weight: str) -> int:
        """Axis of a writer along which it writes."""
        return self._axis(weight, "out")

    def _axis(self, weight: str, direction: str) -> int:
        stack, _ = self.places[weight]
        axes = [axis for axis, dim in enumerate(stack.axes) if dim == self.hidden]
        fitting = [axis for axis in axes if stack.directions[axis] == direction]
        return (fitting or axes)[0]


def working(array: AnyArray) -> AnyArray:
    """The array in float64 where it is that already, else in float32."""
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)


def refusal(reason: str) -> ResampleError:
    """The error of a network that cannot be rotated, with the way out."""
    return ResampleError(f"cannot rotate: {reason}; use alignment 'permute'")


def _along(vector: AnyArray, rank: int, axis: int) -> AnyArray:
    return vector.reshape([-1 if index == axis else 1 for index in range(rank)])
