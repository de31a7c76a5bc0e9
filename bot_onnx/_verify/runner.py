"""A model open in onnxruntime, on as little memory as its size allows.

A model up to :data:`WHOLE_BYTES` is loaded and run as its users will do it. Above, and for a model that is only
compared with, large weights become inputs of the graph that are fed from the memory map of the file: no copy is made,
and the pages are handed back while the model runs. Weights are not repacked for speed either: each is used twice.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bot_onnx._ended import StartingThread
from bot_onnx._onnxfile.reader import Source
from bot_onnx._runs.runtime import device_of, session, tell_fallback
from bot_onnx.errors import MissingRuntimeError

#: Length of a model, data files included, from which its weights are mapped instead of loaded.
WHOLE_BYTES: Final = 1 << 28
#: Seconds between two times that a running model's pages are handed back: some 100 MB can be read meanwhile.
_INTERVAL: Final = 0.01


class Runner:
    """A session on an opened model; close it before the next one is opened.

    Args:
        source: the model.
        readable: path that opens its file.
        mapped: do not load the weights, whatever the file's length.
        show: inner values to give instead of the outputs.
        cuda: run on a CUDA device where onnxruntime can; what does not run there runs on the CPU.

    Raises:
        Exception: whatever onnxruntime raises on a model that it refuses; its errors have no public base class.
    """

    def __init__(
        self, source: Source, readable: str, *, mapped: bool = False, show: Sequence[str] = (), cuda: bool = False
    ) -> None:
        self._source, self._show, self._cuda, self._asked = source, show, cuda, cuda
        self._readable = readable
        source.release()  # what the checks before have looked at
        self._weights: dict[str, NDArray[np.generic]] = {}
        if show and not _mappable(source):
            raise ValueError("a model whose weights cannot be fed shows no inner values")
        if (mapped or show or source.size_bytes > WHOLE_BYTES) and _mappable(source):
            if not mapped and os.stat(readable).st_size <= WHOLE_BYTES:
                session(_one_of_each(source), folder=os.path.dirname(os.path.abspath(readable)))  # finds the data files
            try:
                self._session = self._mapped()
                return
            except MissingRuntimeError:
                raise
            except Exception:  # an op that wants its weight constant: the file as it is will do
                self._weights = {}
                if show:
                    raise
        self._session = self._opened(readable)

    @property
    def is_mapped(self) -> bool:
        """Whether the weights were left where they are."""
        return bool(self._weights)

    @property
    def fell_back(self) -> bool:
        """Whether it was to run on a CUDA device, and runs on the CPU."""
        return self._asked and not (self._cuda and device_of(self._session) == "cuda")

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        """Outputs by name; anything that is no tensor comes as onnxruntime gives it."""
        names = [output.name for output in self._session.get_outputs()]
        with _released(self._source) if self._weights else contextlib.nullcontext():
            try:
                results = self._session.run(names, {**feeds, **self._weights})
            except Exception as error:  # on a device memory may be short, or a kernel missing: the CPU's word is last
                if not self._cuda:
                    raise
                tell_fallback(error)
                self._cuda = False
                self._session = self._mapped() if self._weights else self._opened(self._readable)
                results = self._session.run(names, {**feeds, **self._weights})
        return dict(zip(names, results, strict=True))

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
        if self._show:
            del graph.output[:]
            graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._show)
        return self._opened(proto.SerializeToString())

    def _opened(self, model: str | bytes) -> Any:
        return session(model, prepack=False, shapes_first=True, cuda=self._cuda)


def _one_of_each(source: Source) -> bytes:
    """A model of one tensor of every data file: onnxruntime judges where they lie, and maps no more than these.

    The model itself would do that as well, but onnxruntime maps every tensor of it to write to: no memory, and yet more
    than a system that counts such maps may allow.
    """
    smallest: dict[object, onnx.TensorProto] = {}
    for tensor in source.proto.graph.initializer:
        stored = source.tensors[tensor.name]
        if stored.file is None or stored.file.path == source.files[0]:
            continue
        held = smallest.setdefault(stored.file, tensor)
        if stored.nbytes < source.tensors[held.name].nbytes:
            smallest[stored.file] = tensor
    shown = [onnx.ValueInfoProto(name=f"{index}") for index in range(len(smallest))]
    nodes = [
        onnx.helper.make_node("Identity", [tensor.name], [value.name])
        for tensor, value in zip(smallest.values(), shown, strict=True)
    ]
    graph = onnx.helper.make_graph(nodes, "placed", [], shown, list(smallest.values()))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@contextlib.contextmanager
def _released(source: Source) -> Iterator[None]:
    """Hand the pages of ``source`` back now and then, from a thread of its own; whoever reads them gets them anew."""
    done = threading.Event()

    def release() -> None:
        while not done.wait(_INTERVAL):
            source.release()

    thread = threading.Thread(target=release, daemon=True)
    try:
        with StartingThread():  # else pages stay until the end
            thread.start()
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join()


def _mappable(source: Source) -> bool:
    """Whether every tensor outside the message can be fed: an initializer of the main graph, of NumPy's own types."""
    main = {tensor.name for tensor in source.proto.graph.initializer}
    return all(
        name in main and stored.dtype.bitwidth >= 8 and np.dtype(stored.dtype.numpy()).kind in "fiub"
        for name, stored in source.tensors.items()
        if stored.file is not None
    )
