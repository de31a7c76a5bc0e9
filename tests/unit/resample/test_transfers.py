"""Copies to a device and back that overlap with work on it: a device that does nothing until it must shows the hazards.

Its streams keep what they are asked for, and do it when the host waits for an event; its memory is given to the next
array of a stream as soon as an array is let go, as CuPy's pool does. A buffer that is written too early, or memory that
is used again before the work on it was done, gives wrong numbers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bot_onnx._resample import transfers
from bot_onnx._resample.depth import layer_map
from bot_onnx._resample.sources import SourceLayers
from bot_onnx._resample.transfers import Link, fetched
from bot_onnx._stack.types import Axis, StackTask

SHAPE = (4, 8)


class Stream:
    def __init__(self, **_: Any) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.free: dict[tuple[int, ...], list[Any]] = {}

    def record(self) -> Event:
        return Event(self, len(self.waiting) + self.done)

    done = 0

    def run(self, until: int) -> None:
        while self.done < until:
            self.done += 1
            self.waiting.pop(0)()

    def wait_event(self, event: Event) -> None:
        self.waiting.append(event.synchronize)

    def __enter__(self) -> None:
        Device.current.append(self)

    def __exit__(self, *_: Any) -> None:
        Device.current.pop()


class Event:
    def __init__(self, stream: Stream, place: int) -> None:
        self.stream, self.place = stream, place

    def synchronize(self) -> None:
        self.stream.run(self.place)


class Device:
    current: list[Stream] = []  # noqa: RUF012 - one device
    log: list[str] = []  # noqa: RUF012


class Array:
    """Memory of the device; what has been asked of it is done later."""

    __module__ = "cupy"
    dtype = np.dtype("float32")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.nbytes = int(np.prod(shape)) * 4
        free = Device.current[-1].free.setdefault(shape, [])
        self.memory = free.pop() if free else np.full(shape, np.nan, np.float32)
        weakref.finalize(self, free.append, self.memory)

    def set(self, host: Any, stream: Stream) -> None:
        memory = self.memory
        Device.log.append("send")
        stream.waiting.append(lambda: np.copyto(memory, host))

    def get(self, stream: Stream, out: Any, blocking: bool) -> None:
        memory = self.memory
        Device.log.append("fetch")
        assert not blocking
        stream.waiting.append(lambda: np.copyto(out, memory))

    def doubled(self) -> Array:
        result = Array(self.shape)
        source, target = self.memory, result.memory
        Device.log.append("work")
        Device.current[-1].waiting.append(lambda: np.multiply(source, 2.0, out=target))
        return result


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    Device.current[:], Device.log[:] = [Stream()], []
    cupy = SimpleNamespace(
        cuda=SimpleNamespace(Stream=Stream, get_current_stream=lambda: Device.current[-1]),
        empty=lambda shape, dtype: Array(shape),
        ascontiguousarray=lambda array: array,
    )
    made = Link(cupy, SimpleNamespace(empty_pinned=lambda n, dtype: np.zeros(n, dtype)))
    monkeypatch.setattr(transfers, "_link", lambda: made)
    monkeypatch.setattr(transfers, "LEAST", 1)
    yield made


def layers(count: int) -> list[Any]:
    return [np.full(SHAPE, k + 1.0, np.float32) for k in range(count)]


def test_every_layer_arrives_is_worked_on_and_comes_back(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot_onnx._resample.sources.to_working", lambda x, xp, place: x)
    axes = tuple(Axis("leaf", n, n) for n in SHAPE)
    task = StackTask("stack", "name", "matrix", axes, ("out", "in"), layers=(9, 9))
    rows = layer_map("auto", 9, 9, wavelet="haar", residual="none", place="here")
    readers = [lambda x=x: x.copy() for x in layers(9)]
    source = SourceLayers(task, readers, rows, SimpleNamespace(__name__="cupy"), lambda x: x.doubled())
    back = list(fetched(source.mixed(k) for k in range(9)))
    for k, array in enumerate(back):
        np.testing.assert_array_equal(array, np.full(SHAPE, 2.0 * (k + 1)))


def test_the_next_layer_is_sent_before_work_on_this_one_starts(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    test_every_layer_arrives_is_worked_on_and_comes_back(link, monkeypatch)
    assert Device.log[:8] == ["send", "send", "work", "fetch", "send", "work", "fetch", "send"]
    assert Device.log.count("send") == Device.log.count("work") == Device.log.count("fetch") == 9


def test_a_buffer_waits_for_its_last_copy(link: Link) -> None:
    sent = [link.send(x) for x in layers(5)]
    arrays = [link.receive(one).doubled() for one in sent]
    for k, array in enumerate([*fetched(arrays)]):
        np.testing.assert_array_equal(array, np.full(SHAPE, 2.0 * (k + 1)))


def test_without_its_wait_a_copy_overwrites_what_is_still_read(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device of these tests does show the fault."""
    monkeypatch.setattr(Stream, "wait_event", lambda self, event: None)
    with pytest.raises(AssertionError):
        test_every_layer_arrives_is_worked_on_and_comes_back(link, monkeypatch)


def test_host_arrays_pass_as_they_are() -> None:
    arrays = layers(3)
    assert all(a is b for a, b in zip(fetched(arrays), arrays, strict=True))


def test_small_arrays_of_a_device_come_in_their_order(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [link.receive(link.send(x)) for x in layers(3)]
    monkeypatch.setattr(transfers, "LEAST", 100)
    monkeypatch.setattr(transfers, "to_numpy", lambda x: x if isinstance(x, np.ndarray) else "small")
    arrays[0].nbytes = arrays[2].nbytes = 10
    back = list(fetched(arrays))
    assert [isinstance(x, str) for x in back] == [True, False, True]
