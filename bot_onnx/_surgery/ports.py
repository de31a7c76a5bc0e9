"""Inputs and outputs of a graph that belong to single layers: caches of keys and values, hidden states, attentions.

Where corresponding values of the layers are ports under names that count (``present.0.key``, ``present.1.key``, …),
they form a family. A family has a member for every layer, or for all but some at an end (hidden states that are the
inputs of all layers but the first), and keeps that when the depth changes: ports of removed layers go, added layers
have theirs, and whatever else is numbered after them (``hidden_states.12``, the result of a last norm) moves up.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from bot_onnx._analysis.numbered_names import Numbering
from bot_onnx._ops import measures
from bot_onnx._ops.nodes import fresh_name, names_in
from bot_onnx._patterns.layers import LayerChain
from bot_onnx.errors import GraphError

Kind = Literal["input", "output"]


@dataclass(slots=True)
class Family:
    """Corresponding ports of the layers of a chain.

    Attributes:
        kind: ``input`` or ``output``.
        place: index of the node in a layer, and of its input or output.
        first: the first layer with a member.
        members: the ports of the source, layer by layer.
        numbering: their names.
        missing: how many layers at the end of the chain have none.
        values: for every layer at the present depth, the value that is or could be its port.
    """

    kind: Kind
    place: tuple[int, int]
    first: int
    members: list[ir.Value]
    numbering: Numbering
    missing: int
    values: list[ir.Value]

    def ports(self, count: int) -> dict[int, ir.Value]:
        """Member per layer in a chain of ``count`` layers."""
        return {layer: self.values[layer] for layer in range(self.first, count - self.missing)}


class Ports:
    """The families of one chain while its depth changes.

    Create it before the change: it takes the families off the graph's inputs and outputs, so that layers can be removed
    and copied like any others. :meth:`restore` puts back what the new depth has.

    Attributes:
        families: in the order of their first members.
        origins: filled by :meth:`restore`: name of a port now -> name in the source of it, or of the one it is
            made after.
        layered: filled by :meth:`restore`: name of a port now -> the layer that it belongs to, and the names of such
            ports in the source, by layer.
    """

    def __init__(self, graph: ir.Graph, chain: LayerChain) -> None:
        self._graph, self._count = graph, len(chain.layers)
        self._lists: dict[Kind, MutableSequence[ir.Value]] = {"input": graph.inputs, "output": graph.outputs}
        self._old: dict[Kind, list[ir.Value]] = {kind: list(ports) for kind, ports in self._lists.items()}
        self._names = {id(port): port.name or "" for ports in self._old.values() for port in ports}
        self.families = _find_families(chain, self._old)
        self.origins: dict[str, str] = {}
        self.layered: dict[str, tuple[int, dict[int, str]]] = {}
        self._members = {id(value): family for family in self.families for value in family.members}
        for kind, ports in self._lists.items():
            _replace(ports, [value for value in self._old[kind] if id(value) not in self._members])

    def next_inputs(self, layer: int) -> dict[ir.Value, ir.Value]:
        """Inputs of one more layer, by those of ``layer``, of which it will be a copy."""
        made: dict[ir.Value, ir.Value] = {}
        for family in self.families:
            if family.kind == "input":
                model = family.members[layer]
                made[model] = ir.Value(name=f"{model.name}__next", shape=model.shape, type=model.type)
                family.values.append(made[model])
        return made

    def add_layer(self, nodes: Sequence[ir.Node]) -> None:
        """Take note of the nodes of one more layer, in the order of the chain's."""
        for family in self.families:
            if family.kind == "output":
                family.values.append(nodes[family.place[0]].outputs[family.place[1]])

    def measure_first(self) -> None:
        """Take runtime sizes from the first layer's inputs alone.

        Exporters read the length of a cache from any layer's; where their declared shapes are the same, so are they.
        """
        for family in self.families:
            first, *others = family.members
            for value in others if family.kind == "input" else ():
                for usage in list(value.uses()):
                    if measures(usage.node) and value.shape == first.shape:
                        usage.node.replace_input_with(usage.idx, first)

    def restore(self, count: int) -> None:
        """Put the ports of a chain of ``count`` layers in place, and name everything."""
        kept = {id(value) for family in self.families for value in family.ports(count).values()}
        taken = names_in(self._graph)
        for value in (value for family in self.families for value in family.members):
            if id(value) not in kept:  # an inner value from now on: its name is free
                value.name = fresh_name(f"{value.name}__inner", taken)
        for kind, ports in self._lists.items():
            named = list(self._arranged(kind, list(ports), count))
            for value, name, origin in named:
                value.name = name
                self.origins[name] = origin
            _replace(ports, [value for value, _, _ in named])

    def _arranged(self, kind: Kind, others: list[ir.Value], count: int) -> Iterator[tuple[ir.Value, str, str]]:
        """(port, its name, its origin) in the order of the source; families that alternate by layer go on doing so."""
        rest = iter(others)
        blocks = {id(block[0].members[0]): block for block in self._blocks(kind)}
        for old in self._old[kind]:
            if id(old) not in self._members:
                yield next(rest), self._shifted(self._names[id(old)], count), self._names[id(old)]
            for layer in range(count):
                for family in blocks.get(id(old), ()):
                    value = family.ports(count).get(layer)
                    if value is None:
                        continue
                    model = family.members[-1]
                    if id(value) not in self._members:
                        value.shape, value.type = model.shape, model.type
                    origin = self._names.get(id(value), self._names[id(model)])
                    name = family.numbering.name(layer)
                    known = {family.first + i: self._names[id(member)] for i, member in enumerate(family.members)}
                    self.layered[name] = (layer, known)
                    yield value, name, origin

    def partners(self, picks: Sequence[int | None]) -> dict[str, str | None]:
        """Name of a port now -> name of the same thing in the source, None where it has none.

        Args:
            picks: per layer now, the layer of the source that it is; None for one that was added.
        """
        found: dict[str, str | None] = dict(self.origins)
        for name, (layer, known) in self.layered.items():
            pick = picks[layer]
            found[name] = None if pick is None else known.get(pick)
        return found

    def _blocks(self, kind: Kind) -> list[list[Family]]:
        """Families grouped by overlapping places among the ports."""
        place = {id(value): index for index, value in enumerate(self._old[kind])}
        blocks: list[list[Family]] = []
        end = -1
        for family in (family for family in self.families if family.kind == kind):
            if place[id(family.members[0])] < end:
                blocks[-1].append(family)
            else:
                blocks.append([family])
            end = max(end, place[id(family.members[-1])])
        return blocks

    def _shifted(self, name: str, count: int) -> str:
        """Name of a port that is no member: where it is numbered after the members of a family, it moves with them."""
        for numbering, last in {(f.numbering, f.first + len(f.members) - 1): None for f in self.families}:
            number = numbering.number(name)
            if number is not None and number > numbering.base + numbering.step * last:
                return f"{numbering.prefix}{number + numbering.step * (count - self._count)}{numbering.suffix}"
        return name


