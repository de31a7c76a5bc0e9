"""Norms folded into their readers: the same network with every norm's scale 1 and bias 0.

A reader of n = γ∘(x - μ)/σ + β computes W n + b = (W·diag γ) (x - μ)/σ + (b + W β). A head tied to the embedding cannot
take γ and β, since its weight writes into the stream as well: the norm before it keeps them.
"""

from __future__ import annotations

import numpy as np

from bot_onnx.align.types import AnyArray, Tensors
from bot_onnx.errors import ResampleError
from bot_onnx.graph.stream import Stream, StreamNorm
from bot_onnx.graph.types import Stack, Structure


class Folding:
    """Tensors of a network with its norms folded in.

    Attributes:
        norm_of: the norm that a weight reads, for every reader but tied heads.
        tied: norms whose readers are tied heads.
        places: stack and layer of every tensor.
    """

    def __init__(self, structure: Structure, stream: Stream) -> None:
        self.hidden = stream.hidden
        self.places: dict[str, tuple[Stack, int]] = {
            name: (stack, layer) for stack in structure.stacks for layer, name in enumerate(stack.tensors)
        }
        self._twins = {name for stack in structure.stacks if stack.twin_of is not None for name in stack.tensors}
        self.norm_of: dict[str, StreamNorm] = {}
        self.tied: list[StreamNorm] = []
        self.scales = {norm.scale: norm for norm in stream.norms}
        self.biases = {norm.bias: norm for norm in stream.norms if norm.bias is not None}
        self._reader_bias: dict[str, list[str]] = {}
        self._check(stream)

    def _check(self, stream: Stream) -> None:
        for norm in stream.norms:
            tied = [r.weight for r in norm.readers if r.weight in self._twins or (r.weight in stream.writers
                    and self.places[r.weight][0].kind == "embedding")]  # fmt: skip
            if tied and len(tied) < len(norm.readers):
                other = next(reader.weight for reader in norm.readers if reader.weight not in tied)
                raise refusal(f"norm '{norm.scale}' is read by the tied head '{tied[0]}' and by '{other}'")
            if tied:
                self.tied.append(norm)
                continue
            for reader in norm.readers:
                if reader.weight in self.norm_of:
                    raise refusal(f"'{reader.weight}' reads two norms, whose scales it cannot both take in")
                self.norm_of[reader.weight] = norm
                if reader.bias is not None:
                    self._reader_bias.setdefault(reader.bias, []).append(reader.weight)
        shared = next((bias for bias, weights in self._reader_bias.items() if len(weights) > 1), None)
        if shared is not None:
            raise refusal(f"the bias '{shared}' is added after two readers")

    @property
    def folded_biases(self) -> frozenset[str]:
        """Biases that take a norm's bias in."""
        return frozenset(self._reader_bias)

    def homeless_biases(self) -> list[tuple[str, str]]:
        """Readers without a bias of their own under a norm that has one: W β has nowhere to go unless β is zero.

        Returns:
            (weight of the reader, bias of the norm) for each.
        """
        with_bias = {weight for weights in self._reader_bias.values() for weight in weights}
        return [
            (weight, norm.bias)
            for weight, norm in self.norm_of.items()
            if norm.bias is not None and weight not in with_bias
        ]

    def check_weights(self, tensors: Tensors) -> None:
        """Refuse a norm whose bias has nowhere to go.

        Raises:
            ResampleError: a reader has no bias that could take W β in.
        """
        for weight, bias in self.homeless_biases():
            if np.any(tensors[bias].numpy()):
                raise homeless(weight, bias)

    def read(self, name: str, tensors: Tensors) -> AnyArray:
        """A tensor with its norm folded in: float64 where the source is, else float32.

        Scales and biases of norms come as they are.
        """
        array = working(tensors[name].numpy())
        if name in self.norm_of:
            scale = working(tensors[self.norm_of[name].scale].numpy()).ravel()
            array = array * _along(scale, array.ndim, self.reading_axis(name))
        for weight in self._reader_bias.get(name, ()):
            bias = self.norm_of[weight].bias
            if bias is not None:
                beta = working(tensors[bias].numpy()).ravel()
                gained = np.tensordot(working(tensors[weight].numpy()), beta, (self.reading_axis(weight), 0))
                array = array + gained.reshape(array.shape)
        return array

    def bias_of(self, weight: str) -> str | None:
        """Name of the bias added after a reader."""
        return next((bias for bias, weights in self._reader_bias.items() if weight in weights), None)

    def reading_axis(self, weight: str) -> int:
        """Axis of a reader that is contracted with the norm's result."""
        stack, _ = self.places[weight]
        axes = [axis for axis, dim in enumerate(stack.axes) if dim == self.hidden]
        contracted = [axis for axis in axes if stack.directions[axis] == "in"]
        return (contracted or axes)[0]


def working(array: AnyArray) -> AnyArray:
    """The array in float64 where it is that already, else in float32."""
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)


def refusal(reason: str) -> ResampleError:
    """The error of a network that cannot be rotated, with the way out."""
    return ResampleError(f"cannot rotate: {reason}; use alignment 'permute'")


def homeless(weight: str, bias: str) -> ResampleError:
    """The error of a reader that cannot take in the bias of its norm."""
    return refusal(f"'{weight}' has no bias to take in that of its norm, '{bias}'")


def _along(vector: AnyArray, rank: int, axis: int) -> AnyArray:
    return vector.reshape([-1 if index == axis else 1 for index in range(rank)])
