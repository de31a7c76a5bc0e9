"""The ``width`` factor: what it scales, and what is told where an axis comes out otherwise."""

from __future__ import annotations

import math

from bot_onnx._structure import Dim, Role
from bot_onnx._target.attention import of_single_heads
from bot_onnx._target.channels import COUNTED, KEPT, SCALED_ROLES, bystanders, repeated, scalable
from bot_onnx._target.messages import listing, place
from bot_onnx._target.problem import Problem, round_channels
from bot_onnx.errors import SpecError, said


def instead(problem: Problem) -> str:
    """What of a graph can change whose width cannot, or why nothing of it can."""
    own = [dim for dim in problem.comp.dims.values() if not dim.parts]
    free = [f"{dim.name} ({dim.size})" for dim in own if dim.frozen is None and dim.role != Role.COUNT]
    deep = [chain.name for chain in problem.structure.chains if chain.resizable is None and chain.count > 1]
    ways = [f"size dims by name under 'dims': free are {listing(free)}"] if free else []
    ways += [f"change its number of layers: {listing(deep)}"] if deep else []
    if ways:
        return f"drop the key, or {', or '.join(ways)}"
    kept = [dim for dim in own if dim.frozen is not None and dim.role != Role.SPATIAL]
    first = max(kept, key=lambda dim: (dim.role in SCALED_ROLES, dim.size), default=None)
    why = "" if first is None or first.frozen is None else f" (dim {place(first)}: {said(first.frozen)})"
    return f"nor another one, or a layer, that could be resized{why}"


#: A piece of an axis is small where the axis has so many times its channels.
_SMALL = 4


def apply_width(problem: Problem) -> None:
    """Multiply the undecided leaves of role hidden, heads, kv_heads, conv_groups, intermediate and free by ``width``.

    Where there is one head alone, head_dim is multiplied as well. ``round_to`` rounds channel counts (those of grouped
    convolutions by whole groups), not numbers of heads. Beside a hidden size that is asked for, the intermediate size
    keeps its ratio to it instead. In a product of a single kv head and a group, the group is scaled; where the spec
    asks for more kv heads, they share it.

    Raises:
        SpecError: the graph has no dim that ``width`` could scale.
    """
    width = problem.spec.width
    if width is None:
        return
    skipped = bystanders(problem)
    candidates = [dim for dim in problem.comp.dims.values() if not dim.parts and scalable(problem, dim.id)]
    candidates += of_single_heads(problem)
    single = {kv.id for kv, _ in problem.comp.groups() if kv.size == 1}
    candidates += [group for kv, group in problem.comp.groups() if kv.id in single and group.frozen is None]
    shared = {group.id: problem.new(kv) for kv, group in problem.comp.groups() if kv.id in single}
    if not candidates:
        raise SpecError(
            "key 'width': this graph has no dim that width scales (hidden, heads, intermediate, free channels); "
            f"{instead(problem)}."
        )
    scaled = []
    often = repeated(problem.comp)  # takes the root of the change, where nothing else takes it
    rests = _rests(problem, skipped)
    for dim in sorted(candidates, key=lambda dim: dim.id in rests):
        hidden = problem.hidden_of(dim)
        led = dim.role in (Role.INTERMEDIATE, Role.CONV_GROUPS) and hidden is not None and hidden.id in problem.asked
        if not problem.unknown(dim) or dim.id in skipped or led:
            continue
        exact = dim.size * width ** (1 / often.get(dim.id, 1)) / shared.get(dim.id, 1)
        size = _rest(problem, rests[dim.id], dim) if dim.id in rests else None
        if size is None:
            counted = dim.role in COUNTED
            size = round_channels(exact, problem.spec.round_to if not counted else _whole_channels(problem, dim))
        problem.sizes.assign(dim.id, size, f"width {width:g}")
        problem.scaled[dim.id] = size if dim.id in rests else exact
        scaled.append(f"{dim.name} {dim.size} -> {size}")
    if scaled:
        problem.note(f"width {width:g}: {listing(scaled, 8)}.")


