"""Rotating: turn the residual stream of a pre-norm network into the basis that its weights use most, and cut it off.

With R of :mod:`bot_onnx.align.basis`, from the weights or (:mod:`bot_onnx.align.calibration`) from the stream on a
user's samples, and the norms folded into their readers (:mod:`bot_onnx.align.folding`):

    readers W → W Rᵀ      writers W → R W, biases b → R b      embeddings and tables E → E Rᵀ
    norms γ → √(ρ h_s / h_t), β → 0
    the norm before a tied head: γ' = that · diag(R diag(γ) Rᵀ) / diag(R Rᵀ), β' = R β

At full size R is orthogonal (on what the norms see of the stream) and the network computes what it did; a tied head
follows as far as one number per channel can follow γ. Heads and neurons that shrink are chosen by their norms.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bot_onnx.align.axes import LeafOrder, ordered, resized
from bot_onnx.align.basis import Basis, find_basis, weight_moments
from bot_onnx.align.folding import Folding, refusal, working
from bot_onnx.align.gram import sum_of_squares
from bot_onnx.align.mobility import Mobility
from bot_onnx.align.selection import choose, chosen_leaves, find_choices
from bot_onnx.align.types import Aligned, Alignment, AnyArray, Facts, Kind, Progress, Tensors
from bot_onnx.errors import ResampleError
from bot_onnx.graph.stream import Stream
from bot_onnx.graph.types import Stack, Structure


class Rotation(Alignment):
    """Turn the stream, cut it to the target's hidden size, keep the most valuable heads and neurons."""

    kind: Kind = "rotate"

    def __init__(self, structure: Structure, sizes: Mapping[str, int], facts: Facts) -> None:
        stream = facts.stream
        self._target = _target_size(structure, sizes, stream)
        self._source, self._stream, self._sizes = structure, stream, sizes
        self._calibration = facts.calibration
        if self._calibration is not None and self._calibration.obstacle is not None:
            raise refusal(self._calibration.obstacle)
        self.folding = Folding(structure, stream)
        _check_cover(structure, stream)
        self._mobile = Mobility(structure, sizes, facts.freedom)
        self._choices, notes = find_choices(structure, self._mobile)
        done = {leaf: sizes[leaf] for leaf in chosen_leaves(self._choices, self._mobile)}
        self.structure = resized(structure, {**done, stream.hidden: self._target})
        if self.folding.tied:
            notes.append(
                f"the head is tied to the embedding: norm '{self.folding.tied[0].scale}' follows the rotation channel "
                "by channel, which is exact only where its scale is the same in all of them and its bias 0"
            )
        if self._calibration is not None:
            notes.append(f"the basis is that of the stream on {len(self._calibration.samples)} samples")
        self.notes = tuple(notes)

    def align(self, tensors: Tensors, progress: Progress | None = None) -> Rotated:
        """Find the basis, and which heads and neurons stay. Memory: a few hidden x hidden matrices, and one tensor."""
        self.folding.check_weights(tensors)
        layers = {chain.name: chain.stacked for chain in self._source.chains}
        steps = sum(layers[choice.chain] for choice in self._choices) + 1
        done = 0

        def step(what: str) -> None:
            if progress is not None:
                progress(what, done, steps)

        if self._calibration is not None:
            moments = self._calibration.moments(tensors, step)
        else:
            moments = weight_moments(self._source, self.folding, tensors, step)
        basis = find_basis(moments, self._target, centred=self._stream.norms[0].centred)
        kept: dict[str, list[dict[str, LeafOrder]]] = {name: [{} for _ in range(n)] for name, n in layers.items()}
        for choice in self._choices:
            for layer in range(layers[choice.chain]):
                done += 1
                kept[choice.chain][layer].update(
                    choose(self._source, self._mobile, choice, layer, self.folding, tensors, self._sizes)
                )
                step("choosing heads and neurons")
        return Rotated(self._source, tensors, self.folding, basis, kept)


