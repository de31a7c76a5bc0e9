"""The space of a sweep: which combinations there are, and how a sampler of Optuna's draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from bot_onnx._resample import all_methods, get_method
from bot_onnx._sweep.types import Combination, Sampler, Value
from bot_onnx.errors import SpecError

_OPTION = "option "  # before the names of options among a trial's parameters


@dataclass(frozen=True, slots=True)
class Space:
    """Values to combine; an option counts for the methods that have it.

    Attributes:
        specs: labels. methods: names. options: values by the option's name.
        sampler: who draws.
    """

    specs: tuple[str, ...]
    methods: tuple[str, ...]
    options: Mapping[str, tuple[Value, ...]]
    sampler: Sampler = "grid"

    def check(self) -> None:
        """Refuse a space without a point, and an option that none of the methods has.

        Raises:
            SpecError: there is nothing to combine, or a value stands there twice.
            ResampleError: no such method.
        """
        axes = {"specs": self.specs, "methods": self.methods, **self.options}
        for name, values in axes.items():
            if not values:
                raise SpecError(f"{name}: a sweep needs at least one value: give some")
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise SpecError(f"{name}: {twice!r} stands there twice: give every value once")
        for method in self.methods:
            get_method(method)
        for name in self.options:
            if not any(name in _known(method) for method in self.methods):
                others = [method for method in all_methods() if name in _known(method)]
                has = f"it is one of {' and '.join(others)}" if others else "no method has it"
                raise SpecError(f"option '{name}' belongs to none of {', '.join(self.methods)}: {has}")

    def ways(self, method: str | None = None) -> dict[str, Combination]:
        """Every method with every choice of its own options, by a line that says it; the spec is left blank."""
        found: dict[str, Combination] = {}
        for name in self.methods if method is None else (method,):
            own = [option for option in self.options if option in _known(name)]
            for values in product(*(self.options[option] for option in own)):
                made = Combination("", name, dict(zip(own, values, strict=True)))
                found[made.way] = made
        return found

    def combinations(self) -> Iterator[Combination]:
        """All of them."""
        ways = self.ways().values()
        return (replace(way, spec=spec) for spec in self.specs for way in ways)

    def grid(self) -> dict[str, list[str]]:
        """The parameters of a grid: a spec, and a way to get there."""
        return {"spec": list(self.specs), "way": list(self.ways())}

    def __len__(self) -> int:
        """Number of combinations."""
        return len(self.specs) * len(self.ways())

    def draw(self, trial: Any) -> Combination:
        """Let a trial of Optuna's choose.

        A grid has whole ways for one of its parameters, so that no combination comes twice; the other samplers see
        every option by itself, to learn which value is good.
        """
        spec = trial.suggest_categorical("spec", list(self.specs))
        if self.sampler == "grid":
            way = self.ways()[trial.suggest_categorical("way", list(self.ways()))]
            return Combination(spec, way.method, way.options)
        method = trial.suggest_categorical("method", list(self.methods))
        own = (name for name in self.options if name in _known(method))
        return Combination(
            spec, method, {name: trial.suggest_categorical(_OPTION + name, list(self.options[name])) for name in own}
        )


def _known(method: str) -> Sequence[str]:
    return tuple(get_method(method).Options.model_fields)
