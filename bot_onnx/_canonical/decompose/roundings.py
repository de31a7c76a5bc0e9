"""Where a static quantisation rounded activations, and by which calibrated scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.decompose.builder import Site


@dataclass(frozen=True, slots=True)
class Grid:
    """What an activation is rounded to.

    Attributes:
        scale: one positive number, in the floating-point type of the activation.
        zero: zero point, one number in the type of the integers.
        domain: of the ops that round.
        readers: op types that read the rounded activation.
    """

    scale: NDArray[np.generic]
    zero: NDArray[np.generic]
    domain: str
    readers: frozenset[str]


@dataclass(slots=True)
class Rounded:
    """An activation (a value in floating point) and what its rounding was read from."""

    scale: ir.Value | None
    zero: ir.Value | None
    domain: str
    readers: set[str]

    def grid(self) -> Grid | None:
        """The same in numbers; None where they are computed, or several."""
        scale = None if self.scale is None else self.scale.const_value
        if scale is None or scale.size != 1:
            return None
        if self.zero is None:
            zero: NDArray[np.generic] = np.array(0, np.uint8)
        elif self.zero.const_value is None or self.zero.const_value.size != 1:
            return None
        else:
            zero = np.asarray(self.zero.const_value.numpy()).reshape(())
        if not np.issubdtype(zero.dtype, np.integer):
            return None
        return Grid(np.asarray(scale.numpy()).reshape(()), zero, self.domain, frozenset(self.readers))


def rounded_by(site: Site, scale: int) -> Rounded:
    """What the node of ``site`` rounds its result by: scale in the slot ``scale``, zero point in the next."""
    node = site.node
    domain = node.domain if node.op_type == "QuantizeLinear" else ""
    return Rounded(site.input(scale), site.input(scale + 1), domain, set())
