"""Example inputs from a short description: a kind, then a size or a symbol for every axis.

``{"input_ids": ["ids", "batch", "sequence"], "pixel_values": ["float", "batch", 3, 32, 32]}``. Kinds: ``float``
(Normal(0, 1)), ``ids`` (integers 1 … 9), ``mask`` (integers, all 1), ``bool`` (all true).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

#: Sizes of open axes in the examples, all different, so that an exporter takes no two for one.
SYMBOLS = {"batch": 2, "sequence": 9, "target": 7, "past": 5, "total": 14, "time": 40, "samples": 1600, "images": 3}


def examples(inputs: Mapping[str, Sequence[Any]]) -> tuple[tuple[torch.Tensor, ...], dict[str, dict[int, str]]]:
    """Tensors in the order of ``inputs``, and the open axes of each by name."""
    generator = torch.Generator().manual_seed(1)
    tensors, axes = [], {}
    for name, (kind, *dims) in inputs.items():
        shape = [SYMBOLS[dim] if isinstance(dim, str) else int(dim) for dim in dims]
        tensors.append(_example(kind, shape, generator))
        axes[name] = {axis: dim for axis, dim in enumerate(dims) if isinstance(dim, str)}
    return tuple(tensors), axes


def _example(kind: str, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    if kind == "float":
        return torch.randn(shape, generator=generator)
    if kind == "ids":
        return torch.randint(1, 10, shape, generator=generator)
    if kind == "mask":
        return torch.ones(shape, dtype=torch.int64)
    if kind == "bool":
        return torch.ones(shape, dtype=torch.bool)
    raise ValueError(f"kind {kind!r}: use float, ids, mask or bool")
