"""Which layers of the source the target has: as the spec names them, evenly, or by what they do to the stream.

Block influence (Men et al. 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
arXiv:2403.03853) of a layer that makes x' of x, over all positions of all samples:

    BI = 1 - E[ x·x' / (‖x‖ ‖x'‖) ]

Layers of large influence stay. Positions at which the stream is nothing are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._runs.watched import Watched, finite, hidden_in_bodies
from bot_onnx._structure import Chain, Role, Structure
from bot_onnx._surgery.turns import Turns, check_turns
from bot_onnx._target import LayersBy, Picks, Solution
from bot_onnx.errors import DataError, ResampleError, SpecError

_BATCH = 4  #: samples at a time, where the model leaves it open


class _UnseenError(DataError):
    """The stream of a chain cannot be looked at, whatever the samples are."""


def kept_layers(
    analysis: Analysis, solution: Solution, by: LayersBy | None, samples: Samples | None, tensors: Mapping[str, Any]
) -> Picks:
    """Per chain whose layers are chosen, the source's layer for every layer of the target.

    Args:
        analysis: of the source, before a resize changes its graph.
        solution: its depths, and the layers that the spec names.
        by: how the layers of chains that shrink are chosen, but for those that the spec names; None: that is left to
            the method.
        samples: to measure influence on.
        tensors: the source's tensors by name; read where influence is measured.

    Raises:
        SpecError: layers that take turns cannot stand at these places.
        ResampleError: no choice of layers keeps their turns.
        DataError: influence is asked for without samples, or they do not suit.
    """
    picks = dict(solution.picks)
    chains = list(zip(analysis.chains, analysis.structure.chains, strict=True))
    shrinking = [
        (chain, info)
        for chain, info in chains
        if solution.layers[info.name] < info.count and info.name not in solution.picks
    ]
    if by == "even":
        picks |= {info.name: _evenly(info, solution.layers[info.name]) for _, info in shrinking}
    if by == "influence":
        found = influences(analysis, [info.name for _, info in shrinking], samples, tensors)
        for chain, info in shrinking:
            if info.follows is None:
                wanted = solution.layers[info.name] - info.leading
                best = _most(found[info.name], wanted, Turns(analysis, chain))
                picks[info.name] = (*range(info.leading), *(info.leading + layer for layer in best))
        picks |= {info.name: picks[info.follows] for _, info in shrinking if info.follows is not None}
    for chain, info in chains:
        if info.name in picks:
            check_turns(analysis, chain, info, picks[info.name])
    return picks


def refuse_two_ways(structure: Structure, solution: Solution, by: LayersBy | None, asked: str | None) -> None:
    """Refuse an option that says how layers are made where the spec says it of all of them, and otherwise.

    Args:
        structure: of the source.
        solution: its depths, and the layers that the spec names.
        by: how the spec chooses the layers of chains that shrink.
        asked: how the method was asked to make layers.

    Raises:
        SpecError: names both.
    """
    depths = [chain for chain in structure.chains if solution.layers[chain.name] != chain.count]
    chosen = {chain.name for chain in depths if by is not None and solution.layers[chain.name] < chain.count}
    if asked in (None, by) or not depths or any(c.name not in solution.picks.keys() | chosen for c in depths):
        return
    said = f"key 'layers_by' chooses the layers that stay by '{by}'" if chosen else "key 'layers' names the layers"
    raise SpecError(f"{said}, so option layer_axis '{asked}' has none to make: drop one of the two")


@dataclass(frozen=True, slots=True)
class Staying:
    """The layers that stay, as :func:`kept_layers` gives them.

    Attributes:
        looked: the samples say which. notes: sentences on that.
    """

    picks: Picks
    looked: bool = False
    notes: tuple[str, ...] = ()


def staying_layers(
    analysis: Analysis,
    solution: Solution,
    by: LayersBy | None,
    samples: Samples | None,
    tensors: Mapping[str, Any],
    *,
    free: bool,
) -> Staying:
    """The layers that stay: as asked, else those of most influence where there are samples.

    Args:
        analysis, solution, by, samples, tensors: see :func:`kept_layers`.
        free: the method lets any layers stay.

    Raises:
        SpecError, ResampleError: what was asked for cannot be had; see :func:`kept_layers`.
        DataError: likewise, or the samples do not suit.
    """
    picks = kept_layers(analysis, solution, by, samples, tensors)
    chains = analysis.structure.chains
    shrinking = [c.name for c in chains if solution.layers[c.name] < c.count and c.name not in solution.picks]
    if by is not None or samples is None or not (free and shrinking):
        return Staying(picks, by == "influence")
    try:
        chosen = kept_layers(analysis, solution, "influence", samples, tensors)
    except (_UnseenError, ResampleError) as unseen:
        return Staying(picks, notes=(f"layers are not chosen by influence: {unseen}",))
    if chosen == picks:
        return Staying(picks)
    return Staying(chosen, True, (f"the layers that stay are those of most influence on {len(samples)} samples",))


def moved_values(analysis: Analysis, picks: Picks) -> set[ir.Value]:
    """What the layers compute at whose place the weights of another layer will stand: no longer what was measured."""
    moved: set[ir.Value] = set()
    for chain, info in zip(analysis.chains, analysis.structure.chains, strict=True):
        layers = [layer - info.leading for layer in picks.get(info.name, ())[info.leading :]]
        for place, (layer, there) in enumerate(zip(layers, chain.layers, strict=False)):
            if layer != place:
                moved.update(value for node in there.nodes for value in node.outputs)
    return moved


def _evenly(chain: Chain, target: int) -> tuple[int, ...]:
    """Layers ⌊k · L_s / L_t⌋; layers that must lead do so."""
    source, wanted = chain.stacked, target - chain.leading
    return (*range(chain.leading), *(chain.leading + k * source // wanted for k in range(wanted)))


def influences(
    analysis: Analysis, names: Sequence[str], samples: Samples | None, tensors: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    """Block influence of the stacked layers of some chains, ``[layers]`` each.

    Raises:
        DataError: there are no samples, they do not suit, or the stream of a chain cannot be looked at.
    """
    if samples is None:
        raise DataError(
            "layers are chosen by influence on samples of what the network will see: give them as --calibration "
            "FILE.npz (an array per input), or choose by 'even'"
        )
    chains = {
        info.name: chain
        for chain, info in zip(analysis.chains, analysis.structure.chains, strict=True)
        if info.name in names
    }
    streams = {name: _stream(analysis, name, chain) for name, chain in chains.items()}
    watched = Watched(analysis.model, samples, (v for values, _ in streams.values() for v in values))
    sums = {name: np.zeros((2, len(values) - 1)) for name, (values, _) in streams.items()}
    for share, run in watched.runs(tensors, _BATCH):
        for name, (values, axis) in streams.items():
            rows = [_rows(run[value], axis) for value in values]
            for layer in range(len(rows) - 1):
                sums[name][:, layer] += share * np.array(_cosines(rows[layer], rows[layer + 1]))
    for name, (_, count) in sums.items():
        if not count.all():
            raise DataError(f"the stream of chain '{name}' is nothing on these samples, or there are too few of them")
    return {name: 1.0 - total / count for name, (total, count) in sums.items()}


def _stream(analysis: Analysis, name: str, chain: LayerChain) -> tuple[list[str], int]:
    """What enters the first layer and what leaves each, by name; and the axis of channels."""
    values = [chain.layers[0].start.outputs[0], *(layer.end.outputs[0] for layer in chain.layers)]
    names = [value.name or "" for value in values]
    axes = {_channels(analysis, value) for value in values}
    axis = axes.pop() if len(axes) == 1 else None
    if axis is None or hidden_in_bodies(analysis.model.graph, names) is not None:
        raise _UnseenError(
            f"the stream of chain '{name}' cannot be looked at (it has no one axis of channels, or lies in a branch or "
            "a loop): name the layers that stay, or choose by 'even'"
        )
    return names, axis


def _channels(analysis: Analysis, value: ir.Value) -> int | None:
    """The one axis of a value that is the residual stream's width; where none is, the one that weights have."""
    dims = analysis.structure.dims
    idents = [
        None if dim is None else analysis.ids.get(analysis.context.table.find(dim))
        for dim in analysis.context.axes_of(value)
    ]
    known = [(axis, dims[ident]) for axis, ident in enumerate(idents) if ident is not None and ident in dims]
    hidden = [axis for axis, dim in known if dim.role == Role.HIDDEN]
    held = hidden or [axis for axis, dim in known if dim.occurrences]
    return held[0] if len(held) == 1 else None


