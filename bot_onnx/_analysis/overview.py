"""A network at a glance: its inputs and outputs, its layers, the nodes between them, and what flows between all these.

Shape arithmetic is left out. Every layer of a chain is one part, every other node is one of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Literal

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops.nodes import fresh_name
from bot_onnx._patterns.layers import data_flow
from bot_onnx._runs.observe import shape_values
from bot_onnx._structure import Link, Overview, Part, Stack, Structure

_Place = tuple[str, int]  #: chain, number of the layer


@dataclass(slots=True)
class _Gathered:
    """What is known of a part so far."""

    name: str
    kind: Literal["input", "output", "layer", "node"]
    place: _Place | None
    ops: Counter[str]
    tensors: dict[str, None]


def overview_of(analysis: Analysis) -> Overview:
    """The parts of an analysed network, in graph order, and the values between them."""
    graph = analysis.model.graph
    flow = data_flow(graph, shape_values(graph))
    places = _places(analysis)
    taken: set[str] = set()
    parts: dict[object, _Gathered] = {}
    owner: dict[ir.Node, object] = {}
    for value in graph.inputs:
        if value.name not in graph.initializers:
            parts[value] = _Gathered(fresh_name(value.name or "input", taken), "input", None, Counter(), {})
    for node in graph:
        if node not in flow:
            continue
        place = places.get(node)
        key: object = node if place is None else place
        owner[node] = key
        if key not in parts:
            name = f"{place[0]}.{place[1]}" if place is not None else node.name or node.outputs[0].name or node.op_type
            kind: Literal["layer", "node"] = "node" if place is None else "layer"
            parts[key] = _Gathered(fresh_name(name, taken), kind, place, Counter(), {})
        parts[key].ops[node.op_type] += 1
        names = (value.name or "" for value in node.inputs if value is not None)
        parts[key].tensors.update((name, None) for name in names if name in graph.initializers)
    links: dict[tuple[str, str], dict[str, None]] = {}
    for node, key in owner.items():
        for read in filter(None, node.inputs):
            _link(links, parts, owner, read, parts[key].name)
    for number, shown in enumerate(graph.outputs):
        part = _Gathered(fresh_name(shown.name or "output", taken), "output", None, Counter(), {})
        parts[number] = part
        _link(links, parts, owner, shown, part.name)
    stacks = {name: stack for stack in analysis.structure.stacks for name in stack.tensors}
    return Overview(
        tuple(_part(gathered, stacks, analysis.structure) for gathered in parts.values()),
        tuple(Link(start, end, tuple(values)) for (start, end), values in links.items()),
    )


def _places(analysis: Analysis) -> dict[ir.Node, _Place]:
    """The layer that every node of a chain belongs to; one that came to two of them belongs to the first."""
    found: dict[ir.Node, _Place] = {}
    for known, chain in zip(analysis.structure.chains, analysis.chains, strict=True):
        first = () if chain.leading is None else (chain.leading.nodes,)
        for number, nodes in enumerate((*first, *(layer.nodes for layer in chain.layers))):
            for node in nodes:
                found.setdefault(node, (known.name, number))
    return found


def _link(
    links: dict[tuple[str, str], dict[str, None]],
    parts: dict[object, _Gathered],
    owner: dict[ir.Node, object],
    value: ir.Value,
    end: str,
) -> None:
    producer = value.producer()
    key: object = value if producer is None else owner.get(producer)
    if key in parts and parts[key].name != end:
        links.setdefault((parts[key].name, end), {})[value.name or ""] = None


def _part(gathered: _Gathered, stacks: dict[str, Stack], structure: Structure) -> Part:
    dims = structure.dims
    known = [stacks[name] for name in gathered.tensors if name in stacks]
    leaves = dict.fromkeys(ident for stack in known for axis in stack.axes for ident in _leaves(structure, axis))
    return Part(
        name=gathered.name,
        kind=gathered.kind,
        chain=None if gathered.place is None else gathered.place[0],
        layer=None if gathered.place is None else gathered.place[1],
        ops=tuple(gathered.ops.items()),
        tensors=tuple(gathered.tensors),
        parameters=sum(prod(stack.shape) for stack in known),
        dims=tuple(dims[ident].name for ident in leaves),
        roles=tuple(dict.fromkeys(str(dims[ident].role) for ident in leaves)),
    )


def _leaves(structure: Structure, ident: str | None) -> list[str]:
    if ident is None:
        return []
    parts = structure.dims[ident].parts
    return [leaf for part in parts for leaf in _leaves(structure, part)] if parts else [ident]
