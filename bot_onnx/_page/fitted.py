"""What ``fit --json`` found, read back to be drawn: energy kept over the size of the file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bot_onnx._report.fit_report import sizes_text
from bot_onnx.errors import SpecError


@dataclass(frozen=True, slots=True)
class Found:
    """One of the networks: the source or a candidate.

    Attributes:
        label: its sizes. size_bytes: of its file. parameters, macs: its costs.
        kept: share of the energy that is kept, 0 to 1. seconds: of a run, None: not measured.
        pick: whether it is the one that was proposed.
    """

    label: str
    size_bytes: int
    parameters: int
    macs: int
    kept: float
    seconds: float | None
    pick: bool = False


@dataclass(frozen=True, slots=True)
class Fitted:
    """All of them, the source first. ``path`` is how the source was called."""

    path: str
    found: tuple[Found, ...]


def read_fit(path: Path) -> Fitted:
    """Read what ``bot-onnx fit --json`` printed.

    Raises:
        SpecError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        source, pick = told["source"], told["pick"]
        entries = [_found("the source", source, 1.0)]
        for one in told["candidates"]:
            entries.append(_found(sizes_text(dict(one["spec"])), one, one["kept"], pick=one["spec"] == pick))
        return Fitted(str(source["path"]), tuple(entries))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SpecError(f"--fit {path}: not what 'bot-onnx fit MODEL --json' prints ({error!r:.80})") from error


def _found(label: str, entry: Any, kept: Any, *, pick: bool = False) -> Found:
    costs, seconds = entry["costs"], entry["seconds"]
    numbers = [entry["size_bytes"], costs["parameters"], costs["macs"]]
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers):
        raise ValueError("sizes are whole numbers")
    share = _number(kept)
    if not 0 <= share <= 1:
        raise ValueError("a share is between 0 and 1")
    stored, parameters, macs = cast(list[int], numbers)
    return Found(label, stored, parameters, macs, share, None if seconds is None else _number(seconds), pick)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError("a number is finite and not negative")
    return float(value)
