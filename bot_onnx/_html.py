"""Small inline tables for notebooks. Every text is escaped: names come from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_CELL = "padding:2px 8px;text-align:left;vertical-align:top;border-bottom:1px solid #ddd"
LONGEST = 40  #: rows that a table shows


def text(value: object) -> str:
    """A value as text of HTML: escaped, control characters by their codes."""
    return escape("".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(value)))


def facts(title: str, rows: Mapping[str, object]) -> str:
    """A title, and a list of labels with values; what is None is left out."""
    lines = [f"<tr>{_cells((label, value), 'td')}</tr>" for label, value in rows.items() if value is not None]
    return _table(title, lines)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table under a title; of very many rows the first ones, and how many there are more. None: an empty cell."""
    every = list(rows)
    lines = [f"<tr>{_cells(columns, 'th')}</tr>", *(f"<tr>{_cells(row, 'td')}</tr>" for row in every[:LONGEST])]
    if len(every) > LONGEST:
        lines.append(f'<tr><td colspan="{len(columns)}">… {len(every) - LONGEST} more</td></tr>')
    return _table(title, lines)


def block(*parts: str) -> str:
    """Several of them as one."""
    return f"<div>{''.join(parts)}</div>"


def _cells(values: Iterable[object], tag: str) -> str:
    return "".join(f'<{tag} style="{_CELL}">{"" if value is None else text(value)}</{tag}>' for value in values)


def _table(title: str, lines: Iterable[str]) -> str:
    caption = f'<caption style="text-align:left;font-weight:bold">{text(title)}</caption>'
    return f'<table style="border-collapse:collapse;margin:4px 0">{caption}{"".join(lines)}</table>'
