"""What the residual stream is like on a user's samples: the second moments of what its norms make of it.

    S = Σ_norms E[ x̂ x̂ᵀ ],   x̂ = C x / ‖C x‖,   C = I - 11ᵀ/h where the norms take the mean off, else I

over all positions of all samples. Its leading eigenvectors are the directions that the network uses on these data; the
Gram matrix of the weights (:mod:`bot_onnx._align.basis`) is what can be said of them without data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._align.stream import Stream
from bot_onnx._canonical.control_flow import bodies_of, nested_protos
from bot_onnx._runs.fed_weights import values, with_fed_weights
from bot_onnx._runs.runtime import session
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx.errors import BotError, DataError

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
        bodies = bodies_of(model.graph)
        makers = {value.name: node for node in model.graph for value in node.outputs}
        inside = [norm.scale for norm in stream.norms if (node := makers.get(norm.value)) and bodies[node] is not None]
        self.obstacle = f"norm '{inside[0]}' lies in a branch or a loop" if inside else None
        if self.obstacle is None:
            proto, self._weights = with_fed_weights(model, nested_protos(model.graph))
            names = dict.fromkeys(norm.value for norm in stream.norms)
            proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
            self._proto, self._places = proto, [list(names).index(norm.value) for norm in stream.norms]

    def moments(self, tensors: Mapping[str, Any], step: Callable[[str], None]) -> Floats:
        """S, ``[hidden, hidden]``; every norm counts alike.

        Memory: the weights, and the stream at all norms for one batch.

        Args:
            tensors: the source's tensors by name, with a ``numpy()`` each.
            step: told what is being done, batch by batch.

        Raises:
            DataError: the model does not run on the samples, or gives numbers that are not finite.
        """
        weights = values(self._weights, tensors)
        total: Floats = np.zeros((0, 0))
        try:
            runner = session(self._proto.SerializeToString())
            for feeds in self.samples.batches(BATCH):
                streams = runner.run(None, {**feeds, **weights})
                parts = [
                    _directions(streams[place], centred)
                    for place, centred in zip(self._places, self._centred, strict=True)
                ]
                for part in parts:
                    found = np.asarray(part.T @ part, dtype=np.float64)
                    total = total + found if total.size else found
                step("running the source on the samples")
        except BotError:
            raise
        except Exception as error:  # onnxruntime's errors have no public base class
            raise DataError(f"the source does not run on these samples: {str(error).splitlines()[0][:300]}") from error
        if not np.isfinite(total).all() or np.trace(total) == 0:
            raise DataError("the source gives no finite numbers on these samples, or there are too few of them")
        return total


def _directions(stream: NDArray[Any], centred: bool) -> NDArray[np.float32]:
    """Vectors ``[positions, hidden]`` of length 1, positions where the stream is nothing left out."""
    rows = stream.reshape(-1, stream.shape[-1]).astype(np.float32)
    if centred:
        rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.square(rows).sum(axis=1))
    return np.asarray(rows[lengths != 0] / lengths[lengths != 0, None], dtype=np.float32)
