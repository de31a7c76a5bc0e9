"""The solver: from a spec and the source's structure to the new size of every dim and chain.

Explicit sizes come first, then what follows from them, pass by pass; every size that is decided is at once carried
through the composites (:mod:`bot_onnx._target.constraints`), so a later pass only decides what is still open:

1. frozen dims keep their size; ``dims`` and the role keys give theirs;
2. query heads per kv head stay (a single kv head stays single), head_dim stays, v_head_dim goes with it;
3. heads follow a hidden size that is asked for, kv heads keep their ratio to the heads;
4. ``width`` scales what is open; intermediate sizes keep their ratio to hidden; second forms of hidden (a pooler's)
   follow it; free leaves in the layers keep their ratio;
5. the rest stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bot_onnx._structure import Structure
from bot_onnx._target.attention import derive_heads, derive_kv_heads, hold_groups, hold_head_dim, hold_heads
from bot_onnx._target.channels import (
    derive_free,
    derive_intermediate,
    follow_hidden,
    hold_extents,
    hold_rest,
    split_composites,
    tell_outputs,
)
from bot_onnx._target.composition import combine
from bot_onnx._target.depth import solve_layers
from bot_onnx._target.kept_layers import Picks, solve_picks
from bot_onnx._target.kept_tokens import kept_tokens
from bot_onnx._target.messages import listing, place
from bot_onnx._target.problem import Problem
from bot_onnx._target.schema import MAX_SIZE, TargetSpec
from bot_onnx._target.targets import apply_requests, ask_dims, ask_roles, fix_frozen
from bot_onnx._target.width import apply_width, instead, tell_width
from bot_onnx.errors import DimError, SpecError, said

_PASSES: tuple[Callable[[Problem], None], ...] = (
    fix_frozen,
    ask_dims,
    ask_roles,
    apply_requests,
    hold_groups,
    hold_head_dim,
    hold_extents,
    split_composites,
    derive_heads,
    apply_width,
    hold_heads,
    derive_kv_heads,
    split_composites,
    derive_intermediate,
    follow_hidden,
    derive_free,
    hold_rest,
    tell_width,
    tell_outputs,
)


@dataclass(frozen=True, slots=True)
class Solution:
    """Target sizes of a whole model.

    Attributes:
        sizes: number of indices in the target, by dim id, for every dim of the structure.
        layers: number of layers in the target, by chain name, for every chain.
        notes: what was derived, skipped or left, and why, as sentences.
        asked: ids of the leaves whose size the spec gives, by key or under ``dims``, alone or in a composite.
        picks: per chain whose layers the spec names, the source's layer for every layer of the target.
        tokens: ids of the source's tokens that stay, in order, where the spec names them and not all do.
        vocabularies: source size by id of the dims that count these tokens.
    """

    sizes: dict[str, int]
    layers: dict[str, int]
    notes: tuple[str, ...] = ()
    asked: frozenset[str] = frozenset()
    picks: Picks = field(default_factory=dict)
    tokens: tuple[int, ...] = ()
    vocabularies: Mapping[str, int] = field(default_factory=dict)

    def keeps_sizes_of(self, structure: Structure) -> bool:
        """Whether all sizes and layers are those of the source."""
        sizes = all(self.sizes[ident] == dim.size for ident, dim in structure.dims.items())
        layers = all(self.layers[chain.name] == chain.count for chain in structure.chains)
        return sizes and layers and not self.picks and not self.tokens

    @property
    def with_all_tokens(self) -> Solution:
        """The same sizes, without the cut of the vocabulary: what is kept of it does not depend on what goes."""
        return replace(self, sizes={**self.sizes, **self.vocabularies}, tokens=(), vocabularies={})


def solve(structure: Structure, spec: TargetSpec) -> Solution:
    """Size every dim and every chain of layers.

    Args:
        structure: the analysed source graph.
        spec: what is asked for; keys left out are derived.

    Returns:
        A solution in which every composite is exactly the product or sum of its parts and no frozen dim has changed.

    Raises:
        SpecError: a key whose role no dim carries, or layers that cannot be had.
        DimError: an unknown or frozen dim, contradictory sizes, or a size that the composition does not admit; the
            message names the dim, its place and what would do.
        GraphError: the structure itself is inconsistent.
    """
    problem = Problem.of(structure, spec)
    layers = solve_layers(structure, spec, problem.notes)
    picks = solve_picks(structure, spec, layers)
    for run in _PASSES:
        run(problem)
    sizes = _verified(problem)
    shuffled = [one for pair in structure.equal_sizes for one in pair if sizes[one] != structure.dims[one].size]
    if shuffled:
        names = listing(dict.fromkeys(structure.dims[ident].name for ident in shuffled), 4)
        problem.note(
            f"channels are shuffled between {names}: which of them belong together is not followed through a change "
            "of width, so that no method keeps the function there."
        )
    uneven = structure.uneven(sizes)
    if uneven:
        names = listing(dict.fromkeys(structure.dims[one].name for one in uneven), 4)
        problem.note(
            f"the parts of {names} change by different ratios, and are normalised or averaged together: each weighs "
            "more or less in that then, so that no method keeps the function there."
        )
    asked = frozenset(leaf for ident in problem.asked for leaf in problem.comp.leaves(ident))
    whole = {ident: sizes[ident] for ident in structure.dims}
    found = Solution(whole, layers, tuple(problem.notes), asked, picks, *kept_tokens(structure, spec, whole))
    if spec.width not in (None, 1) and found.keeps_sizes_of(structure):
        raise SpecError(
            f"key 'width': {spec.width:g} changes no size of this graph, rounded to whole ones, so the result would be "
            f"the source; ask for another width, {instead(problem)}."
        )
    return found


def _verified(problem: Problem) -> dict[str, int]:
    """Return all sizes after checking what a solution promises."""
    sizes = problem.sizes.sizes()
    for ident, dim in problem.comp.dims.items():
        size = sizes.get(ident)
        if size is None or not 0 < size <= MAX_SIZE:
            raise DimError(
                f"dim {place(dim)} would become {size}, outside of 1…{MAX_SIZE}; ask for other sizes.", dim=dim.name
            )
        if dim.parts and combine(dim, sizes) != size:
            raise DimError(
                f"dim {place(dim)} would become {size}, its parts {combine(dim, sizes)}: contradiction.", dim=dim.name
            )
        if dim.frozen is not None and size != dim.size:
            raise DimError(
                f"dim {place(dim)} would become {size}, but is frozen: {said(dim.frozen)}; ask for other sizes.",
                dim=dim.name,
            )
    return sizes
