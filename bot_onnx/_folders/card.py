"""The card of a folder that was written: where the model comes from, what changed, what was checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot_onnx._folders.sizes import Sizes
from bot_onnx._surgery.types import Plan
from bot_onnx._verify import VerifyReport

_FRONT = re.compile(r"\A\ufeff?---\r?\n(.*?)\r?\n---\s*(\r?\n|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a folder comes from.

    Attributes:
        source: name of the source's folder. model: place of the model, in both. sha256: of the source's model.
        version: of the tool.
    """

    source: str
    model: str
    sha256: str
    version: str


def licence_lines(card: str) -> list[str]:
    """The lines of a card's front matter that tell of its licence, as they stand."""
    front = _FRONT.match(card)
    kept: list[str] = []
    taking = False
    for line in front.group(1).splitlines() if front is not None else ():
        if not line.startswith((" ", "\t", "-")):
            taking = line.startswith(("license:", "license_name:", "license_link:"))
        if taking:
            kept.append(line)
    return kept


def card(
    lineage: Lineage,
    plan: Plan,
    report: VerifyReport,
    *,
    licence: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The text of the card.

    Args:
        lineage: where it comes from. plan, report: what was done and checked.
        licence: lines for the front matter. notes: what the configs cannot say, and what did not go along.
    """
    base = lineage.source.removeprefix("hf://").partition("@")[0]
    front = [*licence, *([f"base_model: {base}"] if lineage.source.startswith("hf://") else []), "tags:", "- onnx"]
    sections = [
        "\n".join(["---", *front, "- bot-onnx", "---"]),
        f"# {plain(lineage.source)}, resized",
        f"`{lineage.model}` was made from that of {plain(lineage.source)} by bot-onnx {lineage.version}: its weights "
        "were resampled to other sizes.",
        _lineage(lineage, plan),
        "## Sizes\n\n" + _sizes(plan),
        "## Function\n\n" + _function(plan),
        "## Checks\n\n" + _checks(report),
    ]
    if not licence:
        sections.append("## Licence\n\nThe card of the source names none: ask its makers.")
    if notes:
        sections.append("## To know\n\n" + "\n".join(f"* {plain(note)}" for note in notes))
    return "\n\n".join(sections) + "\n"


def _lineage(lineage: Lineage, plan: Plan) -> str:
    options = ", ".join(f"{key} {value}" for key, value in plan.options.items() if value is not None)
    rows: Mapping[str, Any] = {
        "source": lineage.source,
        "SHA-256 of its model": lineage.sha256,
        "method": f"{plan.method} ({options})" if options else plan.method,
        "alignment": plan.align,
        "seed": plan.seed,
        "spec": plan.name or "sizes given one by one",
        "tool": f"bot-onnx {lineage.version}",
    }
    return table(("", ""), [(key, plain(str(value))) for key, value in rows.items()])


def _sizes(plan: Plan) -> str:
    rows = [(key, *moves) for key, moves in Sizes.of(plan).told().items()]
    totals = {"parameters": plan.parameters, "bytes": plan.size_bytes}
    rows += [(key, f"{before:,}", f"{after:,}") for key, (before, after) in totals.items()]
    return table(("", "before", "after"), rows)


def _function(plan: Plan) -> str:
    if plan.promise.kept is None:
        return f"Nothing is promised of the outputs{_because(plan)}."
    if plan.promise.kept:
        only = "" if plan.promise.outputs is None else f" ({', '.join(map(_code, plan.promise.outputs))})"
        return f"The outputs{only} are those of the source, through the operators that were applied to their axes."
    return f"Another function than the source's{_because(plan)}. Train it before it is used."


def _because(plan: Plan) -> str:
    return f": {plain(plan.promise.why)}" if plan.promise.why else ""


def _checks(report: VerifyReport) -> str:
    rows = [(plain(check.name), check.status, plain(check.detail)) for check in report.checks]
    return table(("check", "result", "seen"), rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(value: str) -> str:
    """A text on one line that starts no markup of its own."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(value.split()))


def _code(place: str) -> str:
    return f"`{' '.join(place.split()).replace('`', '')}`"
