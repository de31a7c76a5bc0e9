"""A HuggingFace ``config.json`` at the sizes of a plan: values exchanged, and nothing that is not so.

A value is what the plan makes of the source's value for the same thing. Where that is not one size (two chains of one
depth become two depths), the key is set to null and a note says what it would have to tell; a framework then refuses
the config instead of building another network. What is written is read again as a spec, and must say the plan's sizes.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final

from bot_onnx._folders.sizes import Sizes, Written
from bot_onnx._structure import Role
from bot_onnx._target import huggingface
from bot_onnx._target.config_families import COMMON, PAIRS, TOWERS, family_of, keys_of, size_keys
from bot_onnx.errors import SpecError

#: Keys outside the table for reading that repeat a width; they follow where the value is one of the plan's.
_REPEATED: Final = ("word_embed_proj_dim", "embedding_size", "projection_dim", "rotary_dim")
_RATIOS: Final = ("mlp_ratio", "expansion_ratio")
_LIKE_A_SIZE: Final = re.compile(r"(^|_)(size|dim|dims|width|embd|features|layers|heads)$|^d_")
_NO_SIZE: Final = frozenset({"image_size", "patch_size", "type_vocab_size", "kernel_size", "chunk_size", "window_size"})


def resized(config: Mapping[str, Any], sizes: Sizes, where: str) -> Written:
    """Bring a config to the sizes of a plan.

    Args:
        config: the source's. sizes: of the plan. where: what messages call the file.

    Returns:
        The new content, with the keys of the old one in order, and what it cannot say.

    Raises:
        SpecError: a size is no size, or the config derives one that the plan does not keep and no key can say.
    """
    written = Written(copy.deepcopy(dict(config)))
    parts = [written.data, *(written.data[key] for key in TOWERS if isinstance(written.data.get(key), dict))]
    parts = [part for part in parts if part.keys() & size_keys(part)]
    if not parts:
        written.notes.append(f"{where} has no size that is known here: it is kept as it is.")
    for part in parts:
        _Part(part, sizes, where, written.notes).write()
    return written


class _Part:
    """One object of sizes: the config, or one of its towers."""

    def __init__(self, config: dict[str, Any], sizes: Sizes, where: str, notes: list[str]) -> None:
        self.config, self.sizes, self.where, self.notes = config, sizes, where, notes
        self.before = copy.deepcopy(config)
        self.family, self.keys = family_of(config), keys_of(config)

    def write(self) -> None:
        """Exchange what changes, and hold the result against the plan."""
        said = self._read(self.before)
        for role in COMMON:
            offset = self.family.position_offset if role == Role.POSITIONS else 0
            for name in self._keys(role):
                self._exchange(role, name, offset)
        self._layer_types()
        self._others()
        self._check(said)

    def _keys(self, role: str) -> list[str]:
        names = [name for pair in PAIRS.get(role, ()) for name in pair] + list(self.keys[role])
        return [name for name in dict.fromkeys(names) if self.before.get(name) is not None]

    def _exchange(self, role: str, name: str, offset: int) -> None:
        old = self.before[name]
        if isinstance(old, list):
            new: Any = self._listed(role, old)
        elif isinstance(old, bool) or not isinstance(old, int):
            return
        elif role == "layers":
            new = self._depth(name, old)
        else:
            new = self.sizes.new(role, old + offset)
            new = None if new is None or new <= offset else new - offset
        if new is None:
            self._unsaid(name, old, role)
        self.config[name] = new

    def _depth(self, name: str, old: int) -> int | None:
        """Layers: by the order of the chains where the config has an encoder's and a decoder's."""
        chains = self.sizes.chains
        for pair in PAIRS["layers"]:
            both = tuple(self.before.get(key) for key in pair)
            if None in both or both != tuple(count for count, _ in chains):
                continue
            if name in pair:
                return chains[pair.index(name)][1]
            if old == both[0]:  # some repeat the encoder's
                return chains[0][1]
        return self.sizes.layers(old)

    def _listed(self, role: str, old: list[Any]) -> list[int] | None:
        if role == "layers":
            if old == [count for count, _ in self.sizes.chains]:
                return [new for _, new in self.sizes.chains]
            made = [self.sizes.layers(count) for count in old]
        else:
            made = [self.sizes.new(role, size) for size in old]
            made = [
                self.sizes.of_any(size) if new is None else new for new, size in zip(made, old, strict=True)
            ]  # stages after the first have widths of their own
        kept = [size for size in made if size is not None]
        return kept if len(kept) == len(old) else None

    def _layer_types(self) -> None:
        """The kind of every layer, where a config lists it: as it comes again."""
        kinds, old = self.before.get("layer_types"), self._read(self.before).get("layers")
        new = self._read(self.config).get("layers") if isinstance(old, int) else None
        if not isinstance(kinds, list) or not isinstance(old, int) or len(kinds) != old or new == old:
            return
        period = next(n for n in range(1, old + 1) if all(kinds[i] == kinds[i % n] for i in range(old)))
        if isinstance(new, int) and 2 * period <= old:
            self.config["layer_types"] = [kinds[index % period] for index in range(new)]
        else:
            self.config["layer_types"] = None
            self.notes.append(
                f"{self.where}: 'layer_types' has no order that comes again: it is null, to be filled in."
            )

    def _others(self) -> None:
        """Keys that are not in the table for reading: those that repeat a width follow, others are told of."""
        known = size_keys(self.before)
        for name, old in self.before.items():
            if name in known or name in _NO_SIZE or isinstance(old, bool) or not isinstance(old, int):
                continue
            if not _LIKE_A_SIZE.search(name):
                continue
            new = self.sizes.of_any(old)
            if name in _REPEATED and new is not None:
                self.config[name] = new
            elif self._may_change(name, old):
                self.notes.append(
                    f"{self.where}: '{name}' is {old}, as was a size that changes; what it is for is not known: it is "
                    "kept, correct it where it means that size."
                )

    def _may_change(self, name: str, old: int) -> bool:
        if name.endswith("layers"):
            return any(before == old != after for before, after in self.sizes.chains)
        return self.sizes.changes(old, of=(Role.HEADS, Role.KV_HEADS) if name.endswith("heads") else None)

    def _check(self, said: Mapping[str, Any]) -> None:
        """Read what is written as a spec: every size that the source's config had right must be right again."""
        for role in ("intermediate", "head_dim", "kv_heads", "heads", "hidden", "vocab", "positions"):
            wanted = self._wanted(role, said)
            found = self._read(self.config).get(role)
            if wanted is None or found is None or found == wanted:
                continue
            self._say(role, wanted, found)
            after = self._read(self.config).get(role)
            if after is not None and after != wanted:
                raise SpecError(
                    f"{self.where} would say {role} {after} where the plan has {wanted}: choose sizes that keep the "
                    "relation, or give the .onnx file instead of the folder"
                )

    def _wanted(self, role: str, said: Mapping[str, Any]) -> int | None:
        size = said.get(role)
        if not isinstance(size, int) or not any(old == size for old, _ in self.sizes.roles.get(role, ())):
            return None
        return self.sizes.new(role, size)

    def _say(self, role: str, wanted: int, found: int) -> None:
        """Give a size that the config derives a key of its own, or take the derivation away."""
        null = [name for name in self.keys[role] if name in self.config and self.config[name] is None]
        ratio = next((name for name in _RATIOS if self.config.get(name)), None)
        if null:
            self.config[null[0]] = wanted
        elif role == Role.HEAD_DIM and role in self.family.takes:
            self.config[self.family.takes[role]] = wanted
        elif role == Role.INTERMEDIATE and ratio is not None:
            hidden = self._read(self.config).get("hidden")
            exact = wanted / hidden if isinstance(hidden, int) else 0.0
            self.config[ratio] = int(exact) if exact == int(exact) and isinstance(self.config[ratio], int) else exact
        elif role == Role.INTERMEDIATE and role in self.family.takes:
            self.config[self.family.takes[role]] = wanted
        elif role == Role.HEAD_DIM:
            for name in self._keys(Role.HEADS):
                self.config[name] = None
            self.notes.append(
                f"{self.where}: it derives head_dim {found} from hidden and heads, but the model has {wanted}, which "
                f"no key of this family says: {', '.join(map(repr, self._keys(Role.HEADS)))} is null."
            )

    def _unsaid(self, name: str, old: Any, role: str) -> None:
        moves = self.sizes.chains if role == "layers" else sorted(self.sizes.roles.get(role, ()))
        told = ", ".join(f"{before} to {after}" for before, after in moves)
        self.notes.append(
            f"{self.where}: '{name}' was {old} and cannot say what becomes of it ({role}: {told}): it is null, and the "
            "sizes are those of the model alone."
        )

    def _read(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What it says as a spec; empty where none of its sizes is left."""
        own = size_keys(config)
        if not any(config.get(name) is not None for name in config.keys() & own):
            return {}
        known = {key: value for key, value in config.items() if key in own or key not in TOWERS}
        roles = ("layers", "hidden", "heads", "intermediate")
        if not any(known.get(name) is not None for role in roles for name in self._names(role)):
            return {}
        return huggingface.convert(known, self.where)

    def _names(self, role: str) -> list[str]:
        return [*self.keys[role], *(name for pair in PAIRS.get(role, ()) for name in pair)]
