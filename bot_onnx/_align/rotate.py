"""Rotating: turn the residual stream into the basis that its weights use most, and cut it off.

With R of :mod:`bot_onnx._align.basis`, from the weights or (:mod:`bot_onnx._align.calibration`) from the stream on a
user's samples, and the norms folded into their readers (:mod:`bot_onnx._align.folding`):

    readers W → W R_inᵀ      writers W → R W, biases b → R b      embeddings and tables E → E Rᵀ

and norms as :mod:`bot_onnx._align.following` says. At full size R is orthogonal (on what is seen of the stream) and the
network computes what it did, but for norms that stand on the stream or before a tied head, which follow as far as one
number per channel can. Heads and neurons that shrink are chosen by their norms.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bot_onnx._align.axes import ordered, resized
from bot_onnx._align.basis import Basis, find_basis, weight_moments
from bot_onnx._align.choosing import Choosing, chosen
from bot_onnx._align.folding import Folding, refusal
from bot_onnx._align.following import Following, keeps_mean, outliers
from bot_onnx._align.gram import sum_of_squares
from bot_onnx._align.places import Namespace, to_numpy
from bot_onnx._align.stream import Stream
from bot_onnx._align.types import Aligned, Alignment, AnyArray, Facts, Kept, Kind, Progress, Tensors
from bot_onnx._structure import Stack, Structure
from bot_onnx.errors import ResampleError, said


class Rotation(Alignment):
    """Turn the stream, cut it to the target's hidden size, keep the most valuable heads and neurons."""

    kind: Kind = "rotate"

    def __init__(
        self,
        structure: Structure,
        sizes: Mapping[str, int],
        facts: Facts,
        choosing: Choosing,
    ) -> None:
        stream = facts.stream
        self._target = _target_size(structure, sizes, stream)
        self._source, self._stream = structure, stream
        self._calibration = facts.calibration
        if self._calibration is not None and self._calibration.obstacle is not None:
            raise refusal(self._calibration.obstacle)
        self.folding = Folding(structure, stream)
        _check_cover(structure, self.folding, stream)
        self._chosen = chosen(structure, sizes, facts, choosing, everywhere=False)
        notes = list(self._chosen.notes)
        self.refit, self.refitted = self._chosen.refit, self._chosen.refitted
        self.looks = self._calibration is not None or self._chosen.looks
        self.structure = resized(structure, {**self._chosen.chooser.sizes, stream.hidden: self._target})
        changed = _inexact(self.folding, stream)
        self.exact = not changed
        notes.extend(changed)
        if self._calibration is not None:
            notes.append(f"the basis is that of the stream on {len(self._calibration.samples)} samples")
        elif self.folding.tied_to_stream:  # a few channels hold most of such a stream, which weights do not tell
            notes.append("chosen by the weights alone: on samples (--calibration) a language model keeps far more")
        self.notes = tuple(notes)

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose from beside the turn."""
        return bool(self._chosen.chooser.sizes)

    def align(self, tensors: Tensors, progress: Progress | None = None, xp: Namespace = np) -> Rotated:
        """Find the basis, and which heads and neurons stay. Memory: a few hidden x hidden matrices, and one tensor."""
        steps = self._chosen.chooser.steps + 1

        def step(what: str) -> None:
            if progress is not None:
                progress(what, 0, steps)

        if self._calibration is not None:
            moments = self._calibration.moments(tensors, step)
        else:
            moments = weight_moments(self._source, self.folding, tensors, step, xp)
        pinned = outliers(self.folding, tensors, self._target, moments, xp)
        basis = find_basis(
            moments,
            self._target,
            centred=self._stream.norms[0].centred,
            # Pinned channels are part of the mean that the norms take off: that of the others is not theirs alone.
            keeps_mean=keeps_mean(self.folding, tensors) or pinned.size > 0,
            pinned=pinned,
            xp=xp,
        )
        kept = self._chosen.chooser.keep(self.folding, tensors, progress, 1, steps)
        tensors = self._chosen.made_up(tensors, kept)
        return Rotated(self._source, tensors, self.folding, basis, kept, xp)


class Rotated(Aligned):
    """The source's tensors, folded, turned and cut: float64 where the source is, else float32."""

    def __init__(
        self,
        structure: Structure,
        tensors: Tensors,
        folding: Folding,
        basis: Basis,
        kept: Kept,
        xp: Namespace,
    ) -> None:
        self._structure, self._tensors, self._folding, self._kept = structure, tensors, folding, kept
        self._xp = xp
        self.basis, self._following = basis, Following(folding, basis, tensors)

    def read(self, name: str) -> AnyArray:
        """One tensor, its hidden axes turned, only what is kept of its heads and neurons."""
        if name not in self._folding.places:
            return self._tensors[name].numpy()
        stack, layer = self._folding.places[name]
        vector = self._following.parameter(name)
        if vector is not None:
            return self._shaped(vector, stack, name)
        if not self._is_touched(stack, layer):
            return self._tensors[name].numpy()
        array = self._folding.read(name, self._tensors, self._following.left)
        if stack.chain is not None and not stack.shared:  # first: what goes is not turned
            array = ordered(self._structure, stack, array, self._kept.of(stack, layer))
        for axis, dim in enumerate(stack.axes):
            if dim == self._folding.hidden:
                turn = self._turn(name, axis).astype(array.dtype)
                array = np.moveaxis(self._product(array, turn, axis), -1, axis)
        return np.asarray(array, order="C")

    def _product(self, array: AnyArray, turn: AnyArray, axis: int) -> AnyArray:
        """Sum over ``axis`` of a tensor and the last one of a turn."""
        xp = self._xp
        return to_numpy(xp.tensordot(xp.asarray(array), xp.asarray(turn), axes=((axis,), (1,))))

    def _turn(self, name: str, axis: int) -> AnyArray:
        if self._folding.reads(name) and axis == self._folding.reading_axis(name):
            return self._following.reading(self._folding.norm_of.get(name))
        return self.basis.write

    def whole(self, name: str) -> AnyArray:
        """One tensor, folded but not turned, chosen from only where the choice depends on another leaf."""
        if name not in self._folding.places:
            return self._tensors[name].numpy()
        stack, layer = self._folding.places[name]
        vector = self._following.unturned(name)
        if vector is not None:
            return self._shaped(vector, stack, name)
        if not self._is_touched(stack, layer):
            return self._tensors[name].numpy()
        array = self._folding.read(name, self._tensors, self._following.left)
        if stack.chain is not None and not stack.shared:
            array = ordered(self._structure, stack, array, self._kept.bound(stack, layer))
        return np.asarray(array, order="C")

    def cut(self, name: str, axis: int, leaf: str) -> AnyArray | None:
        """The turn of hidden ``[target, source]``, or the indices of the leaf that stay."""
        if name not in self._folding.places:
            return None
        stack, layer = self._folding.places[name]
        if leaf == self._folding.hidden:
            return self._turn(name, axis) if stack.axes[axis] == leaf else None
        inside = stack.chain is not None and not stack.shared
        return self._kept.free(stack, layer, leaf) if inside else None

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
        return stack.chain is not None and not stack.shared and bool(self._kept.of(stack, layer))

    def _shaped(self, vector: AnyArray, stack: Stack, name: str) -> AnyArray:
        """A vector over the turned stream, in the shape and precision of a tensor."""
        shape = [
            len(vector) if dim == self._folding.hidden else n for dim, n in zip(stack.axes, stack.shape, strict=True)
        ]
        dtype = np.float64 if self._tensors[name].numpy().dtype == np.float64 else np.float32
        return vector.astype(dtype).reshape(shape)


