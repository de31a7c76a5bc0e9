"""Parameters and tables grouped into stacks: what stands in the same place in all layers of a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from bot_onnx._analysis.apart import kept_apart, stacks_apart
from bot_onnx._analysis.facts import Layers, Stacks
from bot_onnx._analysis.names import stack_name
from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._canonical.decompose import stored_type
from bot_onnx._ops import is_linear
from bot_onnx._patterns.attention import Attention
from bot_onnx._patterns.closed_forms import is_held
from bot_onnx._patterns.layer_numbers import trained_numbers
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import Parameter, is_positive, offset_of
from bot_onnx._patterns.residual import last_norm, norms_before, residual_kind, residual_writers
from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Direction, Stack, TiedHead


class StackBuilder:
    """Group parameters into stacks, in graph order of first use."""

    def __init__(
        self,
        graph: ir.Graph,
        context: AxisFacts,
        layers: Layers,
        attentions: Sequence[Attention],
        parameters: Mapping[str, Parameter],
        twins: Mapping[str, str],
        tables: Mapping[str, str | None],
    ) -> None:
        chains = layers.chains
        self._context, self._chains, self._names, self._parameters = context, chains, layers.names, parameters
        self._twins, self._tables, self._graph = twins, tables, graph
        order = {node: index for index, node in enumerate(graph)}
        self._inside = {node for chain in chains for layer in chain.layers for node in layer.nodes}
        self._writers = {name for chain in chains for name in residual_writers(chain)}
        post = [chain for chain in chains if residual_kind(chain) == "post-norm"]
        self._last = {name for chain in post for name in last_norm(chain, parameters, order)}
        self._before_head = norms_before(self._tied_heads())
        self._by_embedding = self._heads_by_embedding()
        self._scores = self._score_parts(attentions)
        self._apart = list(kept_apart(context, attentions, parameters))
        trained = (values for chain in chains for values in trained_numbers(chain))
        self._numbers = dict.fromkeys(value.name or "" for values in trained for value in values)
        self._axes: dict[str, tuple[MaybeDim, ...]] = {}

    def build(self) -> Stacks:
        """All stacks, and what they say of chains."""
        member, broken, follows = self._members()
        stacks: list[Stack] = []
        done: set[str] = set()
        twin_ids: dict[str, str] = {}
        for name in [*self._parameters, *(n for n in self._tables if n not in self._parameters), *self._numbers]:
            if name in done:
                continue
            place: tuple[int | None, tuple[str, ...]] = member.get(name, (None, (name,)))
            done.update(place[1])
            stack = self._stack(f"s{len(stacks)}", *place)
            twin_ids[name] = stack.id
            stacks.append(stack)
        whole = tuple(self._with_twin(stack, twin_ids) for stack in stacks)
        return Stacks(whole, self._axes, broken, follows, self._by_embedding, stacks_apart(whole, self._apart))

    def _members(self) -> tuple[dict[str, tuple[int, tuple[str, ...]]], dict[int, Reason], dict[int, int]]:
        """The chain of every tensor of layers, with the tensors that stand in its place in the others.

        And which chains cannot change depth, and which follow another, by their index.
        """
        follows: dict[int, int] = {}
        member: dict[str, tuple[int, tuple[str, ...]]] = {}
        broken: dict[int, Reason] = {}
        for index, chain in enumerate(self._chains):
            if (change := _shape_change(self._context, chain)) is not None:
                broken[index] = change
            for values in zip(*(layer.parameters for layer in chain.layers), strict=True):
                names = tuple(value.name or "" for value in values)
                if not any(names[0] in known for known in (self._parameters, self._tables, self._numbers)):
                    continue
                placed_otherwise = any(member.get(name, (index, names))[1] != names for name in names)
                if 1 < len(set(names)) < len(names) or placed_otherwise:
                    broken[index] = Reason.of(Why.SHARED_IRREGULARLY, names[0])
                    continue
                if (why := self._why_as_many(names)) is not None:
                    broken[index] = why
                first = member.get(names[0], (index, names))[0]
                if first == index or len(set(names)) == 1:
                    member.update(dict.fromkeys(names, (index, names)))
                elif follows.setdefault(index, first) != first:
                    broken[index] = Reason.of(Why.TWO_CHAINS, names[0])
        return member, broken, follows

    def _why_as_many(self, names: tuple[str, ...]) -> Reason | None:
        """Why there cannot be more or fewer of the layers' tensors, or None."""
        if self._differ_by_place(names):
            return Reason.of(Why.OWN_TABLES, names[0])
        stray = self._used_elsewhere(names) if len(set(names)) > 1 else None
        return None if stray is None else Reason.at(Why.USED_ELSEWHERE, stray)

    def _used_elsewhere(self, names: tuple[str, ...]) -> ir.Node | None:
        """A node outside of all layers that computes with one of the layers' tensors."""
        uses = (use for name in names if name in self._parameters for use in self._parameters[name].uses)
        return next((node for node, _ in uses if node not in self._inside), None)

    def _differ_by_place(self, names: tuple[str, ...]) -> bool:
        """Whether tables whose numbers no formula gives are not the same in all layers: their place says which."""
        forms = {self._tables.get(name, "") for name in names}
        if any(form is not None and not is_held(form) for form in forms):
            return False
        first, *others = (tensor.numpy() for name in names if (tensor := self._graph.initializers[name].const_value))
        return not all(np.array_equal(first, other) for other in others)

    def _stack(self, identity: str, chain: int | None, names: tuple[str, ...]) -> Stack:
        value = self._graph.initializers[names[0]]
        tensor = value.const_value
        assert tensor is not None
        parameter = self._parameters.get(names[0])
        dims = self._context.axes_of(value)
        self._axes[identity] = dims
        shared = chain is not None and len(set(names)) == 1
        untouched: Direction = "none"
        return Stack(
            id=identity,
            name=stack_name(names, [self._parameters[n] for n in dict.fromkeys(names) if n in self._parameters]),
            chain=None if chain is None else self._names[chain],
            tensors=names[:1] if shared else names,
            dtype=(stored_type(value) or tensor.dtype).name,
            axes=(),
            shape=tuple(tensor.shape.numpy()),
            kind=parameter.kind if parameter else "other",
            directions=parameter.directions if parameter else (untouched,) * len(dims),
            shared=shared,
            writes_residual=names[0] in self._writers,
            score_parts=tuple(sorted(self._scores.get(names[0], ()))),
            before_tied_head=names[-1] in self._before_head,
            closed_form=self._closed_form(names),
            positive=parameter is not None and any(is_positive(node, slot) for node, slot in parameter.uses),
            norm_position=self._norm_position(chain, names[0], parameter),
            offset=offset_of(value),
        )

    def _closed_form(self, names: tuple[str, ...]) -> str | None:
        """The formula that all the layers' tensors follow."""
        forms = {self._tables.get(name) for name in names}
        return forms.pop() if len(forms) == 1 else None

    def _norm_position(
        self, chain: int | None, name: str, parameter: Parameter | None
    ) -> Literal["inner", "last"] | None:
        if chain is None or parameter is None or parameter.kind not in ("norm_scale", "norm_bias"):
            return None
        return "last" if name in self._last else "inner"

    def _with_twin(self, stack: Stack, ids: dict[str, str]) -> Stack:
        original = self._twins.get(stack.tensors[0])
        return stack if original is None else replace(stack, twin_of=ids[original])

    def _tied_heads(self) -> list[ir.Node]:
        """Linear nodes whose weight is (a copy of) an embedding."""
        heads: list[ir.Node] = []
        for parameter in self._parameters.values():
            if parameter.name in self._twins or parameter.kind == "embedding":
                heads += [node for node, _ in parameter.uses if is_linear(node)]
        return heads

    def _heads_by_embedding(self) -> tuple[TiedHead, ...]:
        return tuple(
            TiedHead(self._twins.get(parameter.name, parameter.name), tuple(sorted(norms_before([node]))))
            for parameter in self._parameters.values()
            if parameter.name in self._twins or parameter.kind == "embedding"
            for node, _ in parameter.uses
            if is_linear(node)
        )

    def _score_parts(self, attentions: Sequence[Attention]) -> dict[str, set[int]]:
        """Which parts of which parameters carry queries or keys."""
        table = self._context.table
        parts: dict[str, set[int]] = {}
        for attention in attentions:
            leaves = set(table.leaves(attention.head_dim))
            for value, selected in [*attention.queries, *attention.keys]:
                for dim in self._context.axes_of(value):
                    if dim is None or not leaves.intersection(table.leaves(dim)):
                        continue
                    composite = table.composite(dim)
                    found = {0}
                    concat = composite.parts if composite is not None and composite.kind == "concat" else ()
                    if selected is not None and selected < len(concat):
                        found = {selected}
                    elif concat:
                        found = {i for i, p in enumerate(concat) if leaves.intersection(table.leaves(p))}
                    elif selected is not None:
                        found = {selected}
                    parts.setdefault(value.name or "", set()).update(found)
        return parts


def _shape_change(context: AxisFacts, chain: LayerChain) -> Reason | None:
    """Why there cannot be more or fewer layers: each of them makes another shape of what it is given."""
    for layer in chain.layers:
        for before, after in zip(layer.start.outputs, layer.end.outputs, strict=False):
            old, new = context.sizes(before), context.sizes(after)
            if old != new:
                shapes = tuple(tuple(first for first, _ in sizes) for sizes in (old, new))
                return Reason(Why.STAGES, sizes=shapes)
    return None