class Rotated(Aligned):
    """The source's tensors, folded, turned and cut: float64 where the source is, else float32."""

    def __init__(
        self,
        structure: Structure,
        tensors: Tensors,
        folding: Folding,
        basis: Basis,
        kept: Mapping[str, list[dict[str, LeafOrder]]],
    ) -> None:
        self._structure, self._tensors, self._folding, self._kept = structure, tensors, folding, kept
        self.basis = basis

    def read(self, name: str) -> AnyArray:
        """One tensor, its hidden axes turned, only what is kept of its heads and neurons."""
        if name not in self._folding.places:
            return self._tensors[name].numpy()
        if name in self._folding.scales or name in self._folding.biases:
            return self._norm(name)
        stack, layer = self._folding.places[name]
        if not self._is_touched(stack, layer):
            return self._tensors[name].numpy()
        array = self._folding.read(name, self._tensors)
        turn = self.basis.turn.astype(array.dtype)
        for axis, dim in enumerate(stack.axes):
            if dim == self._folding.hidden:
                array = np.moveaxis(np.tensordot(array, turn, (axis, 1)), -1, axis)
        if stack.chain is not None and not stack.shared:
            array = ordered(self._structure, stack, array, self._kept[stack.chain][layer])
        return np.ascontiguousarray(array)

    def whole_energy(self, name: str) -> float:
        """Sum of squares of the folded tensor, its mean over hidden taken off where the norms do."""
        if name not in self._folding.places:
            return sum_of_squares(self._tensors[name].numpy())
        stack, _ = self._folding.places[name]
        array = self._folding.read(name, self._tensors)
        for axis, dim in enumerate(stack.axes):
            if dim == self._folding.hidden and self.basis.centred:
                array = array - array.mean(axis=axis, keepdims=True)
        return sum_of_squares(array)

    def _is_touched(self, stack: Stack, layer: int) -> bool:
        if self._folding.hidden in stack.axes or stack.tensors[layer] in self._folding.folded_biases:
            return True
        return stack.chain is not None and not stack.shared and bool(self._kept[stack.chain][layer])

    def _norm(self, name: str) -> AnyArray:
        """Scale or bias of a norm in the turned stream."""
        stack, _ = self._folding.places[name]
        shape = tuple(
            self.basis.turn.shape[0] if dim == self._folding.hidden else size
            for dim, size in zip(stack.axes, stack.shape, strict=True)
        )
        source = working(self._tensors[name].numpy())
        turn = self.basis.turn
        is_scale = name in self._folding.scales
        if not any(name in (norm.scale, norm.bias) for norm in self._folding.tied):
            return np.full(shape, self.basis.scale if is_scale else 0.0, dtype=source.dtype)
        values = turn @ source.ravel()
        if is_scale:
            squares = turn**2
            values = self.basis.scale * (squares @ source.ravel()) / squares.sum(axis=1)
        return values.astype(source.dtype).reshape(shape)


_NOT_TURNED = {
    "none": "the network has no residual stream",
    "unknown": "what its residual stream passes between two sums is not understood",
}


def _target_size(structure: Structure, sizes: Mapping[str, int], stream: Stream) -> int:
    """Target size of hidden.

    Raises:
        ResampleError: the network has no stream that can be turned, or hidden grows.
    """
    if structure.residual != "pre-norm":
        kind = f"the network is {structure.residual}, and only a stream that nothing stands on can be turned"
        raise refusal(_NOT_TURNED.get(structure.residual, kind))
    if stream.obstacle is not None:
        raise refusal(stream.obstacle)
    hidden = structure.dims[stream.hidden]
    target = sizes.get(stream.hidden, hidden.size)
    if target > hidden.size:
        raise ResampleError(f"cannot rotate: hidden grows from {hidden.size} to {target}; use alignment 'none'")
    if hidden.frozen is not None:
        raise refusal(f"hidden cannot change: {hidden.frozen}")
    if target < 2:
        raise refusal(f"hidden would have {target} channel")
    if len({norm.centred for norm in stream.norms}) != 1:
        raise refusal("some of its norms take the mean off and some do not, or there are none")
    return target


def _check_cover(structure: Structure, stream: Stream) -> None:
    """Every tensor along hidden must be a writer, a reader or a norm's.

    Raises:
        ResampleError: one is none of them; it is named.
    """
    known = set(stream.writers)
    for norm in stream.norms:
        known.update(name for name in (norm.scale, norm.bias) if name is not None)
        known.update(reader.weight for reader in norm.readers)
    for stack in structure.stacks:
        for name in stack.tensors if stream.hidden in stack.axes else ():
            if name not in known:
                raise refusal(f"it is not known what '{name}' does to the stream")
