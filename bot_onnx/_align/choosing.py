"""By what units are chosen and what makes up for those that go: as asked, else as samples allow.

Where nothing is said and samples are there, heads, neurons, and the channels that no turn of the stream reaches are
chosen by what they bring on them (:data:`BY_SAMPLES`). What a graph does not let be seen is chosen by norms, with a
note; what was asked for is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bot_onnx._align.heads_and_neurons import HeadsAndNeurons
from bot_onnx._align.keep import ChosenUnits
from bot_onnx._align.refit import Refitting
from bot_onnx._align.types import Facts, Kept, Tensors
from bot_onnx._structure import Structure
from bot_onnx._target import Criterion, Refit
from bot_onnx.errors import ResampleError

Chooser = HeadsAndNeurons | ChosenUnits

BY_SAMPLES: Criterion = "wanda"  #: what units are chosen by where samples are there, and nothing is said


@dataclass(frozen=True, slots=True)
class Choosing:
    """What was asked for.

    Attributes:
        keep: by what heads, neurons and channels are chosen; None: nothing was said.
        refit: what makes up for those that go; None: nothing does.
    """

    keep: Criterion | None = None
    refit: Refit | None = None

    @property
    def asked(self) -> bool:
        """Whether something has to be chosen."""
        return self.keep is not None or self.refit is not None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is done: who chooses, what makes up for what goes, and notes on both."""

    chooser: Chooser
    refitting: Refitting | None
    notes: tuple[str, ...]

    @property
    def refit(self) -> Refit | None:
        """What makes up for what goes."""
        return None if self.refitting is None else self.refitting.kind

    @property
    def refitted(self) -> frozenset[str]:
        """Names of the tensors that do."""
        return frozenset() if self.refitting is None else self.refitting.names

    @property
    def looks(self) -> bool:
        """Whether the samples are looked at."""
        return self.refitting is not None or (isinstance(self.chooser, ChosenUnits) and self.chooser.looks)

    def made_up(self, tensors: Tensors, kept: Kept) -> Tensors:
        """The source's tensors, where something makes up for what goes, else as they are."""
        return tensors if self.refitting is None else self.refitting.tensors(tensors, kept)


def chosen(
    structure: Structure, sizes: Mapping[str, int], facts: Facts, choosing: Choosing, *, everywhere: bool
) -> Chosen:
    """Decide by what is chosen, and what makes up for what goes; no weight is read.

    Args:
        structure: of the source. sizes: target size per dim id. facts: of its graph.
        choosing: what was asked for.
        everywhere: no turn reaches the channels: those outside the layers are chosen as well, by another criterion
            than ``energy``.

    Raises:
        DataError: what was asked for needs samples.
        ResampleError: what was asked for cannot be had.
    """
    chooser, unseen = _chooser(structure, sizes, facts, choosing.keep, everywhere)
    if choosing.refit is None or not chooser.sizes:
        return Chosen(chooser, None, (*unseen, *chooser.notes))
    refitting = Refitting(choosing.refit, structure, chooser.sizes, facts)
    return Chosen(chooser, refitting, (*unseen, *chooser.notes, *refitting.notes))


def _chooser(
    structure: Structure, sizes: Mapping[str, int], facts: Facts, keep: Criterion | None, everywhere: bool
) -> tuple[Chooser, tuple[str, ...]]:
    """Who chooses, and why that is not by activations where it might have been."""
    unseen: tuple[str, ...] = ()
    if keep is None and facts.readings.samples is not None:
        try:
            return ChosenUnits(structure, sizes, facts, BY_SAMPLES, everywhere=everywhere), ()
        except ResampleError as why:
            unseen = (f"not chosen by activations: {why}",)
    if keep is None or keep == "energy":
        return HeadsAndNeurons(structure, sizes, facts.freedom), unseen
    return ChosenUnits(structure, sizes, facts, keep, everywhere=everywhere), ()
