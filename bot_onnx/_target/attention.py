"""How heads and their channels follow where the spec leaves them out."""

from __future__ import annotations

import math

from bot_onnx._structure import Dim, Role
from bot_onnx._target.messages import nearest, nearest_sizes, place
from bot_onnx._target.problem import Problem
from bot_onnx.errors import DimError, said


def hold_groups(problem: Problem) -> None:
    """Keep either the number of kv heads (a single one) or of query heads per kv head, whichever is not asked for."""
    for kv, group in problem.comp.groups():
        if kv.id in problem.asked or not (problem.unknown(kv) and problem.unknown(group)):
            continue
        if kv.size == 1:
            problem.sizes.keep(kv.id, "a single kv head stays single")
        else:
            problem.sizes.keep(group.id, "query heads per kv head stay")


def hold_head_dim(problem: Problem) -> None:
    """Keep head_dim and v_head_dim, or let one follow the other where the source has them equal.

    Under ``width`` those of an attention of a single head are left to it: there is no number of heads to scale.
    """
    comp = problem.comp
    scaled = set() if problem.spec.width is None else {dim.id for dim in of_single_heads(problem)}
    keys, values = comp.with_role(Role.HEAD_DIM), comp.with_role(Role.V_HEAD_DIM)
    for dim in keys:
        if problem.unknown(dim) and dim.id not in scaled:
            twins = [
                v for v in values if v.size == dim.size and v.id not in problem.asked and problem.sizes.changed(v.id)
            ]
            _follow(problem, dim, twins, "head_dim stays")
    for dim in values:
        if problem.unknown(dim) and dim.id not in scaled:
            twins = [k for k in keys if k.size == dim.size and problem.sizes.changed(k.id)]
            _follow(problem, dim, twins, "v_head_dim stays")


def of_single_heads(problem: Problem) -> list[Dim]:
    """The dims of an attention of one head that can be resized: each is the whole of an axis, not a part of heads.

    Nor has any weight heads on an axis of their own beside it.
    """
    comp = problem.comp
    counted = {dim.id for dim in comp.with_role(Role.HEADS, Role.KV_HEADS)}
    beside = {ident for stack in problem.structure.stacks if counted.intersection(stack.axes) for ident in stack.axes}
    dims = comp.with_role(Role.HEAD_DIM, Role.V_HEAD_DIM)
    return [dim for dim in dims if not (dim.parts or comp.owners[dim.id] or dim.id in beside) and dim.frozen is None]


def _follow(problem: Problem, dim: Dim, twins: list[Dim], otherwise: str) -> None:
    if twins:
        size = problem.new(twins[0])
        problem.sizes.assign(dim.id, size, f"follows {twins[0].name}")
        problem.note(f"{dim.name}: {dim.size} -> {size}, as {twins[0].name}, which it equals in the source.")
    else:
        problem.keep_whole(dim, otherwise)


def derive_heads(problem: Problem) -> None:
    """Derive heads from the hidden size: heads' = heads * (hidden' / hidden) * (head_dim / head_dim').

    That is hidden' / head_dim' wherever hidden = heads * head_dim in the source, and keeps the ratio of the attention
    width to hidden elsewhere.

    Raises:
        DimError: no whole number of heads, or none that holds whole groups; the message says which hidden sizes would
            do.
    """
    for dim in problem.comp.with_role(Role.HEADS):
        hidden = problem.hidden_of(dim)
        if hidden is None or not (hidden.id in problem.asked or problem.sizes.changed(hidden.id)):
            continue
        if not problem.unknown(dim):
            if problem.sizes.changed(hidden.id) and not problem.sizes.changed(dim.id) and dim.frozen is not None:
                problem.note(
                    f"{dim.name} stays at {dim.size} (frozen: {said(dim.frozen)}) while {hidden.name} changes."
                )
            continue
        old, new = _head_dims(problem, dim)
        numerator = dim.size * problem.new(hidden) * old
        denominator = hidden.size * new
        quantum = _quantum(problem, dim)
        if numerator % (denominator * quantum):
            unit = denominator * quantum
            step = unit // math.gcd(unit, dim.size * old)
            whole = f" in whole groups of {quantum}" if quantum > 1 else ""
            raise DimError(
                f"{hidden.name} {problem.new(hidden)} with head_dim {new} gives dim {place(dim)} "
                f"{numerator / denominator:g} heads, which must be a whole number{whole}. Values of '{hidden.role}' "
                f"that would do: {nearest(problem.new(hidden), step)}; or give 'heads' or 'head_dim'.",
                dim=hidden.name,
                alternatives=nearest_sizes(problem.new(hidden), step),
            )
        size = numerator // denominator
        problem.sizes.assign(dim.id, size, f"derived from {hidden.name} {problem.new(hidden)} and head_dim {new}")
        if size != dim.size:
            problem.note(f"{dim.name}: {dim.size} -> {size}, from {hidden.name} {problem.new(hidden)}, head_dim {new}.")


