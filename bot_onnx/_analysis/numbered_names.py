"""Names that count: ``h.4.ln`` and ``h.5.ln`` continue as ``h.6.ln``."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Numbering:
    """Names that count: ``prefix``, a number that grows by ``step`` from layer to layer, ``suffix``."""

    prefix: str
    suffix: str
    base: int  # number of layer 0
    step: int

    def name(self, layer: int) -> str:
        """Name of a layer's member."""
        return f"{self.prefix}{self.base + self.step * layer}{self.suffix}"

    def number(self, name: str) -> int | None:
        """The number in ``name``, or None where it is another kind of name."""
        match = re.fullmatch(rf"{re.escape(self.prefix)}(\d+){re.escape(self.suffix)}", name)
        return int(match[1]) if match else None

    @classmethod
    def between(cls, before: str, after: str, layer: int, apart: int = 1) -> Numbering | None:
        """How two names count up, or None where they differ in more or other than one number.

        Args:
            before: name of ``layer``. after: name of the layer ``apart`` (at least 1) behind it.
        """
        left, right = re.split(r"(\d+)", before), re.split(r"(\d+)", after)
        different = [i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b]
        if len(left) != len(right) or len(different) != 1 or different[0] % 2 == 0:
            return None
        index = different[0]
        step, rest = divmod(int(right[index]) - int(left[index]), apart)
        if step <= 0 or rest:
            return None
        return cls("".join(left[:index]), "".join(left[index + 1 :]), int(left[index]) - step * layer, step)
