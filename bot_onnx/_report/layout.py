"""The looks that all tables share, and text that is safe to print.

Names come from model files, so they are never read as markup, and control characters in them are shown, not sent to
the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


def printable(text: str) -> str:
    """Show control characters by their escape codes, all else as it is."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def cell(value: object, style: str = "") -> Text:
    """A table cell or line from untrusted text; line breaks in it become visible."""
    return Text(printable(str(value)), style=style)


def table(title: str, columns: Iterable[str]) -> Table:
    """An empty table in the common style.

    Args:
        title: above it, at the left.
        columns: headers; one that ends in ``>`` is right-aligned and never wrapped, one that ends in ``!`` is never
            wrapped. All the others fold where the terminal is narrow, so nothing is ever cut off.
    """
    made = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for column in columns:
        right, fixed = column.endswith(">"), column.endswith(("!", ">"))
        name = column.rstrip(">!")
        made.add_column(name, justify="right" if right else "left", no_wrap=fixed, overflow="fold")
    return made


def facts(rows: Mapping[str, object]) -> Table:
    """A list of ``label  value`` lines; rows whose value is None are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in rows.items():
        if value is not None:
            grid.add_row(cell(label), value if isinstance(value, Text) else cell(value))
    return grid


def plural(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Fitting:
    """One of two tables with the same content: the wide one where it fits without folding, else the narrow one."""

    _UNBOUNDED = 100_000

    def __init__(self, wide: Table, narrow: Table) -> None:
        """Keep both."""
        self.wide, self.narrow = wide, narrow

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose by the width there is."""
        needed = Measurement.get(console, options.update(width=self._UNBOUNDED), self.wide).maximum
        yield self.wide if needed <= options.max_width else self.narrow
