"""How channel counts outside of attention follow: MLPs, poolers, bottlenecks, the ``width`` factor, composites."""

from __future__ import annotations

import math
from collections import Counter

from bot_onnx._structure import Dim, Role
from bot_onnx._target.composition import Composition
from bot_onnx._target.messages import listing, nearest, nearest_sizes, place
from bot_onnx._target.problem import Problem, round_channels
from bot_onnx.errors import DimError

#: Which part of a product takes up a new size, the others being kept: a number of equal parts, else the largest one.
_CARRIERS = (Role.HEADS, Role.KV_HEADS, Role.CONV_GROUPS)
#: Roles that count things: no channels, so ``round_to`` is not for them.
COUNTED = (*_CARRIERS, Role.GROUP)
#: Parts that are kept in any case.
KEPT = (
    *(Role.HEAD_DIM, Role.V_HEAD_DIM, Role.HALF_HEAD_DIM, Role.GROUP, Role.STATE, Role.TOKENS),
    *(Role.VOCAB, Role.POSITIONS, Role.IO, Role.SPATIAL, Role.COUNT, Role.OUT),
)
#: Roles that ``width`` scales.
SCALED_ROLES = (Role.HIDDEN, Role.HEADS, Role.KV_HEADS, Role.CONV_GROUPS, Role.INTERMEDIATE, Role.FREE)


def hold_extents(problem: Problem) -> None:
    """Keep vocabulary and positions, with what they are made of."""
    for dim in problem.comp.with_role(Role.VOCAB, Role.POSITIONS):
        if problem.unknown(dim):
            problem.keep_whole(dim, f"{dim.role} stays")


def split_composites(problem: Problem) -> None:
    """Size the parts of composites that are decided while more than one part is not.

    The parts of a concatenation keep their ratio. In a product one part takes up the change: query heads, kv heads,
    groups of a convolution where that leaves whole ones, else the largest; the others stay.

    Raises:
        DimError: a ratio that gives no whole size.
    """
    for ident in problem.comp.order:
        dim = problem.comp.dims[ident]
        unknown = problem.sizes.unknown_parts(dim)
        if problem.unknown(dim) or len(unknown) < 2:
            continue
        if dim.kind == "concat":
            _split_concat(problem, dim, unknown)
        else:
            carrier = _carrier([problem.comp.dims[part] for part in unknown], problem.new(dim) / dim.size)
            for part in unknown:
                if part != carrier.id:
                    problem.sizes.keep(part, f"only {carrier.name} takes up the change of {dim.name}")


