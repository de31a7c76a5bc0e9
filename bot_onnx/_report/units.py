"""Numbers as people read them: counts, bytes, seconds, changes."""

from __future__ import annotations

import math

_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str | None:
    for factor, unit in units:
        # 999,950 would print as 1000.0 k: it belongs to the next unit.
        if value >= factor * 0.99995:
            number = value / factor
            return f"{number:.{2 if number < 9.995 else 1}f} {unit}"
    return None


def count(value: int) -> str:
    """A number of things, in thousands, millions…

    Examples:
        >>> count(302154)
        '302.2 k'
        >>> count(96)
        '96'
    """
    return _scaled(value, _COUNTS) or str(value)


def size(value: int) -> str:
    """A number of bytes in decimal units.

    Examples:
        >>> size(1238662)
        '1.24 MB'
    """
    return _scaled(value, _BYTES) or f"{value} B"


def seconds(value: float) -> str:
    """A time given in seconds, in the unit that suits it.

    Examples:
        >>> seconds(0.00123), seconds(75)
        ('1.2 ms', '1 min 15 s')
    """
    if value < 0.9995:
        return f"{value * 1e3:.{1 if value < 0.09995 else 0}f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def change(before: float, after: float) -> str:
    """The relative change in per cent, or as a factor from ten on.

    Examples:
        >>> change(100, 25), change(2, 4), change(1, 12), change(3, 3)
        ('-75 %', '+100 %', 'x 12', '=')
    """
    if after == before:
        return "="
    if before <= 0:
        return "new"
    ratio = after / before
    if ratio >= 10:
        return f"x {ratio:.3g}"
    percent = (ratio - 1) * 100
    text = f"{percent:+.0f} %" if abs(percent) >= 0.95 else f"{percent:+.1g} %"
    # A thousandth left over must not read as nothing left.
    return text if after == 0 or text != "-100 %" else f"x {ratio:.2g}"


def arrow(before: object, after: object) -> str:
    """``before -> after``, or one of them where they are the same."""
    return str(after) if before == after else f"{before} -> {after}"


def number(value: float | None, digits: int = 3) -> str:
    """A measured number with a few significant digits; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if math.isfinite(value) else str(value)
