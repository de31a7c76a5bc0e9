"""Things that share one of two descriptions have one number."""

from __future__ import annotations

from bot_onnx._patterns.alike import numbered


def test_chains_of_shared_descriptions_are_one() -> None:
    found = numbered([("a", 1), ("b", 2), ("c", 3), ("a", 2), ("d", 4), ("c", 9)])
    assert found[0] == found[1] == found[3]
    assert found[2] == found[5]
    assert len({found[0], found[2], found[4]}) == 3


def test_nothing_shared_is_nothing_alike() -> None:
    assert len(set(numbered((("w", i), ("s", i)) for i in range(50)))) == 50
    assert numbered([]) == []