def _inexact(folding: Folding, stream: Stream) -> list[str]:
    """Notes on what a turn cannot leave as it is."""
    notes: list[str] = []
    if folding.standing:
        notes.append(
            f"the result of {len(folding.standing)} norms ('{folding.standing[0].scale}' …) is the residual stream: "
            "they follow the rotation channel by channel, channels whose scale stands out are left as they are"
        )
    if folding.tied:
        notes.append(
            f"the head is tied to the embedding: norm '{folding.tied[0].scale}' follows the rotation channel "
            "by channel, which is exact only where its scale is the same in all of them; channels that it would see "
            "most wrong are left as they are"
        )
    if stream.activated:
        notes.append("the map before the head's activation is turned with the stream, which the activation shows")
    if folding.shown:
        notes.append(
            f"output '{folding.shown[0]}' carries hidden: its channels are turned, so that inner products and "
            "distances are kept as far as the size allows, and single channels are no more what they were"
        )
    return notes


def _target_size(structure: Structure, sizes: Mapping[str, int], stream: Stream) -> int:
    """Target size of hidden.

    Raises:
        ResampleError: the network has no stream that can be turned, or hidden grows.
    """
    if stream.obstacle is not None:
        raise refusal(said(stream.obstacle))
    hidden = structure.dims[stream.hidden]
    target = sizes.get(stream.hidden, hidden.size)
    if target > hidden.size:
        raise ResampleError(f"cannot rotate: hidden grows from {hidden.size} to {target}; use alignment 'none'")
    if hidden.frozen is not None:
        raise refusal(f"hidden cannot change: {said(hidden.frozen)}")
    if target < 2:
        raise refusal(f"hidden would have {target} channel")
    if len({norm.centred for norm in stream.norms}) != 1:
        raise refusal("some of its norms take the mean off and some do not, or there are none")
    return target


def _check_cover(structure: Structure, folding: Folding, stream: Stream) -> None:
    """Every tensor along hidden must be a writer, a reader, a norm's or scale what is written, and turn with it.

    Raises:
        ResampleError: one is none of them, or follows a formula, which a turn does not; it is named.
    """
    known = {*stream.writers, *folding.layer_scales, *folding.norms, *folding.biases, *folding.norm_of, *folding.raw}
    known |= {reader.weight for norm in stream.norms for reader in norm.readers}
    known |= {reader.weight for reader in stream.readers}
    for stack in structure.stacks:
        for name in stack.tensors if stream.hidden in stack.axes else ():
            if name not in known:
                raise refusal(f"it is not known what '{name}' does to the stream")
            if stack.closed_form is not None and name not in folding.norms and name not in folding.biases:
                raise refusal(f"'{name}' is computed again at every size, and cannot be turned")
