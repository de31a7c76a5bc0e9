"""What a dim is made of, and whether it can be resized."""

from __future__ import annotations

from collections.abc import Mapping

from bot_onnx._structure import Dim, Role
from bot_onnx.errors import said

COUNT_REASON = "a count, never resized"


def composition(dim: Dim, dims: Mapping[str, Dim]) -> str:
    """The parts with their sizes: ``heads 12 x head_dim 64``, ``q 64 + k 64``; empty for a leaf."""
    sign = " x " if dim.kind == "product" else " + "
    return sign.join(f"{dims[part].name} {dims[part].size}" for part in dim.parts)


def fixed_reason(dim: Dim, dims: Mapping[str, Dim]) -> str | None:
    """Why the dim cannot be resized, or None if it can.

    A composite can be if one of its parts can, however deep.
    """
    if dim.frozen is not None:
        return said(dim.frozen)
    if dim.role == Role.COUNT:
        return COUNT_REASON
    if dim.parts and all(fixed_reason(dims[part], dims) is not None for part in dict.fromkeys(dim.parts)):
        return "none of its parts can be"
    return None
