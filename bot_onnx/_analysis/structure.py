"""The findings of all passes as the plain :class:`Structure`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bot_onnx._analysis.facts import Attentions, Layers, Named, Normalised, Parameters, Spelled, Stacks, Twins
from bot_onnx._axes.dims import Dim as DimId
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._canonical.constants import is_clone
from bot_onnx._patterns.alternating_layers import turn_length
from bot_onnx._patterns.layer_numbers import placed_numbers
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.residual import residual_kind
from bot_onnx._patterns.shared_heads import own_heads, shared_heads
from bot_onnx._patterns.stray_layers import strays
from bot_onnx._patterns.ties import tied_places
from bot_onnx._structure import Chain, Stack, Structure


def assemble(
    source: Normalised,
    spelled: Spelled,
    context: AxisFacts,
    layers: Layers,
    attentions: Attentions,
    parameters: Parameters,
    twins: Twins,
    stacks: Stacks,
    named: Named,
) -> Structure:
    """Put the structure together; nothing is found out here."""
    graph = source.graph
    chains = _chains(source, layers, stacks)
    unknown = tuple(
        f"What the residual stream of {chain.name} passes between two sums is not understood."
        for chain in chains
        if chain.residual == "unknown"
    )
    beside = [chain.beside() for chain in chains if chain.strays]
    turns = [
        f"What repeats in {chain.name} is a turn of {chain.within} layers that are not alike ({chain.in_turns()}): "
        "'layers' counts turns."
        for chain in chains
        if chain.within > 1
    ]
    return Structure(
        dims=dict(named.dims),
        chains=chains,
        stacks=tuple(_with_ids(stack, stacks, named, context) for stack in stacks.stacks),
        ties=tied_places(parameters.by_name, twins.originals),
        equal_sizes=_by_id(named, context, context.table.equal_sizes),
        dealt=_by_id(named, context, context.table.dealt),
        joint=_joint(named, context),
        residual=chains[_largest(layers.chains)].residual if chains else "none",
        parameters=_count(parameters),
        nodes=len(graph),
        notes=(*unknown, *source.form.notes(graph), *beside, *turns, *spelled.notes),
        tied_heads=stacks.tied_heads,
        qkv=stacks.qkv,
        single_kv_head=bool(shared_heads(context, attentions.found)),
        own_kv_heads=own_heads(context, attentions.found),
    )


def _count(parameters: Parameters) -> int:
    """How many numbers the file holds; what several uses share counts once, as it does when its values differ."""
    own = (p.value for p in parameters.by_name.values() if not is_clone(p.value))
    return sum(value.const_value.size for value in own if value.const_value is not None)


def _by_id(named: Named, context: AxisFacts, pairs: Iterable[tuple[DimId, DimId]]) -> tuple[tuple[str, str], ...]:
    return tuple((named.ids[context.table.find(one)], named.ids[context.table.find(two)]) for one, two in pairs)


def _joint(named: Named, context: AxisFacts) -> tuple[str, ...]:
    roots = dict.fromkeys(context.table.find(dim) for dim in context.table.joint)
    return tuple(named.ids[root] for root in roots if root in named.ids)


def _chains(source: Normalised, layers: Layers, stacks: Stacks) -> tuple[Chain, ...]:
    beside = strays(source.graph, layers.chains)
    return tuple(
        Chain(
            name,
            len(chain.layers) + (chain.leading is not None),
            chain.period,
            len(chain.layers[0].nodes),
            stacks.broken.get(index),
            residual_kind(chain),
            leading=int(chain.leading is not None),
            follows=layers.names[stacks.follows[index]] if index in stacks.follows else None,
            turns=turn_length(chain) or 1,
            strays=beside[index],
            within=chain.within,
            placed=any(True for _ in placed_numbers(chain)),
        )
        for index, (name, chain) in enumerate(zip(layers.names, layers.chains, strict=True))
    )


def _largest(chains: Sequence[LayerChain]) -> int:
    return max(range(len(chains)), key=lambda index: len(chains[index].layers) * len(chains[index].layers[0].nodes))


def _with_ids(stack: Stack, stacks: Stacks, named: Named, context: AxisFacts) -> Stack:
    dims = stacks.axes[stack.id]
    return replace(stack, axes=tuple(None if dim is None else named.ids[context.table.find(dim)] for dim in dims))
