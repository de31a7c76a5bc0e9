"""How a file came from the model that it is compared with: what its metadata say, if they speak of that model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._onnxfile.reader import Source
from bot_onnx._resample.axes import leaves
from bot_onnx._structure import Role
from bot_onnx._surgery.proven import Promise
from bot_onnx._surgery.provenance import Axes, Lineage, read_lineage
from bot_onnx._verify.carrying import Carrier, Incomparable
from bot_onnx._verify.comparison import Way
from bot_onnx._verify.feeding import Feeds, Shape
from bot_onnx._verify.outputs import is_float
from bot_onnx.errors import ResampleError

_SCALED = Role.HEAD_DIM  #: queries and keys take a factor where it changes


@dataclass(frozen=True, slots=True)
class Descent:
    """What is known of the way from a source to a file; by default nothing: names and sizes must be the same.

    Attributes:
        lineage: what the file says. carrier: its operators.
    """

    lineage: Lineage | None = None
    carrier: Carrier | None = None

    @property
    def promise(self) -> Promise | None:
        """What was promised of the outputs, if anything is known."""
        return None if self.lineage is None else self.lineage.promise

    @property
    def held_in_floats(self) -> bool:
        """Whether the source's floating-point form is what the outputs must agree with."""
        return self.lineage is not None and self.lineage.quantised and bool(self.lineage.promise.kept)

    def partner(self, name: str) -> str | None:
        """Name in the source of an input or output; None where the source has no such thing."""
        return name if self.lineage is None else self.lineage.partner(name)

    def input_axes(self, name: str) -> Axes:
        """How the axes of an input change; empty where none does."""
        return () if self.lineage is None else self.lineage.inputs.get(name, ())

    def way(self, name: str) -> Way:
        """How a source's output becomes the file's."""
        if self.lineage is None:
            return Way()
        promise = self.lineage.promise
        return Way(
            self.carrier,
            self.lineage.outputs.get(name, ()),
            self._factor(name),
            self.lineage.tolerance if promise.keeps(name) else None,
        )

    def given(self, drawn: Feeds) -> Feeds:
        """What the source is given of inputs that were drawn at its sizes (under the file's names).

        An input whose factor is not known (keys in a cache, where head_dim changes) is zero, which has every factor.
        """
        return {name: np.zeros_like(array) if self._open(name) else array for name, array in drawn.items()}

    def in_source_ids(self, drawn: Feeds) -> Feeds:
        """Inputs whose ids of tokens were drawn in the file's vocabulary, in the source's."""
        if not self._renumbers:
            return drawn
        tokens = np.asarray(self._tokens)
        return {
            name: tokens[np.clip(array, 0, len(tokens) - 1)].astype(array.dtype) if name in self._held else array
            for name, array in drawn.items()
        }

    def in_own_ids(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        """Ids of the source's tokens in the file's vocabulary.

        Raises:
            Incomparable: one of them does not stay.
        """
        if not self._renumbers or name not in self._held:
            return array
        tokens = np.asarray(self._tokens)
        places = np.minimum(np.searchsorted(tokens, array), len(tokens) - 1)
        strange = np.asarray(array)[tokens[places] != array]
        if strange.size:
            raise Incomparable(f"{name!r} holds token {strange.flat[0]}, which did not stay")
        return np.asarray(places.astype(array.dtype))

    @property
    def _renumbers(self) -> bool:
        return bool(self._held and self._tokens)

    @property
    def _tokens(self) -> tuple[int, ...]:
        return () if self.lineage is None else self.lineage.tokens

    @property
    def _held(self) -> frozenset[str]:
        return frozenset() if self.lineage is None else self.lineage.token_ports

    def _open(self, name: str) -> bool:
        axes = self.input_axes(name)
        if self.lineage is None or not axes or name in dict(self.lineage.promise.factors):
            return False
        turned = (leaf.role == _SCALED and leaf.source != leaf.target for axis in axes if axis for leaf in leaves(axis))
        return any(turned) or bool(self.lineage.promise.factors)

    def shapes_before(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the inputs that the source is given, by the names of the file."""
        return {name: self._before(name, shape) for name, shape in shapes.items()}

    def _before(self, name: str, shape: Shape) -> Shape:
        axes = self.input_axes(name)
        if self.carrier is None or len(axes) != len(shape) or self.partner(name) is None:
            return shape
        return tuple(self.carrier.size_before(axis, size) for axis, size in zip(axes, shape, strict=True))

    def feeds(self, given: Feeds) -> Feeds:
        """The file's inputs for those that the source is given (under the file's names)."""
        if self.carrier is None:
            return given
        made: Feeds = {}
        for name, array in given.items():
            axes, factor = self.input_axes(name), self._factor(name)
            if self.partner(name) is None:  # of an added layer: zeros are what a grown activation can be in any case
                made[name] = np.zeros_like(array) if is_float(array) else array
                continue
            if not axes and factor == 1.0:
                made[name] = self.in_own_ids(name, array)
                continue
            carried = self.carrier.carry(array, axes)
            made[name] = (carried * factor if factor != 1.0 else carried).astype(array.dtype)
        return made

    def _factor(self, name: str) -> float:
        assert self.lineage is not None
        return dict(self.lineage.promise.factors).get(name, 1.0)


UNKNOWN = Descent()


def find_descent(file: Source, reference: Source, reference_sha256: str | None = None) -> Descent:
    """What a file says of the model that it is compared with; nothing where it was made from another one.

    Args:
        file: the checked model. reference: the one to compare with.
        reference_sha256: of the reference, where it is known already.
    """
    lineage = read_lineage({entry.key: entry.value for entry in file.proto.metadata_props})
    if lineage is None or lineage.source_sha256 != (reference_sha256 or reference.sha256()):
        return UNKNOWN
    try:
        return Descent(lineage, Carrier(lineage))
    except ResampleError:  # a method that this version does not have
        return UNKNOWN
