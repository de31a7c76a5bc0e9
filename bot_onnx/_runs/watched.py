"""The source run on samples, with some of its inner values shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
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
_ROUNDING = 1e-3  #: of a sum of squares, far above what float32 rounds and far below what another sample changes


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

    def runs(
        self, tensors: Mapping[str, Any], size: int, *, alone: bool = False
    ) -> Iterator[tuple[float, dict[str, NDArray[Any]]]]:
        """What a run counts (see :meth:`Samples.weighed`), and the values by name.

        Memory: the weights, and the values of one run.

        Args:
            tensors: the source's tensors by name, with a ``numpy()`` each.
            size: number of samples at a time, where the model does not take a fixed one.
            alone: one sample a run, wherever they can be told apart.

        Raises:
            DataError: the model does not run on the samples, or cannot take all of them.
        """
        weights = values(self._weights, tensors)
        try:
            runner = session(self._proto.SerializeToString())

            def run(feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
                return dict(zip(self._names, runner.run(None, {**feeds, **weights}), strict=True))

            apart = self._apart(run, alone=alone)
            for share, feeds in self.samples.weighed(size, alone=alone and apart):
                yield share, run(feeds)
        except BotError:
            raise
        except Exception as error:  # onnxruntime's errors have no public base class
            raise DataError(f"the source does not run on these samples: {one_line(error)}") from error

    def check(self, tensors: Mapping[str, Any]) -> None:
        """See whether the model takes all samples, where it takes a fixed number at a time.

        Raises:
            DataError: it does not, or does not run on them.
        """
        if self.samples.unfilled:
            next(self.runs(tensors, 1), None)

    def _apart(self, run: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]], *, alone: bool) -> bool:
        """Whether what a run gives is what its samples give, each for itself; looked at only where it matters.

        Nothing tells where the samples lie in a value, so its squares are added up: those of a run are then the mean of
        those of every sample repeated. An axis that has a fixed length need not be one of samples at all.

        Raises:
            DataError: it is not, and samples are left over.
        """
        chunk, left = self.samples.chunk or 1, self.samples.unfilled
        if chunk == 1 or not (alone or left):
            return True
        sums = _squares(run(next(self.samples.batches(chunk))))
        if not np.isfinite(sums).all():
            return True  # whoever reads them says what is wrong
        first = np.arange(chunk) % min(chunk, len(self.samples))
        each = {number: _squares(run(self.samples.repeated(number))) for number in dict.fromkeys(map(int, first))}
        apart = np.allclose(sums, np.mean([each[int(number)] for number in first], axis=0), rtol=_ROUNDING, atol=0)
        if left and not apart:
            raise DataError(
                f"the source takes {chunk} samples at a time and does not keep them apart, so that a run cannot be "
                f"filled up: give a multiple of {chunk}, not {len(self.samples)}"
            )
        return bool(apart)


def _squares(values: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Sum of the squares of every value."""
    return np.array([np.square(array, dtype=np.float64).sum() for array in values.values()])


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
