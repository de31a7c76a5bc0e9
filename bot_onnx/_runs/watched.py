"""The source run on samples, with some of its inner values shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.control_flow import bodies_of, nested_protos
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._runs.fed_weights import values, with_fed_weights
from bot_onnx._runs.runtime import session
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx.errors import BotError, DataError

_LARGEST = 1 << 31  #: bytes that a message can have


class Watched:
    """A graph as it is now, ready to be run later: made before a resize changes it, run when weights are read.

    Args:
        model: the graph.
        samples: what it is run on.
        names: of the values to look at; none may lie in the body of a branch or a loop (:func:`hidden_in_bodies`).
    """

    def __init__(self, model: ir.Model, samples: Samples, names: Iterable[str]) -> None:
        self.samples = samples
        self._names = tuple(dict.fromkeys(names))
        self._proto, self._weights = with_fed_weights(model, nested_protos(model.graph))
        self._proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._names)

    def message(self, tensors: Mapping[str, Any]) -> onnx.ModelProto:
        """The graph with all weights in it, whose outputs are the values that are looked at.

        Args:
            tensors: the source's tensors by name, with a ``numpy()`` each.

        Raises:
            DataError: it is too large for a message.
        """
        weights = values(self._weights, tensors)
        if sum(array.nbytes for array in weights.values()) >= _LARGEST:
            raise DataError("the source has 2 GiB of weights and more, which a message cannot hold")
        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        ports = [port for port in proto.graph.input if port.name not in weights]
        del proto.graph.input[:]
        proto.graph.input.extend(ports)
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
        return proto

    def runs(self, tensors: Mapping[str, Any], size: int) -> Iterator[dict[str, NDArray[Any]]]:
        """The values by name, ``size`` samples at a time (or as many as the model takes).

        Memory: the weights, and the values of one run.

        Args:
            tensors: the source's tensors by name, with a ``numpy()`` each.
            size: number of samples.

        Raises:
            DataError: the model does not run on the samples.
        """
        weights = values(self._weights, tensors)
        try:
            runner = session(self._proto.SerializeToString())
            for feeds in self.samples.batches(size):
                yield dict(zip(self._names, runner.run(None, {**feeds, **weights}), strict=True))
        except BotError:
            raise
        except Exception as error:  # onnxruntime's errors have no public base class
            raise DataError(f"the source does not run on these samples: {one_line(error)}") from error


def hidden_in_bodies(graph: ir.Graph, names: Iterable[str]) -> str | None:
    """The first of the values that a body of control flow computes, so that nobody outside can look at it."""
    bodies = bodies_of(graph)
    makers = {value.name: node for node in graph for value in node.outputs}
    return next((name for name in names if (node := makers.get(name)) and bodies[node] is not None), None)


def finite(array: NDArray[Any]) -> NDArray[np.float64]:
    """The same numbers in double precision.

    Raises:
        DataError: some of them are not finite, or there are none.
    """
    wide = np.asarray(array, dtype=np.float64)
    if not wide.size or not np.isfinite(wide).all():
        raise no_numbers()
    return wide


def no_numbers() -> DataError:
    """The refusal of samples that show nothing."""
    return DataError("the source gives no finite numbers on these samples, or there are too few of them")
