"""A HuggingFace ``config.json`` at a graph's sizes, from the source's: the way back of reading one as a spec."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from bot_onnx._checkpoint.patterns import pattern
from bot_onnx._checkpoint.types import Assignment
from bot_onnx._structure import SPEC_ROLES, Role, Structure
from bot_onnx._target import huggingface
from bot_onnx._target.config_families import COMMON, PAIRS, family_of, keys_of
from bot_onnx.errors import SpecError

#: Extents: of several tables the largest is meant.
_EXTENTS = (Role.VOCAB, Role.POSITIONS)


def resized_config(
    config: Mapping[str, Any], structure: Structure, assignment: Assignment, where: str
) -> dict[str, Any]:
    """Write a graph's sizes into a config.

    Args:
        config: the source's.
        structure: of the graph.
        assignment: of the graph: the numbers in its keys say how many layers the framework's modules have.
        where: file that the config came from, for messages.

    Raises:
        SpecError: a size of the graph that the config has no key for.
    """
    result = copy.deepcopy(dict(config))
    result.pop("_name_or_path", None)  # it names the source, which this is not
    tower = huggingface.tower(result, where)
    assert isinstance(tower, dict)  # a part of the copy
    before = huggingface.convert(tower, where)
    offset = family_of(tower).position_offset
    _write_layers(tower, _depths(structure, assignment), before.get("layers"), where)
    for role in COMMON:
        size = None if role == "layers" else _size(structure, role, before, where)
        if size is not None:
            _write(tower, role, size - offset if role == Role.POSITIONS else size)
    after = huggingface.convert(tower, where)
    for role in SPEC_ROLES:
        wanted = _size(structure, role, before, where)
        if wanted is None or after.get(role, wanted) == wanted:
            continue
        names = ", ".join(keys_of(tower)[role][:3])
        raise SpecError(
            f"{where}: the graph has {role} {wanted}, but a config of this kind says {after[role]} and has no key for "
            f"it ({names}): the framework cannot build this network; resize to sizes that keep the relation"
        )
    return result


def _size(structure: Structure, role: str, before: Mapping[str, Any], where: str) -> int | None:
    """The graph's size of a role, or None where the graph has no such dim."""
    sizes = {dim.size for dim in structure.dims.values() if dim.role == role}
    if not sizes and role == Role.KV_HEADS and "kv_heads" in before:
        if structure.single_kv_head:
            return 1
        own = structure.own_kv_heads or before["kv_heads"] == before.get("heads")
        return _size(structure, "heads", before, where) if own else None
    if len(sizes) > 1 and role not in _EXTENTS:
        raise SpecError(f"{where}: the graph has several sizes of {role} ({sorted(sizes)}), which no config can say")
    if not sizes and role in (Role.HIDDEN, Role.HEADS) and role in before:
        raise SpecError(f"{where}: it says {role}, but the graph has no dim that is known to be that")
    return max(sizes, default=None)


def _write(config: dict[str, Any], role: str, size: int) -> None:
    """Set every key of a role; keys that are a multiple or part of the first one stay so."""
    names = [alias for alias in keys_of(config)[role] if alias in config]
    names += [name for pair in PAIRS.get(role, ()) for name in pair if name in config]
    values = [config[name] for name in names if isinstance(config[name], int)]
    if not values:
        # Null stands for a size that follows from the others: it is written out, which says the same.
        if names and config[names[0]] is None and role != Role.KV_HEADS:
            config[names[0]] = size
        return
    first = values[0]
    for name in names:
        if isinstance(config[name], int) and config[name] * size % first == 0:
            config[name] = config[name] * size // first


def _depths(structure: Structure, assignment: Assignment) -> list[int]:
    """Number of layers by container of layers (``encoder.layer``), in order."""
    chained = {name for stack in structure.stacks if stack.chain is not None for name in stack.tensors}
    containers: dict[str, int] = {}
    for key, candidates in assignment.candidates.items():
        text, numbers = pattern(key)
        if numbers and any(candidate.tensor in chained for candidate in candidates):
            containers.setdefault(text.partition(".*")[0], 0)
    for key in assignment.candidates:
        text, numbers = pattern(key)
        container = text.partition(".*")[0]
        if numbers and container in containers:  # layers outside a chain, such as a different first one, count too
            containers[container] = max(containers[container], numbers[0] + 1)
    return list(containers.values())


def _write_layers(config: dict[str, Any], depths: list[int], before: int | list[int] | None, where: str) -> None:
    if before is None:
        return
    for pair in PAIRS["layers"]:
        if all(isinstance(config.get(name), int) for name in pair):
            if len(depths) != 2:
                raise SpecError(f"{where}: it has an encoder and a decoder, but the graph {len(depths)} rows of layers")
            old = config[pair[0]]
            config.update(zip(pair, depths, strict=True))
            for alias in keys_of(config)["layers"]:  # some configs repeat the encoder's depth
                if alias not in pair and config.get(alias) == old:
                    config[alias] = depths[0]
            return
    if len(set(depths)) != 1 or isinstance(before, list):
        raise SpecError(f"{where}: the graph has {depths} layers, which this config's keys cannot say")
    _write(config, "layers", depths[0])
