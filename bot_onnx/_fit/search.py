"""The search: for every depth the largest common scale of all widths that the budget admits, by bisection.

What a network costs is a polynomial with positive coefficients in its sizes, so it grows with the scale, and the
largest scale is found by halving an interval. Rounding leaves something over, which single sizes then take up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from bot_onnx._costs import Costs, Sizing
from bot_onnx._fit.budget import Budget
from bot_onnx._fit.families import Family, Spec
from bot_onnx._fit.types import NEARLY
from bot_onnx._structure import Structure
from bot_onnx._target import Solution, TargetSpec, solve
from bot_onnx.errors import SpecError

_DEPTHS: Final = 8  #: depths that are tried
_STEPS: Final = 14  #: halvings of the scale: sizes up to 16384 are told apart
_PACKED: Final = ("matrix", "kernel", "embedding")
_FLOATS: Final = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


@dataclass(frozen=True, slots=True)
class Found:
    """A spec, its sizes and its costs."""

    spec: dict[str, Any]
    solution: Solution
    costs: Costs


class Search:
    """Specs of one network within one budget."""

    def __init__(self, sizing: Sizing, family: Family, budget: Budget, size_bytes: int) -> None:
        """Keep what the search is about.

        Args:
            sizing: of the source.
            family: of the specs.
            budget: what is allowed; the latency is none of this module's business.
            size_bytes: of the source's file.
        """
        self.sizing, self.family, self.budget = sizing, family, budget
        self.structure: Structure = sizing.structure
        self.stored = _packed(self.structure) if budget.quantize else {}
        #: Bytes of the file beside the weights, by depth: as in the source, until a plan tells.
        self.graph_bytes: dict[tuple[tuple[str, int], ...], int] = {}
        self._around = max(size_bytes - sizing.costs().weight_bytes, 0)
        self.macs = budget.macs  #: the limit, which a latency may lower

    def costs(self, solution: Solution) -> Costs:
        """What a solution costs, as the budget counts."""
        return self.sizing.costs(solution.sizes, solution.layers, self.stored)

    def file_bytes(self, solution: Solution, costs: Costs) -> int:
        """Size of the file, as far as is known."""
        return costs.weight_bytes + self.graph_bytes.get(depth_of(solution), self._graph(solution))

    def _graph(self, solution: Solution) -> int:
        nodes = self.structure.nodes
        less = sum((c.count - solution.layers[c.name]) * c.nodes_per_layer for c in self.structure.chains)
        return round(self._around * max(nodes - less, 1) / max(nodes, 1))

    def learn(self, solution: Solution, size_bytes: int) -> None:
        """Take the size that a plan says into account: of the file with the weights as they are stored."""
        weights = self.sizing.costs(solution.sizes, solution.layers).weight_bytes
        self.graph_bytes[depth_of(solution)] = size_bytes - weights

    def look(self, spec: Spec) -> Found | None:
        """A spec with its sizes; None where the solver refuses it."""
        try:
            solution = solve(self.structure, TargetSpec.parse(spec))
        except SpecError:
            return None
        return Found(spec, solution, self.costs(solution))

    def spent(self, found: Found) -> dict[str, float | None]:
        """What of each limit is spent, but for the latency."""
        size = self.file_bytes(found.solution, found.costs)
        return {"size": size, "params": found.costs.parameters, "macs": found.costs.macs, "latency": None}

    def used(self, found: Found) -> float:
        """The largest share of a limit that is spent, that of multiply-accumulates which stands for a latency too."""
        share = 0.0 if self.macs is None else found.costs.macs / self.macs
        return max(share, self.budget.used(self.spent(found)))

    def fits(self, spec: Spec) -> bool:
        """Whether a spec can be had and is within the budget."""
        found = self.look(spec)
        if found is None:
            return False
        return self.used(found) <= 1

    def best(self, layers: Mapping[str, int]) -> Found | None:
        """The widest network of a depth within the budget, or None."""
        deep: Spec = {"layers": dict(layers)} if layers else {}

        def at(step: int) -> Spec:
            return {**deep, **self.family.spec(step / 2**_STEPS)}

        if not self.fits(at(0)):
            return None
        low, high = 0, 2**_STEPS
        if self.fits(at(high)):
            return self.look(at(high))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.fits(at(middle)) else (low, middle)
        return self._fullest(at(low))

    def _fullest(self, spec: Spec) -> Found | None:
        """A spec that uses what is left over: at its own stream or, where that is too coarse, at the next one."""
        found = self.look(self.family.topped(spec, self.fits))
        wide = self.family.wider(spec)
        if found is None or self.used(found) >= NEARLY or wide is None or not self.fits(wide):
            return found
        other = self.look(self.family.topped(wide, self.fits))
        return other if other is not None and self.used(other) > self.used(found) else found

    def smallest(self, depths: Collection[Mapping[str, int]]) -> Found:
        """The smallest network that the family has."""
        made = (self.look({"layers": dict(d), **self.family.spec(0)} if d else self.family.spec(0)) for d in depths)
        admitted = [found for found in made if found is not None]
        if not admitted:
            raise SpecError("no other size of this network can be had: nothing in it can be resized by a common scale")
        return min(admitted, key=lambda found: (found.costs.parameters, found.costs.macs))


def depth_of(solution: Solution) -> tuple[tuple[str, int], ...]:
    """Depth of every chain, as a key."""
    return tuple(solution.layers.items())


def depths_of(structure: Structure, keep: Collection[str]) -> list[dict[str, int]]:
    """Depths to try, deepest first: all chains that can change keep their ratio."""
    free = [c for c in structure.chains if c.resizable is None and c.follows is None]
    if not free or "layers" in keep:
        return [{}]
    most = max(chain.count for chain in free)
    steps = min(most, _DEPTHS)
    shares = [step / steps for step in range(steps, 0, -1)]
    tried = [{c.name: max(c.leading + 1, round(c.count * share)) for c in free} for share in shares]
    return [depth for place, depth in enumerate(tried) if depth not in tried[:place]]


def _packed(structure: Structure) -> dict[str, str]:
    return {s.id: "INT8" for s in structure.stacks if s.kind in _PACKED and s.dtype in _FLOATS}