def _rests(problem: Problem, skipped: set[str]) -> dict[str, Dim]:
    """The leaves that take up what makes an axis the width's, with the axis: what is left where a piece is cut off.

    Beside a piece that cannot change (one channel of sixteen), or that is rounded, a rest that no weight has alone is
    what the others leave. Pieces of a fixed kind (coordinates beside channels) come on top of the width instead.
    """
    found: dict[str, Dim] = {}
    for dim in problem.comp.dims.values():
        parts = [problem.comp.dims[part] for part in dict.fromkeys(dim.parts)]
        alike = len(parts) == len(dim.parts) and not any(part.role in KEPT for part in parts)
        if dim.kind != "concat" or not alike or dim.frozen is not None or not problem.unknown(dim):
            continue
        rests = [part for part in parts if _is_rest(problem, part) and part.id not in skipped]
        if rests and not problem.comp.equals.get(dim.id):
            rest = max(rests, key=lambda part: part.size)
            found[rest.id] = dim
            _hold_numbers(problem, dim, [part for part in rests if part is not rest])
    return found


def _hold_numbers(problem: Problem, whole: Dim, pieces: list[Dim]) -> None:
    """Keep small pieces that are no whole share of their axis: three channels of sixteen are a number, no ratio."""
    assert problem.spec.width is not None
    for part in pieces:
        small = part.size * _SMALL <= whole.size and part.size * 2 < whole.size * problem.spec.width
        if small and whole.size % part.size:
            problem.sizes.keep(part.id, "a piece that is no whole share of its axis stays")
            problem.note(
                f"{part.name} ({part.id}), a piece of {part.size} of {whole.size} channels, stays: put it under 'dims' "
                "for another size."
            )


def _is_rest(problem: Problem, dim: Dim) -> bool:
    """Whether a leaf of a concatenation has no place of its own."""
    comp = problem.comp
    alone = not dim.parts and not dim.occurrences and not dim.outputs
    return alone and scalable(problem, dim.id) and len(comp.owners[dim.id]) == 1 and not comp.equals.get(dim.id)


def _rest(problem: Problem, whole: Dim, rest: Dim) -> int | None:
    """What the other parts leave of an axis at the width; None where they are not decided, or leave nothing."""
    assert problem.spec.width is not None
    sizes = [problem.sizes.get(part) for part in whole.parts if part != rest.id]
    known = [size for size in sizes if size is not None]
    left = round_channels(whole.size * problem.spec.width, problem.spec.round_to) - sum(known)
    return left if left > 0 and len(known) == len(sizes) else None


def tell_width(problem: Problem) -> None:
    """Note which axes come out at another ratio than ``width``, beyond what rounding makes of it.

    Parts that stay by rule (heads' channels, an image's coordinates) are none of that; pieces that cannot change are,
    and channels that stay since another part of their product takes up the change.
    """
    width = problem.spec.width
    asked = {leaf for ident in problem.asked for leaf in problem.comp.leaves(ident)}
    led = any(problem.comp.dims[ident].role == Role.HIDDEN for ident in problem.asked)
    if width is None or led or not problem.scaled:
        return
    exact: dict[str, float] = {}
    told = []
    for ident in reversed(problem.comp.order):
        dim = problem.comp.dims[ident]
        parts = [exact[part] for part in dim.parts]
        made = math.prod(parts) if dim.kind == "product" else sum(parts)
        exact[ident] = made if parts else problem.scaled.get(ident, problem.new(dim))
        if problem.new(dim) == round_channels(dim.size * width, problem.spec.round_to) or not _is_ruled(problem, dim):
            continue
        square = dim.kind == "product" and len(set(dim.parts)) == 1
        if (square or not math.isclose(exact[ident], dim.size * width)) and asked.isdisjoint(
            problem.comp.leaves(ident)
        ):
            told.append(f"{dim.name} {dim.size} -> {problem.new(dim)}")
    if told:
        problem.note(
            f"not at the ratio {width:g} of the width, for their parts change otherwise: {listing(told, 8)}; "
            "'dims' sizes them or their parts by name."
        )


def _is_ruled(problem: Problem, dim: Dim) -> bool:
    """Whether a composite is an axis of channels that one expects at the width."""
    comp = problem.comp
    leaves = [comp.dims[leaf] for leaf in comp.leaves(dim.id)]
    if not dim.parts or not dim.occurrences or not any(scalable(problem, leaf.id) for leaf in leaves):
        return False
    return dim.kind == "product" or not any(leaf.role in KEPT for leaf in leaves)


def _whole_channels(problem: Problem, dim: Dim) -> int | None:
    """What a number of groups must be a multiple of for its channels to be one of ``round_to``; None for heads."""
    multiple = problem.spec.round_to
    if multiple is None or dim.role != Role.CONV_GROUPS:
        return None
    per_group = [product.size // dim.size for product in problem.comp.products() if dim.id in product.parts]
    return math.lcm(*(multiple // math.gcd(multiple, channels) for channels in per_group))
