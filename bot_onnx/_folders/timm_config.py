"""A timm ``config.json`` at the sizes of a plan.

It names an architecture, whose constructor has the sizes; ``num_features`` tells of the width at the end, and
``model_args`` are handed to the constructor. Vision transformers take all of theirs there. Others are built from their
name alone, so no config makes the resized network, and a note says so.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from bot_onnx._folders.sizes import Sizes, Written
from bot_onnx._structure import Role

#: Starts of the names of architectures whose constructor takes embed_dim, depth and num_heads.
_TRANSFORMERS: Final = ("vit_", "deit_", "deit3_")


def recognises(config: Mapping[str, Any]) -> bool:
    """Tell a timm config by its content."""
    return isinstance(config.get("architecture"), str) and config.keys().isdisjoint({"model_type", "architectures"})


def resized(config: Mapping[str, Any], sizes: Sizes, where: str) -> Written:
    """Bring a config to the sizes of a plan; see :func:`bot_onnx._folders.config.resized`."""
    written = Written(copy.deepcopy(dict(config)))
    old = config.get("num_features")
    new = sizes.of_any(old) if isinstance(old, int) and not isinstance(old, bool) else None
    if new is not None:
        written.data["num_features"] = new
    elif isinstance(old, int) and sizes.changes(old):
        written.data["num_features"] = None
        written.notes.append(f"{where}: 'num_features' was {old}, of which there are several now: it is null.")
    if all(before == after for moves in (sizes.chains, *sizes.roles.values()) for before, after in moves):
        return written
    name = str(config["architecture"])
    said = _arguments(config, sizes) if name.startswith(_TRANSFORMERS) else None
    if said is None:
        written.notes.append(
            f"{where}: timm builds '{name}' at the sizes that its name stands for; its constructor is not told of the "
            "new ones, so the weights of this model are the ONNX file's alone."
        )
    else:
        written.data["model_args"] = {**(config.get("model_args") or {}), **said}
    return written


def _arguments(config: Mapping[str, Any], sizes: Sizes) -> dict[str, Any] | None:
    """Arguments of a vision transformer's constructor; None where they cannot say the sizes."""
    moves = {role: sorted(sizes.roles.get(role, ())) for role in (Role.HIDDEN, Role.HEADS, Role.INTERMEDIATE)}
    head = sorted(sizes.roles.get(Role.HEAD_DIM, ()))
    if any(len(found) != 1 for found in (*moves.values(), sizes.chains, head)):
        return None
    (width, hidden), (_, heads), (before, inner) = (moves[role][0] for role in moves)
    if hidden != heads * head[0][1] or width != config.get("num_features", width):
        return None
    made: dict[str, Any] = {"embed_dim": hidden, "depth": sizes.chains[0][1], "num_heads": heads}
    if inner * width != before * hidden or "mlp_ratio" in (config.get("model_args") or {}):
        if int(hidden * (inner / hidden)) != inner:
            return None
        made["mlp_ratio"] = inner / hidden
    return made