def _rows(array: NDArray[Any], axis: int) -> NDArray[np.float64]:
    return finite(np.moveaxis(array, axis, -1)).reshape(-1, array.shape[axis])


def _cosines(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, int]:
    """Sum of cosines, and of how many positions."""
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    seen = lengths > 0
    inner = np.einsum("nc,nc->n", before[seen], after[seen])
    return float((inner / lengths[seen]).sum()), int(seen.sum())


def _most(influence: NDArray[np.float64], wanted: int, turns: Turns) -> tuple[int, ...]:
    """The layers of most influence that keep their turns, in order; of equal choices the earlier layers.

    ``best[k][p]``: the most that layers 0…k of the target can have when layer k is the source's layer p.

    Raises:
        ResampleError: no choice keeps every turn.
    """
    count = len(influence)
    best = np.full((wanted, count), -np.inf)
    came = np.zeros((wanted, count), dtype=int)
    for place in range(wanted):
        top, top_at = (0.0, -1) if place == 0 else (-np.inf, -1)
        for layer in range(count):
            if place and layer and best[place - 1, layer - 1] > top:
                top, top_at = best[place - 1, layer - 1], layer - 1
            if turns.allow(layer, place) and np.isfinite(top):
                best[place, layer], came[place, layer] = top + influence[layer], top_at
    last = int(np.argmax(best[-1]))
    if not np.isfinite(best[-1, last]):
        raise ResampleError(f"no {wanted} of {count} layers keep the turns that they take; name the layers that stay")
    chosen = [last]
    for place in range(wanted - 1, 0, -1):
        chosen.append(int(came[place, chosen[-1]]))
    return tuple(reversed(chosen))
