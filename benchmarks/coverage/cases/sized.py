"""Cases whose native size follows from one factor on every channel count: ``width`` in the spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.coverage.case import Case, Recipe, Target
from benchmarks.coverage.cases.transformer import HUGGINGFACE, IMAGE

#: Factor on every width, by target.
FACTORS = {"smaller": 0.5, "larger": 2.0, "other": 0.75}


def sized(
    name: str,
    builder: str,
    options: Callable[[Callable[[int], int], int], Mapping[str, Any]],
    *,
    depth: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Case:
    """A case at width factors 0.5, 2 and 0.75.

    Args:
        name: of the case.
        builder: ``"module:function"``.
        options: from a function that scales a channel count, and a number of layers to add, to the builder's options.
        depth: the network is one chain of layers, and ``layers`` changes with the width: 4 layers become 2, 6, 3.
        extra: added to every spec.
    """
    layers = {"smaller": 2, "larger": 6, "other": 3}

    def recipe(factor: float, count: int) -> Recipe:
        return Recipe(builder, dict(options(lambda channels: int(channels * factor), count)))

    targets = {}
    for target, factor in FACTORS.items():
        count = layers[target] if depth else 4
        spec = {"width": factor} | ({"layers": count} if depth else {}) | dict(extra or {})
        targets[target] = Target(spec, recipe(factor, count))
    return Case(name, "listed", recipe(1.0, 4), targets)


def image_model(model: str, config: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Options of a transformers network for images of 32 x 32."""
    return {"model": model, "config": dict(config), "inputs": more.pop("inputs", IMAGE), **more}


__all__ = ["FACTORS", "HUGGINGFACE", "image_model", "sized"]