def _find_families(chain: LayerChain, ports: dict[Kind, list[ir.Value]]) -> list[Family]:
    """Families of ports of a chain, in the order of the graph's ports.

    Raises:
        GraphError: every layer has an input of its own at some place, under names that do not count.
    """
    order = {id(value): index for values in ports.values() for index, value in enumerate(values)}
    inputs, outputs = set(map(id, ports["input"])), set(map(id, ports["output"]))
    found: dict[tuple[int, ...], Family] = {}
    for position in range(len(chain.layers[0].nodes)):
        nodes = [layer.nodes[position] for layer in chain.layers]
        for slot in range(len(nodes[0].inputs)):
            values = [value for node in nodes if (value := node.inputs[slot]) is not None]
            if len({id(value) for value in values if id(value) in inputs}) > 1:
                family = _family("input", (position, slot), values, inputs)
                if family is None or len(family.members) < len(nodes):
                    raise GraphError(
                        f"inputs {values[0].name!r}, {values[1].name!r}… belong to single layers, but their names do "
                        "not count up, so that those of other layers cannot be named; keep the number of layers"
                    )
                found.setdefault(tuple(map(id, family.members)), family)
        for slot in range(len(nodes[0].outputs)):
            family = _family("output", (position, slot), [node.outputs[slot] for node in nodes], outputs)
            if family is not None:
                found.setdefault(tuple(map(id, family.members)), family)
    return sorted(found.values(), key=lambda family: (family.kind, order[id(family.members[0])]))


def _family(kind: Kind, place: tuple[int, int], values: list[ir.Value], ports: set[int]) -> Family | None:
    """The family of corresponding values, if at least two in a row are ports whose names count."""
    first = next((layer for layer, value in enumerate(values) if id(value) in ports), len(values))
    members: list[ir.Value] = []
    numbering: Numbering | None = None
    for value in values[first:]:
        if id(value) not in ports:
            break
        if members:
            following = Numbering.between(members[-1].name or "", value.name or "", first + len(members) - 1)
            if following is None or numbering not in (None, following):
                break
            numbering = following
        members.append(value)
    if numbering is None:
        return None
    return Family(kind, place, first, members, numbering, len(values) - first - len(members), values)


def _replace(ports: MutableSequence[ir.Value], values: list[ir.Value]) -> None:
    if list(map(id, ports)) != list(map(id, values)):
        ports.clear()
        ports.extend(values)
