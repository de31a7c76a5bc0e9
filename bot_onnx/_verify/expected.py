"""What a file should hold, as predicted by a plan or asked for by a spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import onnx_ir as ir

from bot_onnx._structure import SPEC_ROLES, Role, Structure
from bot_onnx._surgery.types import DimChange, Plan
from bot_onnx._target import Solution, TargetSpec
from bot_onnx._target.depth import attention_chains, number_of
from bot_onnx.errors import SpecError

#: Roles that say nothing of a size which could be predicted: they never change.
FIXED = frozenset({Role.COUNT, Role.IO, Role.SPATIAL})


@dataclass(frozen=True, slots=True)
class Expected:
    """Predictions about a file; what is left out is not checked.

    Attributes:
        layers: ``(chain name, number of layers)`` in graph order, or None. Names are for messages where ``complete``.
        roles: sizes per role of the dims that carry it.
        composites: sizes that products and concats of these come to. Where a layer is all that is left of a chain,
            what only its repetition tied to such a product is a dim of its own.
        dims: size by dim name or id of the file itself.
        tensors: data type name and shape by initializer name.
        parameters: number of trained floats, in tensors of more than one element.
        size_bytes: of the model file and its data files together.
        converged: sizes that differed in the source are equal in the file, which may make layers of what was none.
        vanished: a dim is 1 that was more in the source: what was a matrix may be one number, which makes no layers.
        unchecked: keys of a spec that say nothing of the file, and why, by key.
        complete: ``layers`` and ``roles`` list all that there is, so what is found besides is a mismatch.
    """

    layers: tuple[tuple[str, int], ...] | None = None
    roles: Mapping[str, frozenset[int]] = field(default_factory=dict)
    composites: frozenset[int] = frozenset()
    dims: Mapping[str, int] = field(default_factory=dict)
    tensors: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    parameters: int | None = None
    size_bytes: int | None = None
    unchecked: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    converged: bool = False
    vanished: bool = False


def expected_from_plan(plan: Plan) -> Expected:
    """Predict everything of the file that a plan leads to."""
    tensors = {
        name: (stack.dtype, stack.task.target_shape) for stack in plan.stacks for name in stack.targets
    }  # fmt: skip
    # A tensor that became a single number is no parameter to the analysis.
    single = sum(prod(shape) == 1 and ir.DataType[dtype].is_floating_point() for dtype, shape in tensors.values())
    depths = ((c.chain, c.target, c.leading) for c in plan.layers)
    return replace(
        _of_sizes(plan.dims, depths),
        tensors=tensors,
        parameters=plan.parameters[1] - single,
        size_bytes=plan.size_bytes[1],
    )


def expected_from_sizes(structure: Structure, solution: Solution) -> Expected:
    """Predict the sizes of a file that was made of a source.

    Args:
        structure: of the source.
        solution: what its sizes become.
    """
    depths = ((c.name, solution.layers[c.name], c.leading) for c in structure.chains)
    return _of_sizes(DimChange.of(structure, solution.sizes), depths)


def _of_sizes(dims: Sequence[DimChange], depths: Iterable[tuple[str, int, int]]) -> Expected:
    """What all sizes come to; a depth is a chain, its number of layers, and how many of them lead."""
    roles: dict[str, set[int]] = {}
    for dim in dims:
        if dim.role not in FIXED and (dim.kind == "leaf" or dim.role != Role.FREE):
            roles.setdefault(dim.role, set()).add(dim.target)
    return Expected(
        # Where one layer is left beside one that is unlike it, nothing repeats: no chain is to be seen.
        layers=tuple((chain, count if count - leading > 1 else 1) for chain, count, leading in depths),
        roles={role: frozenset(sizes) for role, sizes in roles.items()},
        composites=frozenset(dim.target for dim in dims if dim.kind != "leaf"),
        complete=True,
        converged=_converged(dims),
        vanished=any(dim.role not in FIXED and dim.target == 1 < dim.source for dim in dims),
    )


def _converged(dims: Iterable[DimChange]) -> bool:
    """Whether two dims of different sizes have the same size in the target."""
    sizes: dict[int, set[int]] = {}
    for dim in dims:
        if dim.role not in FIXED:
            sizes.setdefault(dim.target, set()).add(dim.source)
    return any(len(sources) > 1 for sources in sizes.values())


def expected_from_spec(structure: Structure, spec: TargetSpec) -> Expected:
    """Predict what the keys of a spec say of a file by themselves.

    Keys that relate to a source (``width``, ``round_to``) say nothing of a file by itself, which is told.

    Args:
        structure: of the file to be checked: names of chains are looked up there.
        spec: the target.

    Raises:
        SpecError: ``layers`` names a chain that the file does not have, or lists another number of chains.
    """
    carried = {dim.role for dim in structure.dims.values()}
    frozen = {dim.role for dim in structure.dims.values() if dim.frozen is not None}
    named = {dim.role for dim in structure.dims.values() if not spec.dims.keys().isdisjoint((dim.name, dim.id))}
    skipped = {role for role in spec.soft if role not in carried or role in frozen or role in named}
    asked = {role: frozenset({size}) for role, size in spec.requested().items()}
    asked |= {role: frozenset(sizes.values()) for role, sizes in spec.requested_by_chain().items()}
    return Expected(
        layers=_layers(structure, spec),
        roles={role: sizes for role, sizes in asked.items() if role not in skipped},
        dims=dict(spec.dims),
        unchecked=dict.fromkeys(spec.relative, "it relates to the source; give that as well (--against)"),
    )


def _layers(structure: Structure, spec: TargetSpec) -> tuple[tuple[str, int], ...] | None:
    chains = {chain.name: chain.count for chain in structure.chains}
    overview = ", ".join(f"{name} ({count})" for name, count in chains.items()) or "no chain of layers"
    if spec.layers is None:
        return None
    if isinstance(spec.layers, dict):
        asked = {name: number_of(count) for name, count in spec.layers.items()}
        unknown = [name for name, count in asked.items() if name not in chains and count > 1]
        if unknown:
            raise SpecError(f"key 'layers.{unknown[0]}': no chain of the file has this name; it has {overview}")
        return tuple((name, count) for name, count in asked.items() if name in chains)
    if isinstance(spec.layers, list):
        # A chain of one layer leaves no trace: only the others can be told.
        counts = spec.layers if len(spec.layers) == len(chains) else [count for count in spec.layers if count > 1]
        if len(counts) != len(chains):
            raise SpecError(f"key 'layers' lists {len(spec.layers)} chains, but the file has {overview}")
        return tuple(zip(chains, counts, strict=True))
    number = number_of(spec.layers)
    if not chains:
        return () if number == 1 else (("layers", number),)
    names = [name for name in chains if name in attention_chains(structure)]
    if not names:
        # Without attention nothing says which chain a single number means: the one that has it will do.
        names = [name for name, count in chains.items() if count == number][:1] or list(chains)[:1]
    return tuple((name, number) for name in names)


def spec_dims(structure: Structure) -> dict[str, int]:
    """Sizes of the dims that a spec can address by key, by name."""
    return {dim.name: dim.size for dim in structure.dims.values() if dim.role in SPEC_ROLES}
