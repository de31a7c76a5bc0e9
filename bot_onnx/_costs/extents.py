"""Sizes of axes as functions of the sizes of dims: what a plan makes of a shape, without a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

from bot_onnx._analysis.passes import Analysis
from bot_onnx._axes.dims import Dim, MaybeDim


@dataclass(frozen=True, slots=True)
class Form:
    """How the size of an axis follows from those of dims.

    Attributes:
        kind: ``number`` (it stays), ``dim``, or a ``product`` or ``concat`` of parts.
        size: in the source. dim: id in the structure.
    """

    kind: Literal["number", "dim", "product", "concat"]
    size: int
    dim: str = ""
    parts: tuple[Form, ...] = ()

    def at(self, sizes: Mapping[str, int]) -> int:
        """The size where dims have ``sizes``, by id."""
        if self.kind == "product":
            return prod(part.at(sizes) for part in self.parts)
        if self.kind == "concat":
            return sum(part.at(sizes) for part in self.parts)
        return sizes[self.dim] if self.kind == "dim" else self.size


@dataclass(frozen=True, slots=True)
class Extent:
    """An axis as it was seen at some size of the inputs.

    Attributes:
        seen: its size there, with the source's dims.
        form: of its size as it was analysed, at other sizes of the inputs maybe.
    """

    seen: int
    form: Form

    def at(self, sizes: Mapping[str, int]) -> int:
        """The size where dims have ``sizes``, by id, at the same size of the inputs.

        What is set at run time is a factor (rows of a batch, times heads) or a summand (tokens behind a class token):
        so a change of the dims is a factor, or a difference.
        """
        new = self.form.at(sizes)
        if new == self.form.size or not self.form.size:
            return self.seen
        if self.form.kind == "product":
            return self.seen * new // self.form.size
        return self.seen + new - self.form.size


def form_of(analysis: Analysis, dim: MaybeDim) -> Form:
    """How the size of a dim follows from those of the structure's dims, in the first of the two runs."""
    table = analysis.context.table
    if dim is None:
        return Form("number", 1)
    found: Dim = table.find(dim)
    size, composite = table.size(found)[0], table.composite(found)
    if composite is not None:
        return Form(composite.kind, size, parts=tuple(form_of(analysis, part) for part in composite.parts))
    ident = analysis.ids.get(found)
    known = None if ident is None else analysis.structure.dims[ident]
    return Form("number", size) if known is None or known.size != size else Form("dim", size, dim=known.id)
