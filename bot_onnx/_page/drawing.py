"""Where everything of the drawings lies: numbers for the SVG of the blocks, and for that of a fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bot_onnx._page.blocks import Block, Chip
from bot_onnx._page.fitted import Found
from bot_onnx._report.units import count, size

WIDTH: Final = 360.0  #: of the drawing of blocks, in its own units
LEFT: Final = 6.0  #: edge of the boxes
INNER: Final = 342.0  #: width of the boxes
_CHAR: Final = 6.7  #: width of a character of the small monospaced texts
_LINE, _CHIP, _GAP = 17.0, 20.0, 24.0  #: heights


@dataclass(frozen=True, slots=True)
class PlacedChip:
    """A chip with its place."""

    chip: Chip
    x: float
    y: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Box:
    """A block with its place; ``label`` and ``ops`` are cut to what has room, the block has the whole."""

    block: Block
    y: float
    height: float
    label: str
    note: str
    ops: tuple[str, ...]
    chips: tuple[PlacedChip, ...]
    arrow: bool


def boxes(blocks: Sequence[Block]) -> tuple[tuple[Box, ...], float]:
    """All boxes from top to bottom, and the height of the drawing."""
    made: list[Box] = []
    y = 8.0
    for place, block in enumerate(blocks):
        note = f"{count(block.parameters)} parameters" if block.parameters else ""
        note = f"{note} each" if note and block.times > 1 else note
        times = f"{block.times} x " if block.times > 1 or block.kind == "layers" else ""
        title = f"{block.ops}: {block.title}" if block.kind == "port" else f"{times}{block.title}"
        lines = () if block.kind == "port" else _lines(block.ops)
        top = y + 24 + _LINE * len(lines)
        chips, bottom = _chips(block.chips, top)
        height = bottom - y + (6 if chips else 4)
        room = int((INNER - 24) / 7.5) - (len(note) + 2 if note else 0)
        made.append(Box(block, y, height, _name(title, room), note, lines, chips, place + 1 < len(blocks)))
        y += height + _GAP
    return tuple(made), y - _GAP + 8


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(room - 1, 1)]}…"


def _name(text: str, room: int) -> str:
    """A name in its room: of a path the end tells the most."""
    inner = text.rstrip("/")
    return f"…{inner[1 - room :]}" if len(text) > room > 1 and "/" in inner else _cut(text, room)


def _lines(text: str) -> tuple[str, ...]:
    """A text in at most two lines."""
    room = int((INNER - 24) / _CHAR)
    words, lines = text.split(" "), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) > 2:
        lines = [lines[0], f"{lines[1]} …"]
    return tuple(_cut(line, room) for line in lines if line)


def _chips(chips: Sequence[Chip], top: float) -> tuple[tuple[PlacedChip, ...], float]:
    """Chips in rows from ``top``, and where the last row ends."""
    placed: list[PlacedChip] = []
    x, y = LEFT + 12, top
    for chip in chips:
        text = _cut(chip.text, 44)
        width = len(text) * _CHAR + 14
        if x + width > LEFT + INNER - 10 and x > LEFT + 12:
            x, y = LEFT + 12, y + _CHIP + 4
        placed.append(PlacedChip(chip, x, y, width, text))
        x += width + 6
    return tuple(placed), y + (_CHIP if placed else 0)


@dataclass(frozen=True, slots=True)
class Point:
    """A network of a fit in the drawing, with the number that its row in the table has, which stands at ``label_y``."""

    found: Found
    number: int
    x: float
    y: float
    label_y: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


def points(found: Sequence[Found]) -> tuple[tuple[Point, ...], tuple[Tick, ...], tuple[Tick, ...]]:
    """Networks over the size of their files (x, 60 to 440) and the energy that is kept (y, 240 to 20), with ticks."""
    largest = max((one.size_bytes for one in found), default=1) or 1
    step = _step(largest)
    top = math.ceil(largest / step) * step
    across = tuple(Tick(_x(n * step, top), size(n * step)) for n in range(round(top / step) + 1))
    up = tuple(Tick(_y(n / 4), f"{n * 25} %") for n in range(5))
    placed = [Point(one, n, _x(one.size_bytes, top), _y(one.kept), 0.0) for n, one in enumerate(found)]
    return _labelled(placed), across, up


def _labelled(placed: Sequence[Point]) -> tuple[Point, ...]:
    """Points whose numbers stand apart: from the top, each below the one before where both would meet."""
    labels: dict[int, float] = {}
    for point in sorted(placed, key=lambda one: (one.y, one.number)):
        near = [labels[one.number] for one in placed if one.number in labels and abs(one.x - point.x) < 40]
        labels[point.number] = max([point.y + 4, *(y + 13 for y in near)])
    return tuple(replace(point, label_y=labels[point.number]) for point in placed)


def _step(largest: int) -> int:
    """A round number of which three to six make up the largest."""
    unit = int(10 ** (len(str(largest)) - 1))
    for part in (unit // 5, unit // 2, unit, 2 * unit, 5 * unit):
        if part and largest / part <= 6:
            return part
    return 10 * unit


def _x(value: float, top: float) -> float:
    return round(60 + 370 * value / top, 1)


def _y(share: float) -> float:
    return round(240 - 220 * share, 1)
