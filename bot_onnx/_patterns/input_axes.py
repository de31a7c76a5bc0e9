"""Which axes of graph inputs may change: those that belong to the network's inside.

Most static axes of an input are what the world provides (colour channels, mel bins) and keep their sizes. But a cache
of keys and values has the network's heads and channels, embeddings given instead of token ids have its width, and
what a decoder attends to has the width of the encoder before it, and the state of a recurrent layer has its size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import onnx_ir as ir

from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._ops import record
from bot_onnx._ops.recurrent import STATE_WEIGHT
from bot_onnx._patterns.attention import Attention
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import Parameter

_FEWEST_GATES = 3  #: of a gated cell


def release_inputs(
    graph: ir.Graph,
    context: AxisFacts,
    chains: Sequence[LayerChain],
    attentions: Sequence[Attention],
    parameters: Mapping[str, Parameter],
    linked: Collection[str] = (),
) -> None:
    """Unfreeze axes of graph inputs that follow from sizes inside, as far as weights carry them.

    They are: heads and channels of attention; the residual stream, where one input gives all of it (what is joined to
    it from outside, as a voice's style is, stays as the world has it); states of recurrent layers; and a whole axis
    that every layer of a chain contracts with weights of its own, without it being part of the stream (what cross
    attention looks at); and all that weights carry of an input that is ``linked``: another network gives it.
    """
    carried = _leaves(context, (dim for p in parameters.values() for dim in context.axes_of(p.value)))
    inside = _leaves(
        context,
        (dim for a in attentions for dim in (a.head_dim, a.heads, a.value_dim)),
    )
    inside |= _states(graph, context, parameters)
    inside |= _leaves(context, (d for v in graph.inputs if v.name in linked for d in context.axes_of(v)))
    given = [_leaves(context, [dim]) for value in graph.inputs for dim in context.axes_of(value)]
    streams: set[Dim] = set()
    looked_at: set[Dim] = set()
    for chain in chains:
        joint = context.axes_of(chain.layers[0].start.outputs[0])
        streams |= _leaves(context, joint)
        stream = _leaves(context, joint[-1:])
        if any(stream <= axis for axis in given):
            inside |= stream
        looked_at |= _contracted(context, chain, parameters)
    whole = {
        context.table.find(dim)
        for value in graph.inputs
        for dim in context.axes_of(value)
        if dim is not None and context.table.composite(dim) is None
    }
    context.table.release((inside | (looked_at & whole) - streams) & carried)


def _states(graph: ir.Graph, context: AxisFacts, parameters: Mapping[str, Parameter]) -> set[Dim]:
    """Sizes of states: of recurrent ops, and of cells that are written out.

    A cell shows by a matrix that leads from the state to several gates of its size, and a graph output that carries it.
    """
    table = context.table
    found = {
        leaf
        for node in graph
        if record(node).gates
        for leaf in _leaves(context, context.axes_of(node.inputs[STATE_WEIGHT])[-1:])
    }
    carried = _leaves(context, (dim for output in graph.outputs for dim in context.axes_of(output)))
    for parameter in parameters.values():
        ends: dict[str, list[Dim]] = {"in": [], "out": []}
        for dim, direction in zip(context.axes_of(parameter.value), parameter.directions, strict=True):
            if dim is not None and direction in ends:
                ends[direction].append(dim)
        if parameter.kind == "matrix" and len(ends["in"]) == len(ends["out"]) == 1:
            state, gates = table.find(ends["in"][0]), ends["out"][0]
            times = table.size(gates)[0] // max(table.size(state)[0], 1)
            if times >= _FEWEST_GATES and state in table.leaves(gates) and state in carried:
                found.add(state)
    return found


def _contracted(context: AxisFacts, chain: LayerChain, parameters: Mapping[str, Parameter]) -> set[Dim]:
    """Leaves that weights of every layer contract."""
    layers: list[set[Dim]] = []
    for layer in chain.layers:
        used = [parameters[value.name or ""] for value in layer.parameters if value.name in parameters]
        layers.append(
            _leaves(
                context,
                (
                    dim
                    for parameter in used
                    for dim, direction in zip(context.axes_of(parameter.value), parameter.directions, strict=True)
                    if direction == "in"
                ),
            )
        )
    return set.intersection(*layers)


def _leaves(context: AxisFacts, dims: Iterable[MaybeDim]) -> set[Dim]:
    return {leaf for dim in dims if dim is not None for leaf in context.table.leaves(dim)}
