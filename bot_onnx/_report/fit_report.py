"""The table of ``fit``: candidates within a budget, the pick first."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType

from bot_onnx._fit import Budget, Candidate, Fit
from bot_onnx._report.costs_report import inputs_text
from bot_onnx._report.layout import cell, facts, plural, table
from bot_onnx._report.units import count, seconds, size
from bot_onnx._report.values import plain

PACKED = (
    "Sizes count a byte a weight of matrices, kernels and embeddings, as int8 quantisation leaves them; what is "
    "written has the types of the source."
)


def fit_report(fit: Fit) -> Group:
    """The budget, the source, the candidates."""
    parts: list[RenderableType] = [_header(fit), "", _candidates(fit)]
    parts += [cell(f"note: {note}") for note in ((PACKED,) if fit.budget.quantize else ()) + fit.notes]
    return Group(*parts)


def budget_text(budget: Budget) -> str:
    """The limits, as one reads them."""
    told = {
        "size": lambda value: f"file {size(round(value))}",
        "params": lambda value: f"{count(round(value))} parameters",
        "macs": lambda value: f"{count(round(value))} MACs",
        "latency": lambda value: f"{seconds(value)} a run",
    }
    return ", ".join(told[name](value) for name, value in budget.limits().items())


def _header(fit: Fit) -> RenderableType:
    source = fit.source
    timed = source.seconds is not None
    return facts(
        {
            "model": source.path,
            "budget": f"at most {budget_text(fit.budget)}",
            "MACs": f"at {inputs_text(source.costs)}",
            "latency": f"median in onnxruntime, {plural(fit.threads, 'thread')}, random weights" if timed else None,
        }
    )


def _candidates(fit: Fit) -> RenderableType:
    timed = fit.source.seconds is not None
    columns = [
        "",
        "sizes",
        "file>",
        "parameters>",
        "MACs>",
        *(["latency>"] if timed else []),
        "energy kept>",
        "of budget>",
    ]
    made = table("Candidates", columns)
    source = fit.source
    time = [seconds(source.seconds)] if source.seconds is not None else []
    numbers = (size(source.size_bytes), count(source.costs.parameters), count(source.costs.macs))
    spent = {"size": source.size_bytes, "params": source.costs.parameters, "macs": source.costs.macs}
    used = fit.budget.used({**spent, "latency": source.seconds})
    made.add_row("", "the source", *numbers, *time, "100 %", f"{used * 100:.1f} %")
    made.add_section()
    for candidate in fit.candidates:
        made.add_row(*_row(candidate, pick=candidate is fit.pick, timed=timed))
    return made


def _row(candidate: Candidate, *, pick: bool, timed: bool) -> list[RenderableType]:
    costs = candidate.costs
    return [
        "pick" if pick else "",
        cell(sizes_text(candidate.spec)),
        size(candidate.size_bytes),
        count(costs.parameters),
        count(costs.macs),
        *(["-" if candidate.seconds is None else seconds(candidate.seconds)] if timed else []),
        f"{candidate.kept * 100:.1f} %",
        f"{candidate.used * 100:.1f} %",
    ]


def sizes_text(spec: dict[str, Any]) -> str:
    """A spec in a line; of many dims the first ones."""
    parts: list[str] = []
    for key, value in spec.items():
        if not isinstance(value, dict):
            parts.append(f"{key} {value}")
            continue
        entries = [f"{name} {extent}" for name, extent in value.items()]
        if key == "layers" and len(value) == 1:
            entries = [f"layers {extent}" for extent in value.values()]
        more = [f"and {len(entries) - 4} more"] if len(entries) > 4 else []
        parts += [*entries[:4], *more]
    return ", ".join(parts)


def fit_json(fit: Fit) -> dict[str, Any]:
    """What was found; ``pick`` is the spec of the first candidate."""
    return {**plain(fit), "pick": fit.pick.spec}
