"""The axis of query heads where key and value heads grow and their groups shrink."""

from __future__ import annotations

import pytest

from bot_onnx._stack.groups import hands_over, regrouped
from bot_onnx._stack.types import Axis


def query_heads(kv: tuple[int, int], group: tuple[int, int]) -> Axis:
    parts = (Axis("leaf", *kv, role="kv_heads", dim="k"), Axis("leaf", *group, role="group", dim="g"))
    return Axis("product", kv[0] * group[0], kv[1] * group[1], "heads", parts, dim="h")


def test_heads_of_a_single_key_head_are_one_part() -> None:
    found = regrouped(query_heads((1, 2), (6, 3)))
    assert (found.kind, found.source, found.target) == ("leaf", 6, 6)


def test_heads_stay_with_their_key_head() -> None:
    found = regrouped(query_heads((2, 6), (4, 2)))
    assert [(part.source, part.target) for part in found.parts] == [(2, 2), (4, 6)]
    assert (found.source, found.target) == (8, 12)


@pytest.mark.parametrize(("kv", "group"), [((2, 4), (4, 4)), ((2, 3), (6, 4)), ((2, 1), (4, 8)), ((2, 2), (4, 2))])
def test_anything_else_is_as_it_was(kv: tuple[int, int], group: tuple[int, int]) -> None:
    axis = query_heads(kv, group)
    assert regrouped(axis) is axis
    assert not hands_over(kv, group)


def test_fewer_query_heads_are_a_loss() -> None:
    assert hands_over((1, 2), (6, 3))
    assert not hands_over((1, 2), (6, 2))
