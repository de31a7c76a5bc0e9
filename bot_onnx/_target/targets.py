"""What the spec says outright: frozen dims first, then what ``dims`` and the role keys ask for."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from bot_onnx._structure import SPEC_ROLES, Dim, Role
from bot_onnx._target.messages import listing, nearest, nearest_sizes, place, suggested, suggestion
from bot_onnx._target.problem import Problem
from bot_onnx.errors import DimError, SpecError, said

#: Extents: a second table of another length is another thing, not a scaled one.
_EXTENTS = (Role.VOCAB, Role.POSITIONS)

#: Roles of dims that are proposed where a key's own is not to be had: inner widths. What a model takes in, gives out or
#: looks up (vocab, positions, tokens, outputs) is never what another key meant.
_PROPOSED = (Role.FREE, Role.INTERMEDIATE, Role.HIDDEN, Role.STATE)


def fix_frozen(problem: Problem) -> None:
    """Keep the source size of every frozen dim, of all that it is made of, and of every count."""
    # Leaves first: their own reason says more than the one of a composite around them.
    for dim in sorted(problem.comp.dims.values(), key=lambda dim: bool(dim.parts)):
        if dim.frozen is not None or dim.role == Role.COUNT:
            reason = f"frozen: {said(dim.frozen)}" if dim.frozen is not None else "a count, never resized"
            for leaf in problem.comp.leaves(dim.id):
                problem.sizes.keep(leaf, reason)


def ask_dims(problem: Problem) -> None:
    """Note what the spec's ``dims`` ask for: sizes by dim name or id, of leaves or composites.

    Raises:
        DimError: an unknown name, a frozen dim, or two sizes for one dim.
    """
    dims = problem.structure.dims
    by_name = {dim.name: dim for dim in dims.values()}
    chosen: dict[str, tuple[str, int]] = {}
    for name, size in problem.spec.dims.items():
        dim = by_name.get(name) or dims.get(name)
        if dim is None:
            hint = suggestion(name, [*by_name, *dims])
            raise DimError(
                f"key 'dims.{name}': no dim has this name or id{hint or '.'} "
                f"The graph has: {listing(f'{found.name} ({found.id})' for found in dims.values())}",
                dim=name,
                alternatives=suggested(name, [*by_name, *dims]),
            )
        other, first = chosen.setdefault(dim.id, (name, size))
        if first != size:
            raise DimError(
                f"'dims' gives {place(dim)} two sizes, {first} as '{other}', {size} as '{name}': keep one.",
                dim=dim.name,
                alternatives=(first, size),
            )
        _ask(problem, dim, size, f"dims.{name}")
        problem.overridden.setdefault(dim.id, (size, f"dims.{name}"))


def ask_roles(problem: Problem) -> None:
    """Note what the spec's role keys ask of the dims that carry the roles.

    Dims of one role with the same source size all get the size asked for; others keep their ratio to the first one
    (``vocab`` and ``positions``: the largest one; others stay). Dims given under ``dims`` are left alone, as long as
    the key still says the size of some dim.

    A key that is an object by chain name asks each chain's own dims of the role.

    Raises:
        SpecError: no dim carries the role, or no chain has a name.
        DimError: a frozen dim, a ratio that gives no whole size, or ``dims`` gives other sizes to all that is meant.
    """
    for role, by_chain in problem.spec.requested_by_chain().items():
        for chain, size in by_chain.items():
            _ask_chain(problem, role, chain, size)
    for role, size in problem.spec.requested().items():
        found = problem.comp.with_role(role)
        if not found:
            _missing(problem, role, size)
            continue
        first = max(found, key=lambda dim: dim.size) if role in _EXTENTS else found[0]
        for dim in _left(problem, found, first, size, role):
            if role in _EXTENTS and dim.size != first.size:
                problem.note(f"{dim.name} ({dim.id}) stays at {dim.size}: '{role}' sizes {first.name} ({first.size}).")
                continue
            if role in _EXTENTS and role in problem.spec.soft and dim.frozen is not None:
                if dim.size != size:
                    problem.note(f"{dim.name} stays at {dim.size}, not {size} as in the config: {said(dim.frozen)}.")
                continue
            _ask(problem, dim, _scaled(dim, first, size, role), role)


def _ask_chain(problem: Problem, role: str, chain: str, size: int) -> None:
    """Ask the dims of a role that the parameters of one chain carry."""
    names = [known.name for known in problem.structure.chains]
    if chain not in names:
        raise SpecError(
            f"key '{role}.{chain}': no chain of layers has this name{suggestion(chain, names) or '.'} "
            f"The graph has: {listing(names) or 'none'}",
            alternatives=suggested(chain, names) or names,
        )
    carried = {
        leaf
        for stack in problem.structure.stacks
        if stack.chain == chain
        for ident in stack.axes
        if ident is not None
        for leaf in problem.comp.leaves(ident)
    }
    found = [dim for dim in problem.comp.with_role(role) if carried.issuperset(problem.comp.leaves(dim.id))]
    if not found:
        raise SpecError(
            f"key '{role}.{chain}': no dim in the layers of '{chain}' carries the role; drop the entry, or size a dim "
            "by name under 'dims'."
        )
    key = f"{role}.{chain}"
    for dim in _left(problem, found, found[0], size, key):
        _ask(problem, dim, _scaled(dim, found[0], size, key), key)


def _left(problem: Problem, found: Sequence[Dim], first: Dim, size: int, key: str) -> list[Dim]:
    """What a role's key sizes of the dims that carry the role: those that ``dims`` does not.

    Raises:
        DimError: ``dims`` gives other sizes to all that would get the key's own.
    """
    given = problem.overridden
    meant = [dim for dim in found if dim.size == first.size]
    if any(dim.id not in given or given[dim.id][0] == size for dim in meant):
        return [dim for dim in found if dim.id not in given]
    others = listing(f"'{given[dim.id][1]}' {given[dim.id][0]}" for dim in meant)
    if key in problem.spec.soft:
        problem.note(f"'{key}' {size} is skipped: {others} is given for {listing(dim.name for dim in meant)}.")
        return []
    raise DimError(
        f"key '{key}' gives {' and '.join(map(place, meant))} the size {size}, and {others}: drop '{key}', or what is "
        "under 'dims'.",
        dim=first.name,
        alternatives=(size, *(given[dim.id][0] for dim in meant)),
    )


def _ask(problem: Problem, dim: Dim, size: int, key: str) -> None:
    problem.asked.add(dim.id)
    frozen = _why_kept(dim)
    if frozen is not None and size != dim.size:
        peers = [peer for peer in problem.comp.with_role(key.split(".")[0]) if peer.frozen is None]
        way = f"; or put {listing(peer.name for peer in peers)} under 'dims' instead" if peers else ""
        raise DimError(
            f"key '{key}': dim {place(dim)} cannot become {size}, it is frozen: {frozen}. Drop the key or give "
            f"{dim.size}{way}.",
            dim=dim.name,
            alternatives=(dim.size,),
        )
    problem.requests.append((dim, size, key))


def _why_kept(dim: Dim) -> str | None:
    """Why a dim cannot get another size, in words."""
    if dim.frozen is not None:
        return said(dim.frozen)
    return "it counts things and is never resized" if dim.role == Role.COUNT else None


def apply_requests(problem: Problem) -> None:
    """Decide the sizes asked for, parts before the composites they make.

    So sizes that contradict each other meet at the composite, where the message can name them all.

    Raises:
        DimError: a contradiction, or a size that the composition does not admit.
    """
    rank = {ident: number for number, ident in enumerate(reversed(problem.comp.order))}
    for dim, size, key in sorted(problem.requests, key=lambda request: rank[request[0].id]):
        problem.sizes.assign(dim.id, size, f"asked by '{key}'")


def _scaled(dim: Dim, first: Dim, size: int, role: str) -> int:
    """Return the size of ``dim`` where ``first``, of the same role, becomes ``size``."""
    if dim.size * size % first.size:
        step = first.size // math.gcd(first.size, dim.size)
        raise DimError(
            f"key '{role}': {first.name} {first.size} -> {size} would make dim {place(dim)} "
            f"{dim.size * size / first.size:g}, for it keeps its ratio. Sizes that would do: {nearest(size, step)}; "
            f"or give its own size under 'dims' as '{dim.name}'.",
            dim=dim.name,
            alternatives=nearest_sizes(size, step),
        )
    return dim.size * size // first.size


def _missing(problem: Problem, role: str, size: int) -> None:
    """Refuse a key whose role no dim carries, unless it is soft or says what the graph is anyway."""
    if role == Role.KV_HEADS and _is_said_by_heads(problem, size):
        return
    if role in problem.spec.soft:
        problem.note(f"'{role}' {size} is skipped: no dim of this graph carries the role.")
        return
    known = problem.structure.own_kv_heads or problem.structure.single_kv_head
    if role == Role.KV_HEADS and not known and problem.comp.with_role(Role.HEADS):
        raise SpecError(
            "key 'kv_heads': how the query heads share key and value heads is not understood, and no dim is their "
            "number. Drop the key, or export the model with these heads repeated in a way that is known: by Expand and "
            "Reshape (repeat_interleave), by Tile, or by a Gather that repeats all of them alike.",
            dim=role,
        )
    carried = [f"{dim.role} ({dim.size})" for dim in problem.comp.dims.values() if dim.role in SPEC_ROLES]
    carried = list(dict.fromkeys(carried))
    way = f"it has {listing(carried)}" if carried else "it carries none of the roles, only dims by name"
    free = [d for d in problem.comp.dims.values() if not d.parts and d.frozen is None and d.role in _PROPOSED]
    named = "it has no inner width that could be sized instead"
    if free:
        example = json.dumps({"dims": {free[0].name: size}})[1:-1]
        named = f"size a dim by name, such as {example}; free are {listing(f'{d.name} ({d.size})' for d in free)}"
    raise SpecError(
        f"key '{role}': no dim of this graph carries the role; {way}. Drop the key; {named}.",
        dim=role,
        alternatives=[d.name for d in free],
    )


def _is_said_by_heads(problem: Problem, size: int) -> bool:
    """Whether key and value heads without a dim are as many as a spec asks for; noted, if so."""
    heads = problem.comp.with_role(Role.HEADS)
    wanted = {dim.id: asked for dim, asked, _ in problem.requests}
    if problem.structure.own_kv_heads and heads and size == wanted.get(heads[0].id, heads[0].size):
        problem.note(f"kv_heads {size} needs no dim of its own: every query head has its key and value head.")
        return True
    if problem.structure.single_kv_head and size == 1:
        problem.note("kv_heads 1 is what the graph has: one key and value head, which all query heads share.")
        return True
    return False
