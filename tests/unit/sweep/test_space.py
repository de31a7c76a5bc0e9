"""The space of a sweep: an option counts for the methods that have it, and no combination comes twice."""

from __future__ import annotations

import pytest

from bot_onnx._sweep.space import Space
from bot_onnx._sweep.types import Combination
from bot_onnx.errors import ResampleError, SpecError


def test_an_option_multiplies_the_methods_that_have_it_alone() -> None:
    space = Space(("a", "b"), ("bot", "front"), {"wavelet": ("haar", "db2"), "depth": ("zero", "repeat", "random")})
    assert list(space.ways()) == [
        "bot wavelet=haar", "bot wavelet=db2", "front depth=zero", "front depth=repeat", "front depth=random",
    ]  # fmt: skip
    assert len(space) == 2 * (2 + 3)
    assert space.grid() == {"spec": ["a", "b"], "way": list(space.ways())}


def test_a_space_without_options_has_a_way_a_method() -> None:
    assert list(Space(("a",), ("bot", "ws"), {}).ways()) == ["bot", "ws"]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (Space((), ("bot",), {}), "specs: a sweep needs at least one value"),
        (Space(("a",), ("bot", "bot"), {}), "methods: 'bot' stands there twice"),
        (Space(("a",), ("bot",), {"wavelet": ("db2", "db2")}), "wavelet: 'db2' stands there twice"),
        (Space(("a",), ("front",), {"wavelet": ("db2",)}), "none of front: it is one of bot"),
        (Space(("a",), ("front",), {"wavelt": ("db2",)}), "none of front: no method has it"),
    ],
)
def test_what_cannot_be_combined_is_refused_by_name(space: Space, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        space.check()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ResampleError, match="nosuch"):
        Space(("a",), ("nosuch",), {}).check()


def test_keys_tell_values_of_different_types_apart_and_not_their_order() -> None:
    first = Combination("a", "bot", {"wavelet": "db2", "level": 1})
    assert first.key == Combination("a", "bot", {"level": 1, "wavelet": "db2"}).key
    assert first.key != Combination("a", "bot", {"level": "1", "wavelet": "db2"}).key
    assert Combination("a", "bot", {"tie_correction": False}).way == "bot tie_correction=off"
