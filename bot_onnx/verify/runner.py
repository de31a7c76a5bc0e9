"""A model open in onnxruntime, on as little memory as its size allows.

A file up to :data:`WHOLE_BYTES` is loaded as its users will load it. Above, and for a model that is only compared with,
onnxruntime gets the message without its weights and reads those from the memory map of the file: no copy, and
the pages can be handed back. Weights are not repacked for speed: each is used twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

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
        mapped: never load the weights; by default this follows from the file's length.

    Raises:
        Exception: whatever onnxruntime raises on a model that it refuses; its errors have no public base class.
    """

    def __init__(self, source: Source, readable: str, *, mapped: bool = False) -> None:
        self._weights: list[Any] = []
        self._source = source
        small = not mapped and os.stat(readable).st_size <= WHOLE_BYTES
        if small or not _mappable(source):
            self._session = self._open(readable)
        else:
            try:
                self._session = self._mapped()
            except MissingRuntimeError:
                raise
            except Exception:  # a data type that cannot be shared: the file as it is will do
                self._weights.clear()
                self._session = self._open(readable)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Outputs by name; anything that is no tensor comes as onnxruntime gives it."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def close(self) -> None:
        """Free the session and hand the pages of the weights back."""
        self._session = None
        self._weights.clear()
        self._source.release()

    def _open(self, model: str | bytes, external: Mapping[str, Any] | None = None) -> Any:
        runtime = onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
        if external:
            options.add_external_initializers(list(external), list(external.values()))
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _mapped(self) -> Any:
        runtime = onnxruntime()
        external = {}
        for tensor in self._source.proto.graph.initializer:
            if self._source.tensors[tensor.name].file is not None:
                array = self._source.tensor(tensor.name)
                external[tensor.name] = runtime.OrtValue.ortvalue_from_numpy(array)
                self._weights += [array, external[tensor.name]]
        return self._open(self._source.proto.SerializeToString(), external)


def _mappable(source: Source) -> bool:
    """Whether every tensor outside the message is an initializer of the main graph: only those can be handed over."""
    main = {tensor.name for tensor in source.proto.graph.initializer}
    return all(name in main for name, stored in source.tensors.items() if stored.file is not None)
