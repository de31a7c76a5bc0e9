"""Readable names: of dims by their roles, of stacks and chains by what exporters left of the original names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from bot_onnx._axes.dims import Dim as DimId
from bot_onnx._axes.dims import MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.parameters import Parameter
from bot_onnx._patterns.role_store import Roles
from bot_onnx._reasons import Why
from bot_onnx._structure import Dim, Role, Stack

#: Role of a dim that has none otherwise, by why it is frozen.
_BY_REASON: dict[Why, Role] = {
    Why.INPUT: Role.IO,
    **dict.fromkeys((Why.KERNEL, Why.SPATIAL), Role.SPATIAL),
    **dict.fromkeys((Why.EQUAL_PARTS, Why.DIRECTIONS, Why.FEATURES, Why.CLASSES, Why.CONSTANT), Role.COUNT),
    **dict.fromkeys((Why.PICKED, Why.PICKED_AT_RUN_TIME), Role.COUNT),
}
#: Roles that give no name.
_NAMELESS = (Role.FREE, Role.COUNT, Role.IO, Role.SPATIAL)

_GENERIC = frozenset({"layer", "layers", "h", "block", "blocks", "model", "module", "encoder_layer", "resblocks"})


def name_dims(
    context: AxisFacts,
    roles: Roles,
    stacks: Sequence[Stack],
    axes: Mapping[str, tuple[MaybeDim, ...]],
    shown: Mapping[DimId, tuple[str, ...]],
) -> tuple[dict[str, Dim], dict[DimId, str]]:
    """Plain dims by id, and the id of every dim of the algebra, in order of first occurrence in the stacks.

    ``shown`` gives the outputs that a leaf is shown by.
    """
    table = context.table
    occurrences: dict[DimId, list[tuple[str, int]]] = {}
    for stack in stacks:
        for axis, dim in enumerate(axes[stack.id]):
            if dim is not None:
                occurrences.setdefault(table.find(dim), []).extend((tensor, axis) for tensor in stack.tensors)
    ids = _numbered(context, roles, [dim for stack in stacks for dim in axes[stack.id] if dim is not None])
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
            frozen=None if None in frozen else frozen[0],
            occurrences=tuple(occurrences.get(root, ())),
            outputs=tuple(dict.fromkeys(name for leaf in table.leaves(root) for name in shown.get(leaf, ()))),
        )
    return dims, ids


def _numbered(context: AxisFacts, roles: Roles, carried: list[DimId]) -> dict[DimId, str]:
    """Ids of the dims that weights carry, in order, and of those that are made of them."""
    table = context.table
    ids: dict[DimId, str] = {}

    def number(dim: DimId) -> None:
        for found in _with_parts(context, dim):
            ids.setdefault(found, f"d{len(ids)}")

    for dim in carried:
        number(dim)
    for role in (Role.HEADS, Role.HEAD_DIM):  # composites that no weight carries alone, such as kv_heads x group
        for dim in roles.dims(role):
            if all(leaf in ids for leaf in table.leaves(dim)):
                number(dim)
    for dim in table.joint:
        if all(leaf in ids for leaf in table.leaves(dim)):
            number(dim)
    for pair in (*table.equal_sizes, *table.dealt):
        for side in pair:
            number(side)
    return ids


def _with_parts(context: AxisFacts, dim: DimId) -> Iterator[DimId]:
    root = context.table.find(dim)
    yield root
    composite = context.table.composite(root)
    for part in composite.parts if composite else ():
        yield from _with_parts(context, part)


def _role(context: AxisFacts, roles: Roles, dim: DimId) -> Role:
    table = context.table
    role = roles.of(dim)
    if role is not None:
        return role
    if table.composite(dim) is not None:
        parts = [_role(context, roles, leaf) for leaf in table.leaves(dim) if table.size(leaf) != (1, 1)]
        return Role.COUNT if all(part is Role.COUNT for part in parts) else Role.FREE
    reason = table.frozen(dim)
    return Role.FREE if reason is None else _BY_REASON.get(reason.kind, Role.FREE)


def _unique_names(context: AxisFacts, roles: Roles, ids: dict[DimId, str]) -> dict[DimId, str]:
    names: dict[DimId, str] = {}
    taken: dict[str, int] = {}
    for root in ids:
        composite = context.table.composite(root)
        frozen = all(context.table.frozen(leaf) for leaf in context.table.leaves(root))
        if composite is not None and roles.of(root) is None and not frozen:
            continue
        role = _role(context, roles, root)
        base = role.value if role not in _NAMELESS else f"dim_{context.table.size(root)[0]}"
        taken[base] = taken.get(base, 0) + 1
        names[root] = base if taken[base] == 1 else f"{base}_{taken[base]}"
    for root in ids:
        if root not in names:
            names[root] = _composite_name(context, root, names)
    return names


def _composite_name(context: AxisFacts, root: DimId, names: dict[DimId, str]) -> str:
    if root in names:
        return names[root]
    composite = context.table.composite(root)
    assert composite is not None
    parts = [_composite_name(context, part, names) for part in composite.parts]
    return ("*" if composite.kind == "product" else " + ").join(f"({p})" if " + " in p else p for p in parts)


def stack_name(names: tuple[str, ...], members: Sequence[Parameter]) -> str:
    """Readable name: the tensors' own with ``*`` for the layer, or their nodes' where an exporter lost the name."""
    scopes = [(member.uses[0][0].name or "").strip("/").replace("/", ".") for member in members]
    if re.match(r"(onnx::|val_|_)", names[0]) and scopes and all(scopes):
        names = tuple(scopes)
    prefix = _common_start(names)
    if len(names) == 1 or len(prefix) == len(names[0]):
        return names[0]
    suffix = _common_start([name[::-1] for name in names])[::-1]
    prefix = re.sub(r"\d+$", "", prefix)
    suffix = re.sub(r"^\d+", "", suffix)
    return f"{prefix}*{suffix}" if len(prefix) + len(suffix) < min(map(len, names)) else names[0]


def chain_names(chains: Sequence[LayerChain]) -> list[str]:
    """A chain's name: the last part of the scope that its parameters share, else ``layers``; unique.

    Where several have the same (``text_model.encoder``, ``vision_model.encoder``), it is what tells them apart.
    """
    scopes = [_scope(chain) for chain in chains]
    names: list[str] = []
    for scope in scopes:
        namesakes = [other for other in scopes if other[-1] == scope[-1] and other is not scope]
        own = [part for part in scope if not any(part in other for other in namesakes)]
        name = own[-1] if own and namesakes else scope[-1]
        number = sum(other == name or re.fullmatch(rf"{re.escape(name)}_\d+", other) is not None for other in names)
        names.append(name if number == 0 else f"{name}_{number + 1}")
    return names


def _scope(chain: LayerChain) -> list[str]:
    """Parts of the scope that the parameters of a chain share, without those that say nothing."""
    for value, following in zip(chain.layers[0].parameters, chain.layers[1].parameters, strict=True):
        shared = _common_start([value.name or "", following.name or ""])
        if value.name != following.name and re.fullmatch(r"[A-Za-z_][\w]*(\.\w+)*\.", shared):
            return [token for token in shared.split(".") if token and token not in _GENERIC] or ["layers"]
    return ["layers"]


def _common_start(texts: Sequence[str]) -> str:
    """Longest common beginning."""
    shortest, longest = min(texts), max(texts)
    length = next((i for i, (a, b) in enumerate(zip(shortest, longest, strict=False)) if a != b), len(shortest))
    return shortest[:length]
