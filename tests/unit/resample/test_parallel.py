"""Working ahead: the same items in the same order, one at a time, and nothing goes on once it is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from bot_onnx._resample.parallel import ahead


def test_the_same_items_in_their_order() -> None:
    assert list(ahead(iter(range(5)))) == list(range(5))
    assert list(ahead(iter([None, 0, ""]))) == [None, 0, ""]
    assert list(ahead(iter([]))) == []


def test_one_is_made_while_one_is_used_and_no_more() -> None:
    begun: list[int] = []
    reached = [threading.Event() for _ in range(5)]

    def items() -> Iterator[int]:
        for item in range(4):
            begun.append(item)
            reached[item].set()
            yield item

    source = ahead(items())
    for item in source:
        if item < 3:
            assert reached[item + 1].wait(10)
        assert begun == list(range(min(item + 2, 4)))


def test_what_fails_fails_where_it_is_asked_for_and_what_came_before_is_given() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    source = ahead(items())
    assert next(source) == 1
    with pytest.raises(ValueError, match="no more"):
        next(source)


def test_closed_it_has_ended() -> None:
    going_on, ended = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 1
        going_on.wait(10)
        ended.set()
        yield 2

    source = ahead(items())
    assert next(source) == 1
    going_on.set()
    source.close()
    assert ended.is_set()
    assert list(source) == []


def test_numpy_warns_as_it_does_here() -> None:
    def items() -> Iterator[float]:
        yield float(np.float32(1.0) / np.float32(0.0))

    with np.errstate(divide="ignore"):
        assert list(ahead(items())) == [np.inf]
