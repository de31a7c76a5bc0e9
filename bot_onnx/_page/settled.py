"""Sliders of which the proof has been asked: what it keeps stays, what it fails for has no slider."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bot_onnx._analysis.passes import Analysis
from bot_onnx._page.sliders import Slider, Sliders, Step, sliders_of
from bot_onnx._proof import Way, settle
from bot_onnx._reasons import Reason, Why
from bot_onnx._resample import make_options
from bot_onnx._structure import Structure
from bot_onnx._target import TargetSpec
from bot_onnx.errors import BotError, ProofError

_ROUNDS: Final = 6
_METHOD: Final = "bot"  # that of `resize` without --method


def proven_sliders(analysis: Analysis) -> Sliders:
    """The sliders of a network, each with sizes that a plan does not change.

    All of them are moved at once, down and up, and proven as a plan would be. Dims that a plan would keep, for the
    proof fails for them, are kept in every step; a slider whose own dims cannot be proven is left out.
    """
    structure, notes = analysis.structure, []
    held: list[str] = []
    for _ in range(_ROUNDS):
        made = sliders_of(structure, held)
        try:
            kept = {ident for position in _probes(made) for ident in _kept(analysis, made, position)}
        except ProofError as error:
            names = getattr(error.fault, "dims", ())
            kept = {dim.id for dim in structure.dims.values() if dim.name in names and dim.frozen is None}
            notes.append(str(error))
            if not kept:
                break
        except BotError as error:
            notes.append(str(error))
            break
        else:
            if not kept:
                return replace(made, notes=tuple(notes))
        structure = _with_frozen(structure, kept)
        held += sorted(kept)
    return Sliders((), notes=(*notes, "Sizes that could be proven were not found, so there is nothing to turn."))


def _with_frozen(structure: Structure, idents: set[str]) -> Structure:
    """The structure in which some dims keep their size."""
    reason = Reason(Why.UNPROVEN)
    frozen = {ident: replace(structure.dims[ident], frozen=reason) for ident in idents}
    return replace(structure, dims={**structure.dims, **frozen})


def _probes(made: Sliders) -> list[dict[str, Step]]:
    """Positions with all widths small, and with all of them large: not at an end, where sizes may be 1."""
    widths = [one for one in made.sliders if one.kind != "layers"]
    if not widths:
        return []

    def at(place: int, one: Slider) -> Step:
        return one.steps[place]

    low = {one.key: at(max(0, one.start // 2), one) for one in widths}
    high = {one.key: at(min(len(one.steps) - 1, one.start + 1), one) for one in widths}
    return [low, high]


def _kept(analysis: Analysis, made: Sliders, position: dict[str, Step]) -> set[str]:
    """Ids of the leaves that a plan gives another size than the steps say."""
    spec = made.spec(position)
    settled = settle(analysis, TargetSpec.parse(spec), Way(_METHOD, make_options(_METHOD)))
    told = {ident: size for step in position.values() for ident, size in step.sizes.items()}
    leaves = (dim for dim in analysis.structure.dims.values() if not dim.parts)
    return {dim.id for dim in leaves if settled.solution.sizes[dim.id] != told.get(dim.id, dim.size)}
