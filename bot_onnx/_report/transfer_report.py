"""The report of weights that went into a framework's file or came from it: every key, and how it was found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from math import prod
from typing import Any

from rich.console import Group

from bot_onnx._checkpoint.export import Transfer
from bot_onnx._report.layout import cell, facts, table

_MEANING = {
    "name": "the exporter kept the name",
    "scope": "from the place of the node that uses it",
    "layer": "as in the other layers",
    "twin": "as the embedding whose transpose it is",
    "value": "the checkpoint holds the same values",
    "shape": "the only key that is left for it",
    "tied": "the checkpoint holds it under this key too",
    "source": "as in the source",
    "given": "given",
    "folded": "the exporter computed a tensor from it and others",
}

_SHOWN = 6  #: keys that a line names


def transfer_report(transfer: Transfer) -> Group:
    """Everything that ``export`` and ``import`` show, as one renderable."""
    counts = Counter(entry.how[0] for entry in transfer.entries)
    header = facts(
        {
            "output": transfer.output,
            "config": transfer.config,
            "entries": f"{len(transfer.entries)}, {sum(prod(entry.shape) for entry in transfer.entries):,} numbers",
            **{f"by {how}": f"{counts[how]}: {meaning}" for how, meaning in _MEANING.items() if counts[how]},
        }
    )
    entries = table("entries", ["key", "shape!", "type!", "found by!", "tensor"])
    for entry in transfer.entries:
        shape = " x ".join(map(str, entry.shape)) or "number"
        turned = " (transposed)" if entry.transposed else ""
        found, tensors = ", ".join(dict.fromkeys(entry.how)), ", ".join(entry.tensors)
        entries.add_row(cell(entry.key), cell(shape), cell(entry.dtype), cell(found), cell(tensors + turned))
    notes = [cell(f"left out: {name}: {why}") for name, why in transfer.left_out.items()]
    if transfer.absent:
        more = f" and {len(transfer.absent) - _SHOWN} more" if len(transfer.absent) > _SHOWN else ""
        notes.append(cell(f"no place in the graph: {', '.join(transfer.absent[:_SHOWN])}{more}"))
    notes += [cell(f"note: {note}") for note in transfer.notes]
    return Group(header, "", entries, "", *notes)


def transfer_json(transfer: Transfer) -> dict[str, Any]:
    """The same as a JSON value."""
    plain = asdict(transfer)
    return plain | {
        "output": str(transfer.output),
        "config": None if transfer.config is None else str(transfer.config),
        "entries": [asdict(entry) for entry in transfer.entries],
    }
