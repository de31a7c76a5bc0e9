"""A search for NaN and infinite weights in one pass at the speed of memory.

Each chunk is probed by one cheap reduction that cannot miss: the dot product with zeros for float32 and float64
(0 * x is NaN exactly for non-finite x, and nothing can overflow), the largest exponent field for the 16-bit types.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

#: Bytes read at a time: stays in the second-level cache between the read and the probe.
CHUNK_BYTES: Final = 1 << 18

# All bits of the exponent field: set in NaN and infinity, and in nothing else.
_EXPONENT: Final = {ir.DataType.FLOAT16: 0x7C00, ir.DataType.BFLOAT16: 0x7F80}
_COMPONENT: Final[dict[ir.DataType, np.dtype[Any]]] = {
    ir.DataType.FLOAT: np.dtype("<f4"),
    ir.DataType.COMPLEX64: np.dtype("<f4"),
    ir.DataType.DOUBLE: np.dtype("<f8"),
    ir.DataType.COMPLEX128: np.dtype("<f8"),
}
_ZEROS: Final = {size: np.zeros(CHUNK_BYTES // size, f"<f{size}") for size in (4, 8)}


@dataclass(frozen=True, slots=True)
class NonFinite:
    """A tensor with values that are NaN or infinite, and how many it has."""

    name: str
    count: int


class Tally:
    """What a tensor's values are, chunk by chunk.

    Attributes:
        bad: how many are NaN or infinite.
        mask_like: no NaN, no +inf, and every finite value is 0: an additive attention mask.
        size: how many there are.
    """

    def __init__(self, dtype: ir.DataType) -> None:
        self.dtype = dtype
        self.bad = 0
        self.size = 0
        self.mask_like = True
        self._nan = False

    @property
    def harmless(self) -> bool:
        """True for what is no weight: an attention mask of 0 and -inf, or a single infinite bound."""
        return self.bad == 0 or self.mask_like or (self.size == 1 and not self._nan)

    def add(self, chunk: NDArray[np.uint8]) -> None:
        """Count one chunk of raw little-endian bytes."""
        values = chunk.view(self._array_type())
        finite = np.isfinite(values)
        self.size += values.size
        self.bad += int(values.size - np.count_nonzero(finite))
        wide = values if values.dtype.kind == "f" else values.astype(np.float32)
        with np.errstate(invalid="ignore"):
            self._nan |= bool(np.isnan(wide).any())
            self.mask_like &= bool(((wide == 0) | (wide == -np.inf)).all())

    def _array_type(self) -> np.dtype[Any]:
        return _COMPONENT.get(self.dtype) or np.dtype(self.dtype.numpy())


def may_hold_nonfinite(dtype: ir.DataType) -> bool:
    """Whether a type of whole bytes can express NaN or infinity."""
    return (
        dtype != ir.DataType.STRING and dtype.bitwidth % 8 == 0 and (dtype.is_floating_point() or dtype in _COMPONENT)
    )


def suspicious(chunks: Iterable[NDArray[np.uint8]], dtype: ir.DataType) -> bool:
    """Whether any value in the chunks (raw little-endian bytes of at most ``CHUNK_BYTES``) is NaN or infinite."""
    return any(_probe(chunk, dtype) for chunk in chunks)


def _probe(chunk: NDArray[np.uint8], dtype: ir.DataType) -> bool:
    if (exponent := _EXPONENT.get(dtype)) is not None:
        return bool((chunk.view("<u2") & exponent).max(initial=0) == exponent)
    if (component := _COMPONENT.get(dtype)) is not None:
        values = chunk.view(component)
        with np.errstate(all="ignore"):
            return bool(np.isnan(np.dot(values, _ZEROS[component.itemsize][: values.size])))
    return not bool(np.isfinite(chunk.view(dtype.numpy())).all())
