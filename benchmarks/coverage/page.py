"""The page ``docs/coverage.md``, and the summary on the terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from benchmarks.coverage.case import SUITES, TARGETS, Row

#: Order of the outcomes in summaries.
STATUSES = ("equal", "frozen", "refused", "wrong", "failed", "timeout", "not exportable")

_TITLES = {
    "listed": "Listed architectures",
    "transformers": "Families of transformers",
    "timm": "Families of timm",
    "forms": "Forms of files",
    "real": "Files from the world",
}

_INTRO = """\
# Coverage: what can be resized

Every network below is built small with random weights, exported, and resized by bot-onnx. Then it is built natively at
the target size, exported by the same exporter, given our weights in order of use, and both files run in onnxruntime
at two batch and sequence sizes.

* **equal**: all outputs agree to 1e-3 of each output's largest value; tables that no training makes (rotary
  frequencies, position ids, masks) agree by themselves. Where a library cannot build the target (marked *growth*) the
  proof is another: the file passes its own checks, and the network grown to twice the width by exact duplication
  computes what it did.
* **frozen**: refused, or left at its size, because of dims that cannot be resized. **refused**: for another reason.
  Nothing is written in either case but what the file then says of itself.
* **wrong**: a file came out that computes something else. **failed**: an error that nobody planned, or one that
  bot-onnx's own verification caught before the file got its name.
* **proven**: cells whose plan was proven before anything was written (see proof.md), of those that were planned.
* **not exportable**: PyTorch cannot export the network, or onnxruntime cannot run the export. These do not count.
"""


def share(rows: Iterable[Row]) -> tuple[int, int]:
    """How many rows are equal, of how many that could be exported."""
    counted = [row for row in rows if row.status != "not exportable"]
    return sum(row.status == "equal" for row in counted), len(counted)


def summary(rows: Sequence[Row]) -> Table:
    """Counts by suite and outcome, for the terminal."""
    table = Table(title="coverage")
    table.add_column("suite")
    for status in STATUSES:
        table.add_column(status, justify="right")
    table.add_column("share", justify="right")
    for suite, found in _by_suite(rows).items():
        counts = Counter(row.status for row in found)
        right, counted = share(found)
        table.add_row(suite, *(str(counts[s] or "") for s in STATUSES), _percent(right, counted))
    return table


def _by_suite(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {suite: found for suite in SUITES if (found := [row for row in rows if row.suite == suite])}


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def render(rows: Sequence[Row], *, command: str, environment: Mapping[str, object], engine: str, cells: int = 0) -> str:
    """The whole page.

    Args:
        rows: one a cell.
        command: that made them.
        environment: machine and versions.
        engine: hash of the source; rows of another are counted and said.
        cells: how many there are; those not measured yet are counted and said.
    """
    parts = [_INTRO, "## Shares\n", _shares(rows)]
    slowest = max(rows, key=lambda row: row.seconds, default=None)
    if cells > len(rows):
        parts.append(f"{len(rows)} of {cells} cells have been measured; the shares are of these.\n")
    if slowest is not None:
        older = sum(row.engine != engine for row in rows)
        parts.append(
            f"Slowest cell (processor time of resize and comparison, without exports): {slowest.case}, "
            f"{slowest.exporter}, {slowest.target}: {slowest.seconds:.1f} s.\n"
        )
        if older:
            parts.append(f"{older} of {len(rows)} rows were measured with an earlier state of the source.\n")
    machine = ", ".join(f"{name} {value}" for name, value in environment.items())
    parts.append(f"Command: `{command}`. Machine: {machine}.\n")
    for suite, found in _by_suite(rows).items():
        parts += [f"## {_TITLES[suite]}\n", _cells(found), _reasons(found)]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _shares(rows: Sequence[Row]) -> str:
    lines = [
        f"| suite | cells | {' | '.join(STATUSES)} | share equal | families equal | proven |",
        "|---|" + "---:|" * (len(STATUSES) + 4),
    ]
    for suite, found in _by_suite(rows).items():
        counts = Counter(row.status for row in found)
        right, counted = share(found)
        names = {row.case for row in found if row.status != "not exportable"}
        whole = {
            name for name in names if all(r.status in ("equal", "not exportable") for r in found if r.case == name)
        }
        figures = " | ".join(str(counts[status]) for status in STATUSES)
        lines.append(
            f"| {_TITLES[suite]} | {len(found)} | {figures} | {_percent(right, counted)} "
            f"| {len(whole)} of {len(names)} ({_percent(len(whole), len(names))}) | {_proven(found)} |"
        )
    return "\n".join(lines) + "\n"


def _proven(rows: Sequence[Row]) -> str:
    """How many plans were proven, of those that had something to prove."""
    planned = [row for row in rows if row.proven not in ("", "nothing to prove")]
    return f"{sum(row.proven == 'proven' for row in planned)} of {len(planned)}"


def _cells(rows: Sequence[Row]) -> str:
    targets = [target for target in TARGETS if any(row.target == target for row in rows)]
    table: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        table.setdefault((row.case, row.exporter), {})[row.target] = row
    lines = [f"| network | exporter | {' | '.join(targets)} |", "|---|---|" + "---|" * len(targets)]
    for (case, exporter), found in table.items():
        cells = [_cell(found[target]) if target in found else "" for target in targets]
        lines.append(f"| {case} | {exporter} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    text = row.status if row.status in ("equal", "not exportable") else f"**{row.status}**"
    return f"{text} (growth)" if row.proof == "growth" else text


def _reasons(rows: Sequence[Row]) -> str:
    """Why, for all that is not equal; cells that say the same are told together."""
    grouped: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.status != "equal":
            grouped.setdefault((row.case, row.status, row.detail), []).append(row)
    if not grouped:
        return ""
    lines = ["Why not:\n"]
    for (case, status, detail), found in grouped.items():
        places = ", ".join(dict.fromkeys(f"{row.exporter} {row.target}" for row in found))
        clean = re.sub(r"/\S*/(?=[\w.-]+\.onnx\b)", "", " ".join(detail.replace("|", "/").split()))  # folders of files
        lines.append(f"* {case} ({places}): {status}: {clean}")
    return "\n".join(lines) + "\n"
