"""A model open in onnxruntime, on as little memory as its size allows.

A file up to :data:`WHOLE_BYTES` is loaded as its users will load it. Above, and for a model that is only compared with,
large weights become inputs of the graph that are fed from the memory map of the file: no copy is made, and the pages
can be handed back. Weights are not repacked for speed either: each is used twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bot_onnx.errors import MissingRuntimeError
from bot_onnx.graph.reader import Source
from bot_onnx.runtime import onnxruntime

#: Length of a model file (not of its data files) from which its weights are mapped instead of loaded.
WHOLE_BYTES = 1 << 28


class Runner:
    """A session on an opened model; close it before the next one is opened.

    Args:
        source: the model.
        readable: path that opens its file.
        mapped: do not load the weights, whatever the file's length.

    Raises:
        Exception: whatever onnxruntime raises on a model that it refuses; its errors have no public base class.
    """

    def __init__(self, source: Source, readable: str, *, mapped: bool = False) -> None:
        self._source = source
        self._weights: dict[str, NDArray[np.generic]] = {}
        if (mapped or os.stat(readable).st_size > WHOLE_BYTES) and _mappable(source):
            try:
                self._session = self._mapped()
                return
            except MissingRuntimeError:
                raise
            except Exception:  # an op that wants its weight constant: the file as it is will do
                self._weights = {}
        self._session = _session(readable)

    @property
    def is_mapped(self) -> bool:
        """Whether the weights were left where they are."""
        return bool(self._weights)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Outputs by name; anything that is no tensor comes as onnxruntime gives it."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {**feeds, **self._weights}), strict=True))

    def close(self) -> None:
        """Free the session and hand the pages of the weights back."""
        self._session = None
        self._weights = {}
        self._source.release()

    def _mapped(self) -> Any:
        proto = onnx.ModelProto()
        proto.CopyFrom(self._source.proto)
        graph = proto.graph
        declared = {value.name for value in graph.input}
        kept = []
        for tensor in self._source.proto.graph.initializer:
            if self._source.tensors[tensor.name].file is None:
                kept.append(tensor)
                continue
            self._weights[tensor.name] = self._source.tensor(tensor.name)
            if tensor.name not in declared:
                graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return _session(proto.SerializeToString())


def _session(model: str | bytes) -> Any:
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _mappable(source: Source) -> bool:
    """Whether every tensor outside the message can be fed: an initializer of the main graph, of NumPy's own types."""
    main = {tensor.name for tensor in source.proto.graph.initializer}
    return all(
        name in main and stored.dtype.bitwidth >= 8 and np.dtype(stored.dtype.numpy()).kind in "fiub"
        for name, stored in source.tensors.items()
        if stored.file is not None
    )
