"""Turn the algebra's findings into the plain :class:`Structure`: dims with names, chains, stacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from os.path import commonprefix

import onnx_ir as ir

from bot_onnx.graph.attention import Attention
from bot_onnx.graph.closed_forms import recognise
from bot_onnx.graph.dims import Dim as DimRoot
from bot_onnx.graph.dims import MaybeDim
from bot_onnx.graph.layers import LayerChain
from bot_onnx.graph.parameters import LINEAR, Parameter
from bot_onnx.graph.residual import last_norm, norms_before, residual_kind, residual_writers
from bot_onnx.graph.roles import Roles
from bot_onnx.graph.rules import Context
from bot_onnx.graph.ties import find_twins, tied_places
from bot_onnx.graph.types import Chain, Dim, Stack, Structure

_GENERIC = frozenset({"layer", "layers", "h", "block", "blocks", "model", "module", "encoder_layer", "resblocks"})
_ROTARY_PATH = frozenset("Mul MatMul Unsqueeze Expand Cast Transpose Concat Reshape Einsum Squeeze Identity Slice".split())


def build_structure(
    graph: ir.Graph,
    context: Context,
    chains: list[LayerChain],
    attentions: list[Attention],
    parameters: dict[str, Parameter],
    assign: Callable[[], Roles],
) -> tuple[Structure, dict[DimRoot, str]]:
    """Build the structure, and the id of every dim in it.

    ``assign`` gives the roles; it runs after tied weights are merged.
    """
    twins = find_twins(parameters, context)
    _merge_equal_composites(context)
    roles = assign()
    tables = _tables(graph, context, parameters)
    builder = _Stacks(graph, context, chains, attentions, parameters, twins, tables)
    stacks, broken = builder.build()
    dims, ids = _name_dims(context, roles, stacks, builder.axes)
    names = _chain_names(chains)
    residuals = [residual_kind(chain) for chain in chains]
    structure = Structure(
        dims=dims,
        chains=tuple(
            Chain(name, len(chain.layers), chain.period, len(chain.layers[0].nodes), broken.get(index))
            for index, (name, chain) in enumerate(zip(names, chains, strict=True))
        ),
        stacks=tuple(_with_ids(stack, builder.axes[stack.id], ids, context, names) for stack in stacks),
        ties=tied_places(parameters, twins),
        residual=residuals[0] if residuals else "none",
        parameters=sum(v.const_value.size for v in graph.initializers.values() if v.name in parameters),  # type: ignore[union-attr]
        nodes=len(graph),
    )
    return structure, ids


def _merge_equal_composites(context: Context) -> None:
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


def _tables(graph: ir.Graph, context: Context, parameters: dict[str, Parameter]) -> dict[str, str | None]:
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
        if name in parameters:
            if not _feeds_rotary(value):
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
            for dim in context.of(value):
                context.table.freeze(dim, f"table {name} follows no formula that is known here")
    return tables


def _feeds_rotary(value: ir.Value) -> bool:
    pending, seen = [value], 0
    while pending and seen < 32:
        current = pending.pop()
        seen += 1
        for usage in current.uses():
            if usage.node.op_type in ("Sin", "Cos"):
                return True
            if usage.node.op_type in _ROTARY_PATH:
                pending.extend(usage.node.outputs)
    return False


class _Stacks:
    """Group parameters into stacks, in graph order of first use."""

    def __init__(
        self,
        graph: ir.Graph,
        context: Context,
        chains: list[LayerChain],
        attentions: list[Attention],
        parameters: dict[str, Parameter],
        twins: dict[str, str],
        tables: dict[str, str | None],
    ) -> None:
        self._context, self._chains, self._parameters = context, chains, parameters
        self._twins, self._tables, self._graph = twins, tables, graph
        order = {node: index for index, node in enumerate(graph)}
        self._writers = {name for chain in chains for name in residual_writers(chain)}
        post = [chain for chain in chains if residual_kind(chain) == "post-norm"]
        self._last = {name for chain in post for name in last_norm(chain, parameters, order)}
        self._before_head = norms_before(self._tied_heads())
        self._scores = self._score_parts(attentions)
        self.axes: dict[str, tuple[MaybeDim, ...]] = {}

    def build(self) -> tuple[list[Stack], dict[int, str]]:
        """Stacks (with chain index as name, dims still unnamed), and why chains cannot change depth, by index."""
        member: dict[str, tuple[int, tuple[str, ...]]] = {}
        broken: dict[int, str] = {}
        for index, chain in enumerate(self._chains):
            for values in zip(*(layer.parameters for layer in chain.layers), strict=True):
                names = tuple(value.name or "" for value in values)
                if names[0] not in self._parameters and names[0] not in self._tables:
                    continue
                if 1 < len(set(names)) < len(names) or any(member.get(n, (index, names))[1] != names for n in names):
                    broken[index] = f"the layers share {names[0]} in an irregular pattern"
                    continue
                for name in names:
                    member[name] = (index, names)
        stacks: list[Stack] = []
        done: set[str] = set()
        twin_ids: dict[str, str] = {}
        for name in [*self._parameters, *(n for n in self._tables if n not in self._parameters)]:
            if name in done:
                continue
            index, names = member.get(name, (None, (name,)))
            done.update(names)
            stack = self._stack(f"s{len(stacks)}", index, names)
            twin_ids[name] = stack.id
            stacks.append(stack)
        return [self._with_twin(stack, twin_ids) for stack in stacks], broken

    def _stack(self, identity: str, chain: int | None, names: tuple[str, ...]) -> Stack:
        value = self._graph.initializers[names[0]]
        tensor = value.const_value
        assert tensor is not None
        parameter = self._parameters.get(names[0])
        dims = self._context.of(value)
        self.axes[identity] = dims
        shared = chain is not None and len(set(names)) == 1
        return Stack(
            id=identity,
            name=_stack_name(names, parameter),
            chain=None if chain is None else str(chain),
            tensors=names[:1] if shared else names,
            dtype=tensor.dtype.name,
            axes=(),
            shape=tuple(tensor.shape.numpy()),
            kind=parameter.kind if parameter else "other",
            directions=parameter.directions if parameter else ("none",) * len(dims),
            shared=shared,
            writes_residual=names[0] in self._writers,
            score_parts=tuple(sorted(self._scores.get(names[0], ()))),
            before_tied_head=names[0] in self._before_head,
            closed_form=self._tables.get(names[0]),
            norm_position=self._norm_position(chain, names[0], parameter),
        )

    def _norm_position(self, chain: int | None, name: str, parameter: Parameter | None) -> str | None:  # type: ignore[return]
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
                heads += [node for node, _ in parameter.uses if node.op_type in LINEAR]
        return heads

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
                    if composite is not None and composite.kind == "concat":
                        found = {i for i, p in enumerate(composite.parts) if leaves.intersection(table.leaves(p))}
                    elif selected is not None:
                        found = {selected}
                    parts.setdefault(value.name or "", set()).update(found)
        return parts


def _with_ids(
    stack: Stack, dims: tuple[MaybeDim, ...], ids: dict[DimRoot, str], context: Context, names: list[str]
) -> Stack:
    axes = tuple(None if dim is None else ids[context.table.find(dim)] for dim in dims)
    return replace(stack, axes=axes, chain=None if stack.chain is None else names[int(stack.chain)])


def _name_dims(
    context: Context, roles: Roles, stacks: list[Stack], axes: dict[str, tuple[MaybeDim, ...]]
) -> tuple[dict[str, Dim], dict[DimRoot, str]]:
    table = context.table
    occurrences: dict[DimRoot, list[tuple[str, int]]] = {}
    ids: dict[DimRoot, str] = {}
    for stack in stacks:
        for axis, dim in enumerate(axes[stack.id]):
            if dim is None:
                continue
            for found in _with_parts(context, dim):
                ids.setdefault(found, f"d{len(ids)}")
            occurrences.setdefault(table.find(dim), []).extend((tensor, axis) for tensor in stack.tensors)
    for role in ("heads", "head_dim"):  # composites that no weight carries alone, such as kv_heads x group
        for dim in roles.dims(role):
            if all(leaf in ids for leaf in table.leaves(dim)):
                for found in _with_parts(context, dim):
                    ids.setdefault(found, f"d{len(ids)}")
    names = _unique_names(context, roles, ids)
    dims: dict[str, Dim] = {}
    for root, identity in ids.items():
        composite = table.composite(root)
        frozen = [table.frozen(leaf) for leaf in table.leaves(root)]
        dims[identity] = Dim(
            id=identity,
            name=names[root],
            size=table.size(root)[0],
            kind=composite.kind if composite else "leaf",
            parts=tuple(ids[part] for part in composite.parts) if composite else (),
            role=_role(context, roles, root),
            frozen=frozen[0] if all(frozen) else None,
            occurrences=tuple(occurrences.get(root, ())),
        )
    return dims, ids


def _with_parts(context: Context, dim: DimRoot) -> Iterator[DimRoot]:
    root = context.table.find(dim)
    yield root
    composite = context.table.composite(root)
    for part in composite.parts if composite else ():
        yield from _with_parts(context, part)


def _role(context: Context, roles: Roles, dim: DimRoot) -> str:
    role = roles.of(dim)
    if role is not None:
        return role
    reason = context.table.frozen(dim) if context.table.composite(dim) is None else None
    if reason is None:
        return "free"
    words = {"kernel": "spatial", "spatial": "spatial", "input": "io", "number of equal": "count"}
    return next((role for word, role in words.items() if word in reason), "free")


def _unique_names(context: Context, roles: Roles, ids: dict[DimRoot, str]) -> dict[DimRoot, str]:
    names: dict[DimRoot, str] = {}
    taken: dict[str, int] = {}
    for root in ids:
        composite = context.table.composite(root)
        if composite is not None and roles.of(root) is None:
            continue
        role = _role(context, roles, root)
        base = role if role not in ("free", "count", "io", "spatial") else f"dim_{context.table.size(root)[0]}"
        taken[base] = taken.get(base, 0) + 1
        names[root] = base if taken[base] == 1 else f"{base}_{taken[base]}"
    for root in ids:
        if root not in names:
            names[root] = _composite_name(context, root, names)
    return names


def _composite_name(context: Context, root: DimRoot, names: dict[DimRoot, str]) -> str:
    if root in names:
        return names[root]
    composite = context.table.composite(root)
    assert composite is not None
    parts = [_composite_name(context, part, names) for part in composite.parts]
    return ("*" if composite.kind == "product" else " + ").join(f"({p})" if " + " in p else p for p in parts)


def _stack_name(names: tuple[str, ...], parameter: Parameter | None) -> str:
    """Readable name: the tensors' own with ``*`` for the layer, or the node's where an exporter lost the name."""
    if re.match(r"(onnx::|val_|_)", names[0]) and parameter is not None and parameter.uses[0][0].name:
        scope = (parameter.uses[0][0].name or "").strip("/").replace("/", ".")
        return re.sub(r"\.\d+\.", ".*.", scope, count=1) if len(names) > 1 else scope
    if len(names) == 1:
        return names[0]
    prefix = commonprefix(names)
    suffix = commonprefix([name[::-1] for name in names])[::-1]
    prefix = re.sub(r"\d+$", "", prefix)
    suffix = re.sub(r"^\d+", "", suffix)
    return f"{prefix}*{suffix}" if len(prefix) + len(suffix) < min(map(len, names)) else names[0]


def _chain_names(chains: list[LayerChain]) -> list[str]:
    """A chain's name: the scope its parameters share, else ``layers``; unique."""
    names: list[str] = []
    for chain in chains:
        scope = "layers"
        for value, following in zip(chain.layers[0].parameters, chain.layers[1].parameters, strict=True):
            shared = commonprefix([value.name or "", following.name or ""])
            if value.name != following.name and re.fullmatch(r"[A-Za-z_][\w]*(\.\w+)*\.", shared):
                tokens = [token for token in shared.split(".") if token and token not in _GENERIC]
                scope = tokens[-1] if tokens else "layers"
                break
        number = sum(name == scope or re.fullmatch(rf"{re.escape(scope)}_\d+", name) is not None for name in names)
        names.append(scope if number == 0 else f"{scope}_{number + 1}")
    return names
