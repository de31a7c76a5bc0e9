"""Layers that take turns in what they do themselves: every second one masks its scores, or has experts.

What repeats then is a turn of several layers, and the chain counts turns. (Layers that only read other masks are alike:
:mod:`bot_onnx._patterns.alternating_layers`.)
"""

from __future__ import annotations

from collections.abc import Sequence

#: Of one segment: a number that equal segments share, and the shapes of its matrices and kernels.
Kind = tuple[int, tuple[tuple[int, ...], ...]]


def layers_in_turn(kinds: Sequence[Kind]) -> int:
    """How many layers a repeated piece of segments is: 1, or several that take turns.

    It falls into so many pieces of equally many segments, and a segment with weights comes again in all of them (the
    same MLP behind a local and a global attention), or all their weights have the same shapes (dilations of 1, 2, 4).
    """
    count = len(kinds)
    return next((turns for turns in range(count, 1, -1) if count % turns == 0 and _alike(kinds, count // turns)), 1)


def _alike(kinds: Sequence[Kind], segments: int) -> bool:
    """Whether a piece is several layers of so many segments."""
    places = [kinds[place::segments] for place in range(segments)]
    again = any(len(set(place)) == 1 and place[0][1] for place in places)
    shaped = all(len({shapes for _, shapes in place}) == 1 for place in places)
    return again or (shaped and any(shapes for _, shapes in kinds))
