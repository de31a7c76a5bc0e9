"""What the residual stream is like on a user's samples: the second moments of what its norms make of it.

    S = Σ_norms E[ x̂ x̂ᵀ ],   x̂ = C x / ‖C x‖,   C = I - 11ᵀ/h where the norms take the mean off, else I

over all positions of all samples. Its leading eigenvectors are the directions that the network uses on these data; the
Gram matrix of the weights (:mod:`bot_onnx._align.basis`) is what can be said of them without data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._align.stream import Stream
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._runs.watched import Watched, finite, hidden_in_bodies, no_numbers

Floats = NDArray[np.float64]
BATCH = 4  #: samples at a time, where the model leaves it open


class Calibration:
    """The source, ready to be run on samples: made before a resize changes its graph, run when weights are read.

    Attributes:
        samples: what it is run on.
        obstacle: why its norms cannot be looked at, or None.
    """

    def __init__(self, model: ir.Model, stream: Stream, samples: Samples) -> None:
        self.samples, self._centred = samples, [norm.centred for norm in stream.norms]
        self._values = [norm.value for norm in stream.norms]
        inside = hidden_in_bodies(model.graph, self._values)
        scale = next((norm.scale for norm in stream.norms if norm.value == inside), None)
        self.obstacle = None if scale is None else f"norm '{scale}' lies in a branch or a loop"
        self._watched = None if inside is not None else Watched(model, samples, self._values)

    def moments(self, tensors: Mapping[str, Any], step: Callable[[str], None]) -> Floats:
        """S, ``[hidden, hidden]``; every norm counts alike.

        Memory: the weights, and the stream at all norms for one batch.

        Args:
            tensors: the source's tensors by name, with a ``numpy()`` each.
            step: told what is being done, batch by batch.

        Raises:
            DataError: the model does not run on the samples, or gives numbers that are not finite.
        """
        assert self._watched is not None
        total: Floats = np.zeros((0, 0))
        for share, streams in self._watched.runs(tensors, BATCH):
            for name, centred in zip(self._values, self._centred, strict=True):
                part = _directions(streams[name], centred)
                found = share * np.asarray(part.T @ part, dtype=np.float64)
                total = total + found if total.size else found
            step("running the source on the samples")
        if np.trace(finite(total)) == 0:
            raise no_numbers()
        return total


def _directions(stream: NDArray[Any], centred: bool) -> NDArray[np.float32]:
    """Vectors ``[positions, hidden]`` of length 1, positions where the stream is nothing left out."""
    rows = stream.reshape(-1, stream.shape[-1]).astype(np.float32)
    if centred:
        rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.square(rows).sum(axis=1))
    return np.asarray(rows[lengths != 0] / lengths[lengths != 0, None], dtype=np.float32)
