"""A small network's work orders made by hand, and the work orders of a whole resize."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bot_onnx
from bot_onnx import _engine
from bot_onnx._align import align
from bot_onnx._learn.materialise import Materialiser
from bot_onnx._learn.starts import MethodStarts
from bot_onnx._resample import make_options
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._structure import Direction, TensorKind
from bot_onnx._surgery.execute import produce, resampled
from bot_onnx._surgery.types import StackPlan

Array = NDArray[Any]

LAYERS = 3, 2


class Plain:
    """A source that no alignment touches."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors

    def read(self, name: str) -> Array:
        return self._tensors[name]

    whole = read

    def whole_energy(self, name: str) -> float:
        return float(np.square(self._tensors[name]).sum())

    def cut(self, name: str, axis: int, leaf: str) -> Array | None:
        return None


class Hand:
    """A residual network of an embedding ``[5, h]`` and layers ``h -> n -> h``, biases on n.

    Attributes:
        tensors: float64 by name. plans: of its four stacks, to other sizes. dims: their (source, target) sizes.
        base: what a method makes of them.
    """

    def __init__(
        self, hidden: tuple[int, int], inner: tuple[int, int], layers: tuple[int, int] = LAYERS, **options: Any
    ) -> None:
        self.dims = {"h": hidden, "n": inner}
        h = Axis("leaf", *hidden, "hidden", dim="h")
        n = Axis("leaf", *inner, "intermediate", dim="n")
        words = Axis("leaf", 5, 5, "vocab", dim="v")
        rng = np.random.default_rng(0)
        self.tensors: dict[str, Array] = {}
        self.plans: tuple[StackPlan, ...] = ()
        made: tuple[tuple[str, TensorKind, tuple[Axis, ...], tuple[Direction, ...]], ...] = (
            ("embedding", "embedding", (words, h), ("index", "out")),
            ("up", "matrix", (h, n), ("in", "out")),
            ("bias", "bias", (n,), ("out",)),
            ("down", "matrix", (n, h), ("in", "out")),
        )
        for name, kind, axes, ways in made:
            counts = (1, 1) if name == "embedding" else layers
            work = StackTask(
                name, name, kind, axes, ways, counts, layers, writes_residual=name == "down", residual="pre-norm"
            )
            names = [tuple(f"{name}.{layer}" for layer in range(count)) for count in counts]
            self.plans += (StackPlan(work, names[0], tuple(f"new.{each}" for each in names[1]), "FLOAT"),)
            self.tensors |= {each: rng.standard_normal(work.source_shape) for each in names[0]}
        self.options = make_options("bot", **options)
        self.base = {
            name: np.asarray(array, np.float32)
            for plan in self.plans
            for name, (array,) in zip(
                plan.targets, resampled((plan,), "bot", 0, self.options, self.tensors.__getitem__, np), strict=True
            )
        }

    def materialiser(self, *, mix: bool = False) -> Materialiser:
        shapes = {name: array.shape for name, array in self.base.items()}
        chains = {plan.task.stack: "layers" for plan in self.plans[1:]}
        starts = MethodStarts("bot", self.options, 0)
        return Materialiser(self.plans, self.dims, chains, Plain(self.tensors), starts, self.base, shapes, mix=mix)


def materialised(
    path: Path, spec: dict[str, Any], out: Path, monkeypatch: pytest.MonkeyPatch, **request: Any
) -> tuple[Materialiser, dict[str, Array]]:
    """The operators of a resize before they are trained, and what its method makes."""
    found: list[tuple[Materialiser, dict[str, Array]]] = []

    def look(prepared: Any, options: Any, asked: Any, *, xp: Any, **_: Any) -> Any:
        base, plan = dict(produce(prepared, options, xp=xp)), prepared.plan
        structure = prepared.alignment.structure
        made = Materialiser(
            plan.stacks,
            {dim.id: (dim.source, dim.target) for dim in plan.dims},
            {stack.id: stack.chain for stack in structure.stacks if stack.chain and not stack.shared},
            align(prepared.alignment, prepared.tensors),
            MethodStarts(plan.method, options, plan.seed),
            base,
            {name: stack.task.target_shape for stack in plan.stacks for name in stack.targets},
            mix=False,
        )
        found.append((made, base))
        return base.items(), None

    monkeypatch.setattr(_engine, "tensors_of", look)
    bot_onnx.open(path).resize(bot_onnx.ResizeRequest(spec, against=False, **request), out)
    return found[0]
