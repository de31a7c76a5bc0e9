"""Choosing units by a criterion that was asked for; see :mod:`bot_onnx._align.worth` for what they are worth."""

from __future__ import annotations

from collections.abc import Mapping

from bot_onnx._align.axes import LeafOrder
from bot_onnx._align.folding import Folding
from bot_onnx._align.mobility import Mobility
from bot_onnx._align.readings import Reading
from bot_onnx._align.selection import by_worth
from bot_onnx._align.taylor import taylor
from bot_onnx._align.types import Facts, Kept, Progress, Tensors
from bot_onnx._align.units import Units, find_units
from bot_onnx._align.worth import Worth, activation, magnitude, wanda
from bot_onnx._runs.watched import Watched
from bot_onnx._structure import Structure
from bot_onnx._target import Criterion
from bot_onnx.errors import DataError

_WHAT = "choosing what stays"
#: Criteria that look at samples.
LOOKING: tuple[Criterion, ...] = ("activation", "wanda", "taylor")


class ChosenUnits:
    """What a resize lets choose from, and by what.

    Attributes:
        sizes: target size of every leaf that is chosen from. notes: on what is left to the resampling method.
        looks: whether the samples say what stays.
    """

    def __init__(
        self,
        structure: Structure,
        sizes: Mapping[str, int],
        facts: Facts,
        criterion: Criterion,
        *,
        everywhere: bool,
    ) -> None:
        """Find the units; no weight is read.

        Args:
            structure: of the source.
            sizes: target size per dim id.
            facts: of the source's graph.
            criterion: ``magnitude``, ``activation``, ``wanda`` or ``taylor``.
            everywhere: choose channels outside the layers as well.

        Raises:
            DataError: activations or gradients are asked for, and there are no samples.
            ResampleError: they cannot be looked at.
            MissingRuntimeError: who takes gradients is not installed.
        """
        self._structure, self._sizes = structure, sizes
        self._mobile = Mobility(structure, sizes, facts.freedom)
        units, notes = find_units(structure, self._mobile, everywhere=everywhere)
        self._layers = {chain.name: chain.stacked for chain in structure.chains}
        self._places = [(one, layer) for one in units for layer in range(self._depth(one))]
        self.sizes = {leaf: sizes[leaf] for one in units for leaf in one.leaves if self._mobile.shrinks(leaf)}
        names = ", ".join(dict.fromkeys(one.name for one in units))
        self._criterion = criterion
        self._scalings = facts.readings.scalings() if criterion == "magnitude" else {}
        self._gradients = facts.gradients if criterion == "taylor" else None
        self._readings: dict[tuple[Units, int], tuple[Reading, ...]] = {}
        self._watched: Watched | None = None
        self.looks = criterion in LOOKING and bool(units)
        if self.looks:
            notes = [self._look(facts, criterion, names), *notes]
        self.notes = ((f"what stays of {names} is chosen by {criterion}",) if units else ()) + tuple(notes)

    def _look(self, facts: Facts, criterion: Criterion, names: str) -> str:
        """Make ready to run the source on samples. Gives a note."""
        samples, told = facts.readings.samples, "gradients" if criterion == "taylor" else "activations"
        if samples is None:
            raise DataError(
                f"{names}: {told} are measured on samples of what the network will see: give them as "
                "--calibration FILE.npz (an array per input), or choose by 'magnitude'"
            )
        self._readings = {place: facts.readings.of(*place) for place in self._places}
        values = [one.value for found in self._readings.values() for one in found]
        if self._gradients is not None:
            self._gradients.check()
            values.extend(self._gradients.outputs)
        self._watched = facts.readings.watch(values)
        return f"the {told} are those on {len(samples)} samples"

    def _depth(self, units: Units) -> int:
        return 1 if units.chain is None else self._layers[units.chain]

    @property
    def steps(self) -> int:
        """How many times :meth:`keep` calls back."""
        return len(self._places)

    def keep(self, folding: Folding, tensors: Tensors, progress: Progress | None, done: int, steps: int) -> Kept:
        """The indices that stay of every leaf; arguments as for :meth:`HeadsAndNeurons.keep`."""
        kept = Kept({name: [{} for _ in range(count)] for name, count in self._layers.items()})
        worths = self._worths(self._watched, folding, tensors) if self._watched is not None else {}
        for units, layer in self._places:
            worth = worths.get((units, layer))
            if worth is None:
                worth = magnitude(self._structure, units, layer, folding, tensors, self._scalings)
            self._into(kept, units, layer).update(
                by_worth(self._mobile, units.leaves, worth.outer, worth.inner, self._sizes)
            )
            done += 1
            if progress is not None:
                progress(_WHAT, done, steps)
        return kept

    def _worths(self, watched: Watched, folding: Folding, tensors: Tensors) -> Mapping[tuple[Units, int], Worth]:
        """By what the samples show."""
        if self._gradients is not None:
            return taylor(self._structure, self._readings, watched, tensors, self._gradients)
        if self._criterion == "wanda":
            return wanda(self._structure, self._readings, watched, folding, tensors)
        return activation(self._structure, self._readings, watched, tensors)

    def _into(self, kept: Kept, units: Units, layer: int) -> dict[str, LeafOrder]:
        return kept.common if units.chain is None else kept.layers[units.chain][layer]
