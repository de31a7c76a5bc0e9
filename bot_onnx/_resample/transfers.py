"""Layers on their way to a CUDA device and back: while one is worked on, the next one comes and the last one goes.

Host memory that a device reads by itself must be pinned. There are two pinned buffers in each direction, which take
turns, and a stream of copies in each direction beside the one that computes. What a copy waits for, and what waits for
it, is said by events; the host waits only for a buffer that it wants to use again, and for the result that it hands on.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align.places import to_numpy
from bot_onnx._resample.arrays import Array, Namespace, dtype_name
from bot_onnx._resample.cuda import is_cupy

#: Bytes of an array that is worth a buffer, and of the largest buffer: what is larger is copied without one.
LEAST, MOST = 1 << 20, 1 << 30
_ON_DEVICE = ("float16", "float32", "float64")


class _Buffer:
    """Pinned memory, and the event after which it may be used again."""

    def __init__(self, cupyx: Any) -> None:
        self._cupyx = cupyx
        self._memory: NDArray[np.uint8] | None = None
        self.busy: Any = None

    def room(self, shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int) -> NDArray[Any]:
        """The first bytes of it as an array, once the last copy has been made."""
        if self.busy is not None:
            self.busy.synchronize()
            self.busy = None
        if self._memory is None or self._memory.nbytes < nbytes:
            self._memory = self._cupyx.empty_pinned(nbytes, dtype=np.uint8)
        assert self._memory is not None
        return self._memory[:nbytes].view(dtype).reshape(shape)


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """An array that is being copied to the device: it is there after ``done``."""

    array: Array
    done: Any


@dataclass(frozen=True, slots=True, eq=False)
class _Fetched:
    """An array that is being copied to ``host``, which holds it after ``done``; it is kept until then."""

    array: Array
    host: NDArray[Any]
    done: Any


class Link:
    """Both ways between host and device."""

    def __init__(self, cupy: Any, cupyx: Any) -> None:
        self._cupy = cupy
        self._streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
        self._buffers = [[_Buffer(cupyx) for _ in range(2)] for _ in range(2)]

    def send(self, host: NDArray[Any]) -> Sent:
        """Start to copy an array to the device; it may be written to, or let go, at once.

        Memory that the device's pool gives for it may have been let go by work that has not begun: the copy waits for
        all that the computing stream was given so far. So the next layer is sent before work on this one is started.
        """
        stream, buffer = self._streams[0], self._next_buffer(0)
        staged = buffer.room(host.shape, host.dtype, host.nbytes)
        np.copyto(staged, host)
        stream.wait_event(self._cupy.cuda.get_current_stream().record())
        with stream:
            array = self._cupy.empty(host.shape, dtype=host.dtype)
        array.set(staged, stream=stream)
        buffer.busy = stream.record()
        return Sent(array, buffer.busy)

    def receive(self, sent: Sent) -> Array:
        """The array, for work that is started from now on."""
        self._cupy.cuda.get_current_stream().wait_event(sent.done)
        return sent.array

    def fetch(self, array: Array) -> _Fetched:
        """Start to copy an array from the device, after the work that makes it."""
        stream, buffer = self._streams[1], self._next_buffer(1)
        whole = self._cupy.ascontiguousarray(array)
        stream.wait_event(self._cupy.cuda.get_current_stream().record())
        staged = buffer.room(whole.shape, whole.dtype, whole.nbytes)
        whole.get(stream=stream, out=staged, blocking=False)
        buffer.busy = stream.record()
        return _Fetched(whole, staged, buffer.busy)

    @staticmethod
    def take(fetched: _Fetched) -> NDArray[Any]:
        """The array in memory of its own, once it is there."""
        fetched.done.synchronize()
        return fetched.host.copy()

    def _next_buffer(self, way: int) -> _Buffer:
        self._buffers[way].reverse()
        return self._buffers[way][0]


@lru_cache(maxsize=1)
def _link() -> Link:
    return Link(importlib.import_module("cupy"), importlib.import_module("cupyx"))


def link_to(xp: Namespace, array: Array) -> Link | None:
    """How a source layer gets into ``xp``: None where the ordinary way does, to the CPU or for a small array."""
    wanted = str(getattr(xp, "__name__", "")).endswith("cupy") and isinstance(array, np.ndarray)
    return _link() if wanted and dtype_name(array) in _ON_DEVICE and LEAST <= array.nbytes <= MOST else None


def fetched(arrays: Iterable[Array]) -> Iterator[NDArray[Any]]:
    """The arrays in host memory, in their order; those of a CUDA device are asked for one ahead."""
    waiting: _Fetched | None = None
    for array in arrays:
        following = _link().fetch(array) if is_cupy(array) and LEAST <= array.nbytes <= MOST else None
        if waiting is not None:
            yield Link.take(waiting)
        waiting = following
        if following is None:
            yield to_numpy(array)
    if waiting is not None:
        yield Link.take(waiting)
