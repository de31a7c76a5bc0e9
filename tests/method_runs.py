"""What the tests of single resampling methods share: tasks made by hand, and small models resized end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import bot_onnx
from bot_onnx._resample import get_method, make_options
from bot_onnx._runs.runtime import session
from bot_onnx._stack.types import Axis, StackTask
from tests.zoo.architectures import base_size, feeds
from tests.zoo.export import cached_export


def leaf(source: int, target: int, role: str = "free", dim: str = "") -> Axis:
    return Axis("leaf", source, target, role, dim=dim)


def product(*parts: Axis, **more: Any) -> Axis:
    sizes = [int(np.prod([getattr(part, side) for part in parts])) for side in ("source", "target")]
    return Axis("product", *sizes, parts=parts, **more)


def concat(*parts: Axis, **more: Any) -> Axis:
    return Axis("concat", sum(p.source for p in parts), sum(p.target for p in parts), parts=parts, **more)


def task(kind: str, axes: tuple[Axis, ...], directions: tuple[str, ...], **more: Any) -> StackTask:
    return StackTask("s0", "w", kind, axes, directions, **more)  # type: ignore[arg-type]


def run(method: str, work: StackTask, arrays: Any, *, xp: Any = np, seed: int = 0, **options: Any) -> list[Any]:
    source = [lambda layer=layer: layer for layer in arrays]
    return list(get_method(method).resample(work, source, make_options(method, **options), xp=xp, seed=seed))


def resized(
    arch: str, spec: dict[str, Any], folder: Path, method: str, **options: Any
) -> tuple[list[np.ndarray], list[np.ndarray], Path]:
    """Outputs of a model of the zoo before and after a resize, on the same inputs, and the resized file."""
    source, target = cached_export(arch, base_size(arch), "torchscript17"), folder / "out.onnx"
    bot_onnx.resize(source, spec, target, method=method, options=options, device="cpu", against=False)
    values = feeds(arch, base_size(arch), 2, 12)
    before, after = (session(path.read_bytes()).run(None, values) for path in (source, target))
    return before, after, target
