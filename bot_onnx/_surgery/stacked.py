"""The depth of all chains of a graph, and the names of the tensors that their stacks then have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops.nodes import fresh_name, names_in
from bot_onnx._resample.depth import identity_layers
from bot_onnx._structure import Chain
from bot_onnx._surgery.depth import resize_chain, successor
from bot_onnx._target import Picks


@dataclass(frozen=True, slots=True)
class Depth:
    """What a change of depth made.

    Attributes:
        targets: names of the tensors to write, per stack.
        origins: for inputs and outputs that belong to layers: the name in the source of each, or of the one that it is
            made after.
        partners: for inputs and outputs that were named anew: their names in the source, None: it has no such thing.
    """

    targets: dict[str, tuple[str, ...]]
    origins: dict[str, str]
    partners: dict[str, str | None]


def resize_depth(analysis: Analysis, layers: Mapping[str, int], picks: Picks | None = None) -> Depth:
    """Change the depth of every chain, in place.

    Args:
        analysis: of the graph.
        layers: new depth by name of the chain.
        picks: by name of the chain, the source's layer for every layer, where that is not left to the method.

    Raises:
        GraphError: something outside a removed layer uses its inside.
    """
    graph = analysis.model.graph
    taken = names_in(graph)
    targets: dict[str, tuple[str, ...]] = {}
    origins: dict[str, str] = {}
    partners: dict[str, str | None] = {}
    stacked = {chain.name: layers[chain.name] - chain.leading for chain in analysis.structure.chains}
    for stack in analysis.structure.stacks:
        if stack.chain is None or stack.shared:
            targets[stack.id] = stack.tensors
            continue
        count, wanted = len(stack.tensors), stacked[stack.chain]
        names = list(stack.tensors[:wanted])
        for number in range(1, wanted - count + 1):
            names.append(fresh_name(successor(stack.tensors[-2], stack.tensors[-1], number), taken))
        targets[stack.id] = tuple(names)
    for chain, info in zip(analysis.chains, analysis.structure.chains, strict=True):
        added = {
            stack.tensors[-1]: list(targets[stack.id][info.stacked :])
            for stack in analysis.structure.stacks
            if stack.chain in (info.name, info.follows) and stack.chain is not None and not stack.shared
        }
        ports = resize_chain(graph, chain, info.name, stacked[info.name], added, taken)
        if ports is not None:
            axes = analysis.context.axes
            axes.update({name: axes[origin] for name, origin in ports.origins.items() if origin in axes})
            origins |= ports.origins
            # Names before this chain may be new as well, made by the chains before it.
            chosen = (picks or {}).get(info.name)
            own = _picks(info.stacked, stacked[info.name], info.held) if chosen is None else inner_picks(info, chosen)
            found = ports.partners(own)
            partners |= {name: old and partners.get(old, old) for name, old in found.items()}
    return Depth(targets, origins, partners)


def inner_picks(chain: Chain, picks: Sequence[int]) -> list[int]:
    """Which layer of its stacks every layer of a chain is, for layers counted with those that lead."""
    return [layer - chain.leading for layer in picks[chain.leading :]]


def _picks(source: int, target: int, turns: int) -> Sequence[int | None]:
    """Which layer of the source every layer is: where layers are added, they stand as ``identity_layers`` says."""
    if target <= source:
        return list(range(target))
    picks, added = identity_layers(source, target, turns)
    return [None if new else pick for pick, new in zip(picks, added, strict=True)]
