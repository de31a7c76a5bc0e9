"""The ways to a smaller network that are compared: methods of this project, what people use instead, and chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bot_onnx
from benchmarks.real.network import Real


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a smaller network.

    Attributes:
        name: in the tables.
        make: (network, seed, output) -> None: writes the file.
        serves: whether it can be had of a network.
    """

    name: str
    make: Callable[[Real, int, Path], None]
    serves: Callable[[Real], bool] = lambda real: True


def _resized(real: Real, seed: int, output: Path, spec: Mapping[str, Any] | None = None, **arguments: Any) -> None:
    bot_onnx.resize(real.source, dict(spec or real.spec), output, seed=seed, force=True, against=False, **arguments)


def _way(name: str, serves: Callable[[Real], bool] = lambda real: True, **arguments: Any) -> Way:
    return Way(name, lambda real, seed, output: _resized(real, seed, output, **arguments), serves)


def _dropped(real: Real, seed: int, output: Path) -> None:
    assert real.dropped is not None
    _resized(real, seed, output, real.dropped)


def _samples(real: Real, seed: int, output: Path) -> None:
    _resized(real, seed, output, calibration=real.samples)


def _by_norms(real: Real, seed: int, output: Path) -> None:
    _resized(real, seed, output, {**real.spec, "keep": "energy"}, calibration=real.samples)


def _refitted(real: Real, seed: int, output: Path) -> None:
    _resized(real, seed, output, {**real.spec, "refit": "readers"}, calibration=real.samples)


def _activation(real: Real, seed: int, output: Path) -> None:
    spec = {**real.spec, "keep": "activation"}
    _resized(real, seed, output, spec, calibration=real.samples, align="select")


def _has_layers(real: Real) -> bool:
    return real.dropped is not None


WAYS: dict[str, Way] = {
    way.name: way
    for way in [
        Way("half the layers, nothing else", _dropped, _has_layers),
        _way("bot"),
        Way("bot, on samples", _samples),
        Way("bot, on samples, units by norms", _by_norms, lambda real: real.turned),
        Way("bot, on samples, readers refitted", _refitted),
        _way("bot, not turned", lambda real: real.turned, align="none"),
        Way("activation importance (as Minitron)", _activation),
        _way("weight selection, as published", method="ws", options={"preset": "published"}),
        _way("FRONT, as published", method="front", options={"preset": "published"}),
        _way("random", method="scratch"),
    ]
}
