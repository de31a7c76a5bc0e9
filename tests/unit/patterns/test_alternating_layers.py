"""Where layers are added, and which of them do nothing: between the others, or at the end where layers take turns."""

from __future__ import annotations

import pytest

from bot_onnx._resample.depth import identity_layers, layer_map


def test_layers_are_added_behind_those_they_are_made_of() -> None:
    assert identity_layers(2, 4) == ((0, 0, 1, 1), (False, True, False, True))


@pytest.mark.parametrize(
    ("source", "target", "turns", "added"),
    [(4, 7, 2, (2, 3, 2)), (4, 6, 0, (3, 3)), (7, 9, 3, (4, 5)), (7, 8, 6, (1,)), (2, 5, 3, (0, 1, 0))],
)
def test_layers_that_take_turns_keep_their_places(source: int, target: int, turns: int, added: tuple[int, ...]) -> None:
    picks, new = identity_layers(source, target, turns)
    assert picks == (*range(source), *added)
    assert new == (False,) * source + (True,) * (target - source)
    if source >= turns > 0:
        assert all(pick % turns == place % turns for place, pick in enumerate(picks))


def test_other_ways_to_add_layers_take_no_notice() -> None:
    rows = layer_map("stack", 2, 4, wavelet="haar", residual="pre-norm", place="here", turns=2).rows
    assert [row[0][0] for row in rows] == [0, 1, 0, 1]
    rows = layer_map("interleave", 2, 4, wavelet="haar", residual="pre-norm", place="here", turns=2).rows
    assert [row[0][0] for row in rows] == [0, 0, 1, 1]
