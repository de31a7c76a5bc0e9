"""The network as blocks: chains of layers folded, what lies before, between and behind them in runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from bot_onnx._structure import Dim, Part, Role, Structure

_MAIN: Final = ("matrix", "kernel", "embedding", "table")  #: kinds of weights that begin a block
_MOST: Final = 48  #: blocks that are shown; what is beyond is folded into one

#: Colour class by role, in the order of the legend, with what people call it.
GROUPS: Final[Mapping[str, tuple[str, tuple[Role, ...]]]] = {
    "hidden": ("hidden: the residual stream", (Role.HIDDEN,)),
    "heads": ("heads, kv_heads, groups of heads", (Role.HEADS, Role.KV_HEADS, Role.GROUP)),
    "headdim": ("head_dim: channels of a head", (Role.HEAD_DIM, Role.V_HEAD_DIM, Role.HALF_HEAD_DIM)),
    "inner": ("intermediate, experts, state", (Role.INTERMEDIATE, Role.EXPERTS, Role.STATE)),
    "vocab": ("vocab, positions, tokens", (Role.VOCAB, Role.POSITIONS, Role.TOKENS)),
    "channels": ("channels, groups of convolutions", (Role.FREE, Role.CONV_GROUPS)),
    "other": ("outputs, inputs, counts, taps of kernels", (Role.OUT, Role.IO, Role.COUNT, Role.SPATIAL)),
}
_GROUP_OF: Final = {role: name for name, (_, roles) in GROUPS.items() for role in roles}


@dataclass(frozen=True, slots=True)
class Chip:
    """A dim of a block: its name and size as text, its role, and the class of its colour."""

    text: str
    role: str
    group: str


@dataclass(frozen=True, slots=True)
class Block:
    """A box.

    Attributes:
        kind: ``port`` (an input or output), ``layers`` (a chain) or ``nodes``. title: what it is.
        times: how many of them follow one another, 1 where it stands alone.
        ops: what it does, by op, in a line. parameters: of one of them.
        chips: its dims.
    """

    kind: Literal["port", "layers", "nodes"]
    title: str
    times: int
    ops: str
    parameters: int
    chips: tuple[Chip, ...]


def blocks_of(structure: Structure) -> tuple[Block, ...]:
    """The boxes in graph order; every chain is one, at the place of its first layer."""
    assert structure.overview is not None
    dims = {dim.name: dim for dim in structure.dims.values()}
    counts = {chain.name: chain.count for chain in structure.chains}
    main = {name for stack in structure.stacks if stack.kind in _MAIN for name in stack.tensors}
    found: list[Block] = []
    run: list[Part] = []
    seen: set[str] = set()
    for part in structure.overview.parts:
        if part.kind == "node":
            if main.intersection(part.tensors) and any(main.intersection(one.tensors) for one in run):
                found += _run(run, dims, main)
                run = []
            run.append(part)
            continue
        if part.chain is not None and part.chain in seen:
            continue
        found += _run(run, dims, main)
        run = []
        if part.chain is not None:
            seen.add(part.chain)
            shown = _block("layers", part.chain, _typical(structure, part), dims)
            found.append(replace(shown, times=counts[part.chain]))
        else:
            found.append(Block("port", part.name, 1, part.kind, 0, ()))
    return _few(_folded([*found, *_run(run, dims, main)]))


def _typical(structure: Structure, first: Part) -> list[Part]:
    """The last layer of the chain that a part begins: a leading one may lack something."""
    assert structure.overview is not None
    return [[part for part in structure.overview.parts if part.chain == first.chain][-1]]


def _run(parts: Sequence[Part], dims: Mapping[str, Dim], main: Collection[str]) -> list[Block]:
    """Nodes that stand together: one with a matrix, a kernel or a table, and all that follows up to the next."""
    if not parts:
        return []
    named = next((part for part in parts if any(name in main for name in part.tensors)), parts[0])
    return [_block("nodes", named.name, parts, dims)]


def _block(kind: Literal["layers", "nodes"], title: str, parts: Sequence[Part], dims: Mapping[str, Dim]) -> Block:
    ops: dict[str, int] = {}
    for part in parts:
        for op, count in part.ops:
            ops[op] = ops.get(op, 0) + count
    named = dict.fromkeys(name for part in parts for name in part.dims)
    told = ", ".join(op if count == 1 else f"{count} {op}" for op, count in ops.items())
    parameters = sum(part.parameters for part in parts)
    return Block(kind, title, 1, told, parameters, tuple(chip(dims[name]) for name in named))


def chip(dim: Dim) -> Chip:
    """A dim with its size and the class of its role."""
    return Chip(f"{dim.name} {dim.size}", str(dim.role), _GROUP_OF[dim.role])


def leaf_chips(structure: Structure, axes: Iterable[str | None]) -> tuple[Chip, ...]:
    """The leaves that some axes are made of, each once."""
    found: dict[str, None] = {}

    def walk(ident: str) -> None:
        for part in structure.dims[ident].parts:
            walk(part)
        if not structure.dims[ident].parts:
            found[ident] = None

    for axis in axes:
        if axis is not None:
            walk(axis)
    return tuple(chip(structure.dims[ident]) for ident in found)


def _folded(found: Iterable[Block]) -> list[Block]:
    """Equal blocks of nodes that follow one another, as one."""
    made: list[Block] = []
    for block in found:
        last = made[-1] if made else None
        if (
            last is not None
            and block.kind == "nodes" == last.kind
            and replace(last, title="", times=1) == replace(block, title="")
        ):
            made[-1] = replace(last, times=last.times + 1)
        else:
            made.append(block)
    return made


def _few(found: Sequence[Block]) -> tuple[Block, ...]:
    """Of very many the first and last ones, and between them one that says how many there are."""
    if len(found) <= _MOST:
        return tuple(found)
    before, behind = found[: _MOST // 2], found[-_MOST // 2 :]
    between = found[len(before) : len(found) - len(behind)]
    parameters = sum(block.parameters * block.times for block in between)
    return (*before, Block("nodes", f"{len(between)} more blocks", 1, "", parameters, ()), *behind)
