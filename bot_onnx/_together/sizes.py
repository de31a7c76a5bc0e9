"""A spec for every file, under which all linked dims have one size.

Every file is solved by itself, with what the spec says of it. Where a linked dim comes out otherwise in two files, the
size that is asked for counts, else the one that changes, else the one that cannot; it is asked of the others under
``dims``, and all is solved again until nothing differs. So every file has a spec of its own that says its sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bot_onnx._structure import SPEC_ROLES, Dim, Role, Structure
from bot_onnx._target import Solution, TargetSpec, solve
from bot_onnx._together.links import SameDim
from bot_onnx._together.view import View
from bot_onnx.errors import BotError, DimError, SpecError

_ROUNDS = 24  #: of solving; every one decides a dim more
_OF_HEADS = (Role.HEADS, Role.KV_HEADS, Role.HEAD_DIM)

Node = tuple[int, str]  #: number of a file, and id of a dim in it


def spec_of_each(views: Sequence[View], spec: TargetSpec) -> list[TargetSpec]:
    """What a spec says of each file.

    Keys that a file has nothing for are left to those that have. Entries by the name of a chain, a dim or a node go to
    the files that have it, or to the one that is named: ``{"layers": {"encoder:layers": 6}}``.

    Raises:
        SpecError: an entry that is nowhere, or a list of layers.
    """
    if isinstance(spec.layers, list):
        raise SpecError("key 'layers': a list goes by the order of chains in one file: name them (NAME=NUMBER)")
    given = spec.model_dump(exclude_none=True, exclude_defaults=True)
    told = [{key: value for key, value in given.items() if key != "soft"} for _ in views]
    for key in ("layers", *SPEC_ROLES, "dims", "constants"):
        value = getattr(spec, key)
        if value is None or value == {}:
            continue
        if isinstance(value, Mapping):
            entries = given[key]
            _spread(views, told, key, entries)
            continue
        having = [n for n, seen in enumerate(views) if _has(seen.structure, key)]
        for number in range(len(views)):
            if having and number not in having:
                told[number].pop(key)
    made = []
    for one in told:
        soft = tuple(key for key in spec.soft if key in one)
        made.append(TargetSpec.model_validate({**one, "soft": soft}, context={"where": "spec"}))
    return made


def agreed(
    views: Sequence[View], specs: Sequence[TargetSpec], same: Sequence[SameDim], kept: Iterable[Node] = ()
) -> list[TargetSpec]:
    """The specs with what makes linked dims agree.

    Args:
        views: of the files. specs: what is asked of each. same: dims that have one size.
        kept: dims that turned out to keep their size.

    Raises:
        SpecError, DimError: a size cannot be had, or is asked otherwise in two files; the message names both.
    """
    groups = _groups(same)
    specs = list(specs)
    for node in kept:
        _ask(views, specs, node, _dim(views, node).size)
    for _ in range(_ROUNDS):
        solutions = [_solved(seen, spec) for seen, spec in zip(views, specs, strict=True)]
        apart = _first_apart(views, groups, solutions)
        if apart is None:
            return specs
        size = _winner(views, apart, solutions, same)
        for node in apart:
            if solutions[node[0]].sizes[node[1]] != size:
                _ask(views, specs, node, size)
    raise DimError("the files find no common sizes: give those of the dims between them under 'dims'")


def check_depths(
    views: Sequence[View], specs: Sequence[TargetSpec], stacks: Iterable[tuple[int, Any, int, Any]]
) -> None:
    """Refuse other depths of layers that two files share.

    Raises:
        SpecError: names both chains.
    """
    solutions = [_solved(seen, spec) for seen, spec in zip(views, specs, strict=True)]
    for one, left, other, right in stacks:
        if left.chain is None or right.chain is None:
            continue
        depths = solutions[one].layers[left.chain], solutions[other].layers[right.chain]
        if depths[0] != depths[1]:
            raise SpecError(
                f"key 'layers': '{left.chain}' of {views[one].name} and '{right.chain}' of {views[other].name} are the "
                f"same layers, and would be {depths[0]} and {depths[1]}: give both one number"
            )


def _spread(views: Sequence[View], told: list[dict[str, Any]], key: str, entries: Mapping[str, Any]) -> None:
    for one in told:
        one.pop(key)
    for name, value in entries.items():
        owner, _, inner = name.rpartition(":")
        named = [n for n, seen in enumerate(views) if seen.name == owner]
        place = inner if named else name
        having = named or [n for n, seen in enumerate(views) if place in _names(seen.structure, key)]
        if key == "constants" and not named:  # nodes are looked up when the file is planned
            having = list(range(len(views)))
        if not having:
            known = sorted({entry for seen in views for entry in _names(seen.structure, key)})
            raise SpecError(
                f"key '{key}.{name}': no file has it; they have: {', '.join(known) or 'none'}", alternatives=known
            )
        for number in having:
            told[number].setdefault(key, {})[place] = value


def _names(structure: Structure, key: str) -> set[str]:
    if key == "dims":
        return {dim.name for dim in structure.dims.values()}
    return {chain.name for chain in structure.chains}


def _has(structure: Structure, key: str) -> bool:
    """Whether a file has anything that a key of a spec speaks of."""
    if key == "layers":
        return bool(structure.chains)
    roles = {dim.role for dim in structure.dims.values()}
    return key in roles or (key in _OF_HEADS and not roles.isdisjoint(_OF_HEADS))


def _groups(same: Iterable[SameDim]) -> list[list[Node]]:
    """Dims that have one size, each group in the order in which it was met."""
    group_of: dict[Node, list[Node]] = {}
    for link in same:
        left, right = group_of.setdefault(link.one, [link.one]), group_of.setdefault(link.other, [link.other])
        if left is not right:
            left.extend(right)
            group_of.update(dict.fromkeys(right, left))
    unique = {id(group): group for group in group_of.values()}
    # Parts before what they make up: a size that a part asks for says more than that of the whole.
    return list(unique.values())


def _first_apart(
    views: Sequence[View], groups: Sequence[list[Node]], solutions: Sequence[Solution]
) -> list[Node] | None:
    apart = [group for group in groups if len({solutions[n].sizes[dim] for n, dim in group}) > 1]
    return min(apart, key=lambda group: max(len(_dim(views, node).parts) for node in group), default=None)


def _winner(
    views: Sequence[View], group: Sequence[Node], solutions: Sequence[Solution], same: Sequence[SameDim]
) -> int:
    sizes = {node: solutions[node[0]].sizes[node[1]] for node in group}
    asked = [node for node in group if _is_asked(views, node, solutions)]
    fixed = [node for node in group if _dim(views, node).frozen is not None]
    changed = [node for node in group if sizes[node] != _dim(views, node).size]
    for chosen in (asked, fixed, changed):
        found = {sizes[node] for node in chosen}
        if len(found) == 1:
            return found.pop()
        if found:
            raise _clash(views, chosen, sizes, same)
    raise _clash(views, group, sizes, same)


def _is_asked(views: Sequence[View], node: Node, solutions: Sequence[Solution]) -> bool:
    dims = views[node[0]].structure.dims
    todo, leaves = [node[1]], set[str]()
    while todo:
        dim = dims[todo.pop()]
        todo.extend(dim.parts)
        leaves |= set() if dim.parts else {dim.id}
    return leaves <= solutions[node[0]].asked


def _clash(
    views: Sequence[View], nodes: Sequence[Node], sizes: Mapping[Node, int], same: Sequence[SameDim]
) -> DimError:
    wanted = ", ".join(f"{sizes[node]} in {views[node[0]].name} ('{_dim(views, node).name}')" for node in nodes)
    why = next((link.why for link in same if link.one in nodes or link.other in nodes), "")
    return DimError(
        f"a dim that is one ({why}) would be {wanted}: ask for one size, or give it under 'dims'",
        dim=_dim(views, nodes[0]).name,
        alternatives=tuple(sorted({sizes[node] for node in nodes})),
    )


def _ask(views: Sequence[View], specs: list[TargetSpec], node: Node, size: int) -> None:
    number, _ = node
    specs[number] = specs[number].merge({"dims": {_dim(views, node).name: size}})


def _dim(views: Sequence[View], node: Node) -> Dim:
    return views[node[0]].structure.dims[node[1]]


def _solved(seen: View, spec: TargetSpec) -> Solution:
    try:
        return solve(seen.structure, spec)
    except BotError as error:
        error.args = (f"{seen.name}: {error}", *error.args[1:])
        raise