def _split_concat(problem: Problem, dim: Dim, unknown: list[str]) -> None:
    dims = problem.comp.dims
    known = [part for part in dim.parts if part not in unknown]
    target = problem.new(dim) - sum(problem.new(dims[part]) for part in known)
    source = dim.size - sum(dims[part].size for part in known)
    # Part p becomes p * target / source, which must be a multiple of what is decided within p.
    units = [(dims[part].size, source * _unit(problem, dims[part])) for part in unknown]
    step = math.lcm(*(unit // math.gcd(unit, size) for size, unit in units))
    if target <= 0 or target % step:
        offset = problem.new(dim) - target
        raise DimError(
            f"dim {place(dim)} cannot become {problem.new(dim)}: its parts "
            f"{', '.join(f'{dims[part].name} {dims[part].size}' for part in unknown)} keep their ratio. Sizes that "
            f"would do: {nearest(problem.new(dim), step, offset)}; or give the parts under 'dims'.",
            dim=dim.name,
            alternatives=nearest_sizes(problem.new(dim), step, offset),
        )
    for part in unknown:
        if problem.sizes.get(part) is None:
            size = dims[part].size * target // source
            problem.sizes.assign(part, size, f"keeps its share of {dim.name} {problem.new(dim)}")
            if size != dims[part].size:
                problem.note(f"{dims[part].name}: {dims[part].size} -> {size}, keeps its share of {dim.name}.")


def _unit(problem: Problem, dim: Dim) -> int:
    """Return what the size of an undecided dim must be a multiple of: the decided parts of a product."""
    decided = [problem.sizes.get(part) for part in dim.parts]
    return math.prod(size for size in decided if size is not None) if dim.kind == "product" else 1


def _carrier(parts: list[Dim], factor: float) -> Dim:
    """Return the part of a product that takes up a change of size by ``factor``; the first of equals."""

    def rank(dim: Dim) -> tuple[int, int]:
        counted = dim.role in _CARRIERS and (dim.role != Role.CONV_GROUPS or _is_whole(dim.size * factor))
        order = _CARRIERS.index(dim.role) if counted else len(_CARRIERS)
        return (len(_CARRIERS) + 1 if dim.role in KEPT else order, -dim.size)

    return min(parts, key=rank)


def _is_whole(value: float) -> bool:
    return value >= 1 and abs(value - round(value)) < 1e-9


def bystanders(problem: Problem) -> set[str]:
    """Return the leaves that a rule must not scale: else both parts of a product would, and it by the square.

    For the same reason a leaf that stands twice in some product (groups x groups, of shuffled channels) leaves the
    change to another one, where there is one; so do groups that only count.
    """
    factors = {product.id: factors_of(problem.comp, product.id) for product in problem.comp.products()}
    others = set(repeated(problem.comp))
    others.update(group for parts in factors.values() for group in _counts(problem, parts))
    found: set[str] = set()
    for parts in factors.values():
        free = [
            problem.comp.dims[part]
            for part in dict.fromkeys(parts)
            if any(scalable(problem, leaf) for leaf in problem.comp.leaves(part))
        ]
        if len(free) > 1:
            first = [part for part in free if part.id not in others]
            carrier = _carrier(first or free, _factor(problem, free[0]))
            for part in free:
                if part is not carrier:
                    found.update(problem.comp.leaves(part.id))
    return found


def _counts(problem: Problem, parts: list[str]) -> list[str]:
    """Groups of a convolution that are a number of like things: some weight has what a group holds as its channels.

    The branches of a split attention are summed, and what reads the sum has the channels of one of them.
    """
    groups = [part for part in parts if problem.comp.dims[part].role == Role.CONV_GROUPS]
    mates = [problem.comp.dims[part] for part in parts if part not in groups and scalable(problem, part)]
    return [group for group in groups if any(_stands_without(problem, mate, group) for mate in mates)]


def _stands_without(problem: Problem, dim: Dim, group: str) -> bool:
    """Whether a leaf is the axis of a weight that has no axis with the groups."""
    return not problem.tensors_of(group).issuperset(tensor for tensor, _ in dim.occurrences)


def factors_of(comp: Composition, ident: str) -> list[str]:
    """What a product is made of, through products within it, each as often as it stands there."""
    dim = comp.dims[ident]
    if dim.kind != "product":
        return [ident]
    return [factor for part in dim.parts for factor in factors_of(comp, part)]


def repeated(comp: Composition) -> dict[str, int]:
    """How often dims stand in the product that has them most often, for those that stand more than once in one."""
    counts: Counter[str] = Counter()
    for product in comp.products():
        counts |= Counter(factors_of(comp, product.id))
    return {ident: count for ident, count in counts.items() if count > 1}


def _factor(problem: Problem, dim: Dim) -> float:
    """By what a rule would multiply a dim: ``width``, else as its residual stream changes."""
    hidden = problem.hidden_of(dim)
    if problem.spec.width is not None and (hidden is None or hidden.id not in problem.asked):
        return problem.spec.width
    return problem.new(hidden) / hidden.size if hidden is not None else 1.0


def scalable(problem: Problem, ident: str) -> bool:
    """Whether ``width`` scales a dim by its role, where no other rule sizes it."""
    dim = problem.comp.dims[ident]
    return dim.role in SCALED_ROLES and dim.frozen is None and not (dim.role == Role.KV_HEADS and dim.size == 1)


def derive_intermediate(problem: Problem) -> None:
    """Let undecided intermediate sizes keep their ratio to hidden, rounded to ``round_to`` (else to a whole size)."""
    skipped = bystanders(problem)
    for dim in problem.comp.with_role(Role.INTERMEDIATE, Role.CONV_GROUPS):
        hidden = problem.hidden_of(dim)
        if dim.id in skipped or hidden is None or not problem.sizes.changed(hidden.id):
            continue
        if problem.unknown(dim) and (dim.role == Role.INTERMEDIATE or dim.id in problem.in_layers):
            size, ratio = _keep_ratio(problem, dim, hidden), dim.size / hidden.size
            problem.note(f"{dim.name}: {dim.size} -> {size}, keeps its ratio {ratio:g} to {hidden.name}.")
    split_composites(problem)


def follow_hidden(problem: Problem) -> None:
    """Let undecided leaves follow hidden that are a second form of it: a pooler's, the transform's before a head.

    One matrix makes such a leaf from the stream, at the same size, and a trained matrix reads it again (or it is shown
    beside the stream itself: the analysis tells it from classes, which never follow).
    """
    skipped = bystanders(problem)
    for dim in problem.comp.with_role(Role.FREE):
        hidden = problem.hidden_of(dim)
        if dim.parts or hidden is None or dim.id in skipped or dim.size != hidden.size:
            continue
        second = problem.unknown(dim) and _is_second_form(problem, dim, hidden)
        if second and problem.sizes.changed(hidden.id):
            size = problem.new(hidden)
            problem.sizes.assign(dim.id, size, f"follows {hidden.name}")
            problem.note(
                f"{dim.name} ({dim.id}): {dim.size} -> {size}, follows {hidden.name}, which it equals in the source; "
                f"put '{dim.name}' under 'dims' for another size."
            )


def _is_second_form(problem: Problem, dim: Dim, hidden: Dim) -> bool:
    """Whether ``dim`` has hidden's width because it belongs to the stream.

    Either one matrix makes it from the stream, and something reads it; or it lies in a stem of convolutions whose last
    one writes the stream itself. Features that a matrix projects onto the stream have a width of their own.
    """
    uses = [
        (stack, stack.directions[axis])
        for stack in problem.structure.stacks
        if stack.kind in ("matrix", "kernel")
        for axis, ident in enumerate(stack.axes)
        if ident == dim.id
    ]
    makers = [stack for stack, direction in uses if direction == "out"]
    readers = [stack for stack, direction in uses if direction == "in"]
    if len(makers) != 1:
        return False
    if makers[0].kind == "matrix":
        return hidden.id in makers[0].axes and bool(readers or dim.outputs)
    return bool(readers) and all(stack.kind == "kernel" and hidden.id in stack.axes for stack in readers)


def derive_free(problem: Problem) -> None:
    """Let undecided free leaves inside the layers keep their ratio to the residual stream they work on.

    A free leaf outside of the layers (a factorised embedding, a classifier's own hidden layer) stays: nothing says
    that it belongs to the width of the network.
    """
    skipped = bystanders(problem)
    staying: list[str] = []
    scaled: list[str] = []
    for dim in problem.comp.with_role(Role.FREE):
        hidden = problem.hidden_of(dim)
        if dim.parts or hidden is None or not problem.unknown(dim) or not problem.sizes.changed(hidden.id):
            continue
        if dim.id in problem.in_layers and dim.id not in skipped:
            size = _keep_ratio(problem, dim, hidden)
            scaled.append(f"{dim.name} ({dim.id}) {dim.size} -> {size}")
        else:
            staying.append(f"{dim.name} ({dim.id}) {dim.size}")
    if scaled:
        problem.note(f"free dims in the layers keep their ratio to the residual stream: {listing(scaled, 8)}.")
    if staying:
        problem.note(f"free dims that no rule sizes stay: {listing(staying, 8)}; 'dims' sizes them by name.")


def _keep_ratio(problem: Problem, dim: Dim, hidden: Dim) -> int:
    new = problem.new(hidden)
    size = round_channels(dim.size * new / hidden.size, None if dim.role in COUNTED else problem.spec.round_to)
    problem.sizes.assign(dim.id, size, f"keeps its ratio to {hidden.name} {new}")
    return size


def hold_rest(problem: Problem) -> None:
    """Keep every leaf that no rule has sized; last what only tells how many channels a group that is normalised has."""
    dims, dealt = problem.comp.dims, problem.structure.dealt
    told = {part for _, product in dealt for part in dims[product].parts if dims[part].frozen is None}
    for ident in (*(ident for ident in problem.comp.order if ident not in told), *sorted(told)):
        if not dims[ident].parts:
            problem.sizes.keep(ident, "stays")


def tell_outputs(problem: Problem) -> None:
    """Note which outputs change with a channel of the network that they show, where no key names that channel."""
    told = []
    for dim in problem.comp.with_role(Role.HIDDEN, Role.FREE, Role.INTERMEDIATE, Role.CONV_GROUPS):
        if dim.outputs and not dim.parts and dim.id not in problem.asked and problem.sizes.changed(dim.id):
            told.append(f"{listing(dim.outputs, 4)} ({dim.name} {dim.size} -> {problem.new(dim)})")
    if told:
        problem.note(f"outputs that show channels of the network change: {listing(told, 8)}; 'dims' sizes them.")
