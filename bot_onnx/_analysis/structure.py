"""Turn the algebra's findings into the plain :class:`Structure`: dims with names, chains, stacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from bot_onnx._analysis.names import chain_names, name_dims, stack_name
from bot_onnx._axes.dims import Dim as DimRoot
from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._canonical.constants import is_literal
from bot_onnx._canonical.decompose import stored_type
from bot_onnx._ops import FORM, Calc, Move, Slot, carries, computes, is_linear, slot_of
from bot_onnx._ops.walk import forward
from bot_onnx._patterns.alibi import recognise_slopes
from bot_onnx._patterns.alternating_layers import turn_length
from bot_onnx._patterns.attention import Attention
from bot_onnx._patterns.closed_forms import recognise, recognise_cache
from bot_onnx._patterns.constant_tables import feeds_rotary
from bot_onnx._patterns.decays import is_decay
from bot_onnx._patterns.interface import Interface, find_interface
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import Parameter, is_variance, offset_of
from bot_onnx._patterns.residual import last_norm, norms_before, residual_kind, residual_writers
from bot_onnx._patterns.role_store import Roles
from bot_onnx._patterns.sinusoids import recognise_sinusoids
from bot_onnx._patterns.stray_layers import strays
from bot_onnx._patterns.ties import find_twins, tied_places
from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Chain, Direction, Stack, Structure, TiedHead

#: What a norm without weights of its own has for them, where its op asks for some.
_UNTRAINED: dict[str, int] = {"norm_scale": 1, "norm_bias": 0}

_FAR = 32  #: forms of a table on the way to what reads it, at most

#: What weights are for that are never a table: networks learn them.
_TRAINED = frozenset({"matrix", "kernel"})

#: What weights are for that a table of slopes is not.
_NEVER_SLOPES = frozenset({"matrix", "kernel", "embedding", "norm_scale", "norm_bias"})


def build_structure(
    graph: ir.Graph,
    context: AxisFacts,
    chains: list[LayerChain],
    attentions: list[Attention],
    parameters: dict[str, Parameter],
    assign: Callable[[Interface], Roles],
    constants: frozenset[str],
) -> tuple[Structure, dict[DimRoot, str]]:
    """Build the structure, and the id of every dim in it.

    ``assign`` gives the roles; it runs after tied weights are merged.
    """
    twins = find_twins(parameters, context)
    _merge_equal_composites(context)
    interface = find_interface(graph, context, parameters, constants)
    roles = assign(interface)
    tables = _tables(graph, context, parameters)
    builder = _Stacks(graph, context, chains, attentions, parameters, twins, tables)
    stacks, broken, follows = builder.build()
    dims, ids = name_dims(context, roles, stacks, builder.axes, interface.outputs)
    names = chain_names(chains)
    residuals, beside = [residual_kind(chain) for chain in chains], strays(graph, chains)
    structure = Structure(
        dims=dims,
        chains=tuple(
            Chain(
                name,
                len(chain.layers) + (chain.leading is not None),
                chain.period,
                len(chain.layers[0].nodes),
                broken.get(index),
                residual,
                leading=int(chain.leading is not None),
                follows=names[follows[index]] if index in follows else None,
                turns=turn_length(chain) or 1,
                strays=beside[index],
            )
            for index, (name, chain, residual) in enumerate(zip(names, chains, residuals, strict=True))
        ),
        stacks=tuple(_with_ids(stack, builder.axes[stack.id], ids, context, names) for stack in stacks),
        ties=tied_places(parameters, twins),
        equal_sizes=tuple(
            (ids[context.table.find(a)], ids[context.table.find(b)]) for a, b in context.table.equal_sizes
        ),
        residual=residuals[_largest(chains)] if residuals else "none",
        parameters=sum(tensor.size for p in parameters.values() if (tensor := p.value.const_value) is not None),
        nodes=len(graph),
        notes=tuple(
            f"What the residual stream of {name} passes between two sums is not understood."
            for name, residual in zip(names, residuals, strict=True)
            if residual == "unknown"
        ),
        tied_heads=builder.tied_heads,
    )
    return structure, ids


def _largest(chains: list[LayerChain]) -> int:
    return max(range(len(chains)), key=lambda index: len(chains[index].layers) * len(chains[index].layers[0].nodes))


def _merge_equal_composites(context: AxisFacts) -> None:
    """Composites of the same parts in the same order are one dim: by definition they index alike."""
    changed = True
    while changed:
        changed = False
        seen: dict[tuple[object, ...], DimRoot] = {}
        for dims in list(context.axes.values()):
            for dim in dims:
                composite = context.table.composite(dim) if dim is not None else None
                if dim is None or composite is None:
                    continue
                root = seen.setdefault((composite.kind, *composite.parts), context.table.find(dim))
                if root != context.table.find(dim):
                    context.table.unify(root, dim)
                    changed = True


def _tables(graph: ir.Graph, context: AxisFacts, parameters: dict[str, Parameter]) -> dict[str, str | None]:
    """Closed form per table that is no trained weight: rotary frequencies, and integer buffers on resizable dims.

    A table without a known formula keeps its dims as they are.
    """
    tables: dict[str, str | None] = {}
    weight_leaves = {
        leaf for p in parameters.values() for dim in context.of(p.value) if dim for leaf in context.table.leaves(dim)
    }
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.size < 2 or tensor.dtype == ir.DataType.STRING:
            continue
        if _is_rotary_cache(value):
            tables[name] = recognise_cache(tensor.numpy())
            if tables[name] is None:
                context.table.freeze(context.of(value)[-1], Reason.of(Why.NO_FORMULA, name))
            continue
        if name in parameters:
            if not feeds_rotary(value) or _scales_channels(context, value):
                formula = _formula(parameters[name], tensor)
                if formula is not None:
                    tables[name] = formula
                elif parameters[name].kind not in _TRAINED and is_decay(tensor.numpy()):
                    tables[name] = None
                    _keep(context, value)
                continue
        elif not any(
            leaf in weight_leaves for dim in context.of(value) if dim is not None for leaf in context.table.leaves(dim)
        ):
            continue
        form = recognise(tensor.numpy(), rotary=name in parameters)
        if form is None and name in parameters and len(tensor.shape) > 1 and min(tensor.shape.numpy()) > 1:
            continue  # a weight that happens to run into a sine
        tables[name] = form
        if form is None:
            _keep(context, value)
    return tables


def _keep(context: AxisFacts, value: ir.Value) -> None:
    """The dims of a table without a known formula stay as they are."""
    for dim in context.of(value):
        context.table.freeze(dim, Reason.of(Why.NO_FORMULA, value.name))


def _formula(parameter: Parameter, tensor: ir.TensorProtocol) -> str | None:
    """Closed form of a table that looks like a weight: slopes of a bias by distance, sines and cosines of positions.

    Or the ones and zeros of a norm that has no weights of its own.
    """
    if parameter.kind in _TRAINED:
        return None
    untrained = _UNTRAINED.get(parameter.kind) if is_literal(parameter.value) else None
    if untrained is not None and np.all(tensor.numpy() == untrained):
        return f"constant:{untrained}"
    slopes = None if parameter.kind in _NEVER_SLOPES else recognise_slopes(tensor.numpy())
    return slopes or (recognise_sinusoids(tensor.numpy()) if len(tensor.shape) > 1 else None)


def _is_rotary_cache(value: ir.Value) -> bool:
    """Whether an op that turns queries and keys reads the value as its table of sines or cosines."""
    forms = forward(value, lambda node, slot: carries(node, slot, FORM | Move.PICKED), most=_FAR)
    return any(slot_of(node, slot) is Slot.ROTATION for form in forms for node, slot in form.uses())


def _scales_channels(context: AxisFacts, value: ir.Value) -> bool:
    """Whether activations are multiplied with a value channel by channel; frequencies have an axis of their own."""
    own = {context.table.find(dim) for dim in context.of(value) if dim is not None}
    others = [
        other
        for usage in value.uses()
        if computes(usage.node, Calc.PRODUCT)
        for other in usage.node.inputs
        if other is not None and other is not value and other.const_value is None
    ]
    return any(dim is not None and context.table.find(dim) in own for other in others for dim in context.of(other))


class _Stacks:
    """Group parameters into stacks, in graph order of first use."""

    def __init__(
        self,
        graph: ir.Graph,
        context: AxisFacts,
        chains: list[LayerChain],
        attentions: list[Attention],
        parameters: dict[str, Parameter],
        twins: dict[str, str],
        tables: dict[str, str | None],
    ) -> None:
        self._context, self._chains, self._parameters = context, chains, parameters
        self._twins, self._tables, self._graph = twins, tables, graph
        order = {node: index for index, node in enumerate(graph)}
        self._inside = {node for chain in chains for layer in chain.layers for node in layer.nodes}
        self._writers = {name for chain in chains for name in residual_writers(chain)}
        post = [chain for chain in chains if residual_kind(chain) == "post-norm"]
        self._last = {name for chain in post for name in last_norm(chain, parameters, order)}
        self._before_head = norms_before(self._tied_heads())
        self.tied_heads = self._heads_by_embedding()
        self._scores = self._score_parts(attentions)
        self.axes: dict[str, tuple[MaybeDim, ...]] = {}

    def build(self) -> tuple[list[Stack], dict[int, Reason], dict[int, int]]:
        """Stacks (with chain index as name, dims still unnamed), why chains cannot change depth, which follow which.

        Chains are given by their index.
        """
        member, broken, follows = self._members()
        stacks: list[Stack] = []
        done: set[str] = set()
        twin_ids: dict[str, str] = {}
        for name in [*self._parameters, *(n for n in self._tables if n not in self._parameters)]:
            if name in done:
                continue
            place: tuple[int | None, tuple[str, ...]] = member.get(name, (None, (name,)))
            done.update(place[1])
            stack = self._stack(f"s{len(stacks)}", *place)
            twin_ids[name] = stack.id
            stacks.append(stack)
        return [self._with_twin(stack, twin_ids) for stack in stacks], broken, follows

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
                if names[0] not in self._parameters and names[0] not in self._tables:
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
        """Whether tables without a known formula are not the same in all layers: their place is in the formula."""
        if any(self._tables.get(name, "") is not None for name in names):
            return False
        first, *others = (tensor.numpy() for name in names if (tensor := self._graph.initializers[name].const_value))
        return not all(np.array_equal(first, other) for other in others)

    def _stack(self, identity: str, chain: int | None, names: tuple[str, ...]) -> Stack:
        value = self._graph.initializers[names[0]]
        tensor = value.const_value
        assert tensor is not None
        parameter = self._parameters.get(names[0])
        dims = self._context.of(value)
        self.axes[identity] = dims
        shared = chain is not None and len(set(names)) == 1
        untouched: Direction = "none"
        return Stack(
            id=identity,
            name=stack_name(names, [self._parameters[n] for n in dict.fromkeys(names) if n in self._parameters]),
            chain=None if chain is None else str(chain),
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
            positive=parameter is not None and any(is_variance(node, slot) for node, slot in parameter.uses),
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

    def _score_parts(self, attentions: list[Attention]) -> dict[str, set[int]]:
        """Which parts of which parameters carry queries or keys."""
        table = self._context.table
        parts: dict[str, set[int]] = {}
        for attention in attentions:
            leaves = set(table.leaves(attention.head_dim))
            for value, selected in [*attention.queries, *attention.keys]:
                for dim in self._context.of(value):
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


def _with_ids(
    stack: Stack, dims: tuple[MaybeDim, ...], ids: dict[DimRoot, str], context: AxisFacts, names: list[str]
) -> Stack:
    axes = tuple(None if dim is None else ids[context.table.find(dim)] for dim in dims)
    return replace(stack, axes=axes, chain=None if stack.chain is None else names[int(stack.chain)])