def _quantum(problem: Problem, dim: Dim) -> int:
    """Return what the number of heads must be a multiple of: the decided parts of a ``kv_heads x group``."""
    if dim.kind != "product":
        return 1
    return math.prod(size for part in dim.parts if (size := problem.sizes.get(part)) is not None)


def _head_dims(problem: Problem, heads: Dim) -> tuple[int, int]:
    """Return (source, target) of the head_dim that stands in a product with these heads, else of the first one."""
    comp = problem.comp
    mine = comp.within(heads.id)
    for product in comp.products():
        if mine & set(product.parts):
            for part in product.parts:
                if comp.dims[part].role == Role.HEAD_DIM:
                    return comp.dims[part].size, problem.new(comp.dims[part])
    first = next(iter(comp.with_role(Role.HEAD_DIM)), None)
    return (first.size, problem.new(first)) if first else (1, 1)


def hold_heads(problem: Problem) -> None:
    """Keep the number of query heads that nothing decides."""
    for dim in problem.comp.with_role(Role.HEADS):
        if problem.unknown(dim) and not _decided_by_parts(problem, dim):
            problem.sizes.keep(dim.id, "heads stay")


def _decided_by_parts(problem: Problem, dim: Dim) -> bool:
    return bool(dim.parts) and not problem.sizes.unknown_parts(dim)


def derive_kv_heads(problem: Problem) -> None:
    """Size kv heads that no product ties to the query heads: they keep their ratio; a single one stays single.

    Raises:
        DimError: the ratio gives no whole number, or the query heads asked for are no multiple of the kv heads.
    """
    paired = {kv.id for kv, _ in problem.comp.groups()}
    for dim in problem.comp.with_role(Role.KV_HEADS):
        heads = _query_heads(problem, dim)
        if heads is None or dim.id in paired:
            continue
        new = problem.new(heads)
        if problem.unknown(dim):
            if dim.size == 1:
                problem.sizes.keep(dim.id, "a single kv head stays single")
                continue
            if dim.size * new % heads.size:
                step = heads.size // math.gcd(heads.size, dim.size)
                raise DimError(
                    f"{heads.name} {new} would give dim {place(dim)} {dim.size * new / heads.size:g} heads, for kv "
                    f"heads keep their ratio. Values of 'heads' that would do: {nearest(new, step)};"
                    " or give 'kv_heads'.",
                    dim=heads.name,
                    alternatives=nearest_sizes(new, step),
                )
            size = dim.size * new // heads.size
            problem.sizes.assign(dim.id, size, f"keeps its ratio to {heads.name} {new}")
            if size != dim.size:
                problem.note(f"{dim.name}: {dim.size} -> {size}, keeps its ratio to {heads.name}.")
        kv = problem.new(dim)
        if new % kv and heads.size % dim.size == 0:
            raise DimError(
                f"{heads.name} {new} is no multiple of dim {place(dim)} -> {kv}; query heads share whole kv heads: "
                f"would do: heads {nearest(new, kv)}, or another 'kv_heads'.",
                dim=heads.name,
                alternatives=nearest_sizes(new, kv),
            )


def _query_heads(problem: Problem, kv: Dim) -> Dim | None:
    """Return the query heads on the same residual stream as these kv heads, else the first."""
    heads = problem.comp.with_role(Role.HEADS)
    hidden = problem.hidden_of(kv)
    same = [dim for dim in heads if problem.hidden_of(dim) is hidden]
    return next(iter(same or heads), None)
