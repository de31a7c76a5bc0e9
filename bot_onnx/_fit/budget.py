"""What a device allows, and how it is written: ``20MB``, ``10M``, ``1G``, ``5ms``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from bot_onnx.errors import SpecError

_BYTES: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_COUNTS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_UNITS: Final[Mapping[str, Mapping[str, float]]] = {
    "size": _BYTES,
    "params": _COUNTS,
    "macs": _COUNTS,
    "latency": _SECONDS,
}
_EXAMPLES: Final = {"size": "20MB", "params": "10M", "macs": "1G", "latency": "5ms"}


@dataclass(frozen=True, slots=True)
class Budget:
    """What must not be exceeded; None: there is no limit.

    Attributes:
        size: bytes of the file, weights included.
        params: number of floating-point weights.
        macs: multiply-accumulates of one run.
        latency: seconds of one run.
        quantize: ``int8``: matrices, kernels and embeddings count a byte a weight.
    """

    size: float | None = None
    params: float | None = None
    macs: float | None = None
    latency: float | None = None
    quantize: Literal["int8"] | None = None

    def __post_init__(self) -> None:
        for name, value in self.limits().items():
            if not math.isfinite(value) or value <= 0:
                raise SpecError(f"--max-{name} must be above 0, not {value:g}")
        if not self.limits():
            raise SpecError(
                "no budget is given: say --max-size 20MB, --max-params 10M, --max-macs 1G or --max-latency 5ms"
            )

    def limits(self) -> dict[str, float]:
        """The limits there are, by name."""
        found = {"size": self.size, "params": self.params, "macs": self.macs, "latency": self.latency}
        return {name: value for name, value in found.items() if value is not None}

    def used(self, spent: Mapping[str, float | None]) -> float:
        """The largest share of a limit that is spent, of what is known; the budget is met where it is at most 1."""
        return max(
            (value / limit for name, limit in self.limits().items() if (value := spent[name]) is not None), default=0.0
        )


def quantity(name: str, text: str) -> float:
    """Read what a limit is: bytes, numbers or seconds.

    Args:
        name: ``size``, ``params``, ``macs`` or ``latency``.
        text: a number with a unit.

    Raises:
        SpecError: it is none; the message gives an example.
    """
    units = _UNITS[name]
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*", text)
    unit = found[2].lower() if found else ""
    if found is None or unit not in units:
        known = ", ".join(filter(None, units))
        raise SpecError(f"--max-{name} {text}: give a number and a unit ({known}), such as {_EXAMPLES[name]}")
    return float(found[1]) * units[unit]
