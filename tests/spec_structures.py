"""Hand-made structures of the common families, for the tests of the solver."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Chain, Dim, DimKind, Direction, Stack, Structure

Part = tuple[str, str, int] | tuple[str, str, Literal["product", "concat"], Sequence[str]]


def structure(
    dims: Sequence[Part],
    stacks: Sequence[tuple[str | None, Sequence[str]]] = (),
    frozen: dict[str, Why] | None = None,
) -> Structure:
    """Build a structure: leaves ``(name, role, size)``, composites ``(name, role, kind, part names)``.

    Dims get the ids d0, d1… in the order given; a composite stands after its parts. Stacks are ``(chain, axis names)``.
    """
    by_name: dict[str, Dim] = {}
    for number, entry in enumerate(dims):
        name, role = entry[:2]
        kind: DimKind = "leaf"
        made_of: list[Dim] = []
        if len(entry) == 4:
            kind, made_of = entry[2], [by_name[part] for part in entry[3]]
            sizes = [part.size for part in made_of]
            size = math.prod(sizes) if kind == "product" else sum(sizes)
        else:
            size = entry[2]
        parts = tuple(part.id for part in made_of)
        reason = Reason(frozen[name]) if frozen and name in frozen else None
        by_name[name] = Dim(f"d{number}", name, size, kind, parts, role, reason, ((f"w.{name}", 0),))
    built = []
    for number, (chain, axes) in enumerate(stacks):
        ids = tuple(by_name[axis].id for axis in axes)
        shape = tuple(by_name[axis].size for axis in axes)
        directions: tuple[Direction, ...] = ("in", "out") if len(axes) == 2 else tuple("none" for _ in axes)
        name = f"w{number}"
        built.append(Stack(f"s{number}", name, chain, (name,), "FLOAT", ids, shape, "matrix", directions))
    chain_names = dict.fromkeys(chain for chain, _ in stacks if chain)
    chains = tuple(Chain(name, 12, 1, 30) for name in chain_names)
    return Structure({dim.id: dim for dim in by_name.values()}, chains, tuple(built))


def bert() -> Structure:
    """Post-norm encoder: fused heads x head_dim, hidden a leaf of its own, pooler and 3 labels."""
    made = structure(
        [
            ("vocab", "vocab", 30522),
            ("hidden", "hidden", 768),
            ("positions", "positions", 512),
            ("heads", "heads", 12),
            ("head_dim", "head_dim", 64),
            ("attention", "free", "product", ["heads", "head_dim"]),
            ("v_head_dim", "v_head_dim", 64),
            ("values", "free", "product", ["heads", "v_head_dim"]),
            ("intermediate", "intermediate", 3072),
            ("pooled", "free", 768),
            ("labels", "out", 3),
        ],
        [
            (None, ["vocab", "hidden"]),
            (None, ["positions", "hidden"]),
            ("encoder", ["hidden", "attention"]),
            ("encoder", ["hidden", "values"]),
            ("encoder", ["values", "hidden"]),
            ("encoder", ["hidden", "intermediate"]),
            ("encoder", ["intermediate", "hidden"]),
            (None, ["hidden", "pooled"]),
            (None, ["pooled", "labels"]),
        ],
    )
    return replace(made, own_kv_heads=True)


def gpt2() -> Structure:
    """Fused qkv = q + k + v, the values with channels of their own."""
    return structure(
        [
            ("vocab", "vocab", 50257),
            ("hidden", "hidden", 768),
            ("positions", "positions", 1024),
            ("heads", "heads", 12),
            ("head_dim", "head_dim", 64),
            ("attention", "free", "product", ["heads", "head_dim"]),
            ("v_head_dim", "v_head_dim", 64),
            ("values", "free", "product", ["heads", "v_head_dim"]),
            ("qkv", "free", "concat", ["attention", "attention", "values"]),
            ("intermediate", "intermediate", 3072),
        ],
        [("layers", ["hidden", "qkv"]), ("layers", ["values", "hidden"]), ("layers", ["hidden", "intermediate"])],
    )


def llama(kv_heads: int = 8, group: int = 4, *, nested: bool = True) -> Structure:
    """Grouped queries and rotary halves; nested: heads = kv_heads x group is a dim, else only the whole product."""
    heads: list[Part] = [("heads", "heads", "product", ["kv_heads", "group"])] if nested else []
    width = ["heads", "head_dim"] if nested else ["kv_heads", "group", "head_dim"]
    return structure(
        [
            ("vocab", "vocab", 32000),
            ("hidden", "hidden", 2048),
            ("kv_heads", "kv_heads", kv_heads),
            ("group", "group", group),
            *heads,
            ("half", "half_head_dim", 32),
            ("head_dim", "head_dim", "concat", ["half", "half"]),
            ("queries", "free", "product", width),
            ("keys", "free", "product", ["kv_heads", "head_dim"]),
            ("intermediate", "intermediate", 5632),
        ],
        [("layers", ["hidden", "queries"]), ("layers", ["hidden", "keys"]), ("layers", ["hidden", "intermediate"])],
    )


def vit() -> Structure:
    """Fused qkv = 3 x heads x head_dim, the 3 a count; spatial patch axes."""
    return structure(
        [
            ("hidden", "hidden", 192),
            ("patch", "spatial", 16),
            ("positions", "positions", 197),
            ("three", "count", 3),
            ("heads", "heads", 3),
            ("head_dim", "head_dim", 64),
            ("qkv", "free", "product", ["three", "heads", "head_dim"]),
            ("attention", "free", "product", ["heads", "head_dim"]),
            ("intermediate", "intermediate", 768),
            ("classes", "out", 1000),
        ],
        [("blocks", ["hidden", "qkv"]), ("blocks", ["attention", "hidden"]), ("blocks", ["hidden", "intermediate"])],
        frozen={"three": Why.EQUAL_PARTS, "patch": Why.KERNEL, "classes": Why.UNKNOWN_SIZE},
    )


def tied() -> Structure:
    """The residual stream itself is heads x head_dim."""
    return structure(
        [
            ("heads", "heads", 12),
            ("head_dim", "head_dim", 64),
            ("hidden", "hidden", "product", ["heads", "head_dim"]),
            ("intermediate", "intermediate", 3072),
        ],
        [("layers", ["hidden", "hidden"]), ("layers", ["hidden", "intermediate"])],
    )
