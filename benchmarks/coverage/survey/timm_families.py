"""Families of timm: one a module of ``timm.models``, represented by its smallest network, made smaller where it can be.

What a network's constructor is called with is caught on its way, so that its widths, heads and depths can be replaced
by small ones, whatever the network's own name says.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from unittest import mock

from benchmarks.coverage.builders.torchvision_import import import_torchvision
from benchmarks.coverage.exporting import quiet

CHANNELS = frozenset(
    """embed_dim embed_dims dims dim channels hidden_dim hidden_dims widths width planes base_channels stem_width
    stem_channels stem_size stem_chs growth_rate num_init_features num_features base_dim""".split()
)
HEADS = frozenset(["num_heads", "heads", "nheads"])
DEPTHS = frozenset(["depth", "depths", "layers", "num_blocks", "num_layers"])
SIZES = (32, 64, 128)
#: Networks above this number of weights are not tried out: they take too long.
LARGE = 30_000_000


class _Caught(Exception):
    """Carries the keyword arguments of a constructor."""


def constructor_arguments(name: str) -> dict[str, Any]:
    """The keyword arguments that timm would build ``name`` with."""
    import timm

    def catch(*_: Any, **arguments: Any) -> None:
        raise _Caught(arguments)

    module = sys.modules[timm.model_entrypoint(name).__module__]
    try:
        with mock.patch.object(module, "build_model_with_cfg", catch):
            timm.create_model(name, pretrained=False)
    except _Caught as caught:
        found: dict[str, Any] = caught.args[0]
        return found
    except (AttributeError, TypeError):
        return {}
    return {}


def shrunk(arguments: Mapping[str, Any], halve: bool) -> dict[str, Any]:
    """Small values for the widths, heads and depths among ``arguments``, the widths and heads halved if asked.

    A single number becomes 64 channels, 4 heads or 4 layers; a list of stages 32, 64, 128…, 2, 4, 8… and two layers a
    stage.
    """
    part = 2 if halve else 1
    small: dict[str, Any] = {}
    for key, value in arguments.items():
        many = isinstance(value, tuple | list) and all(isinstance(item, int) for item in value)
        if not many and (not isinstance(value, int) or isinstance(value, bool)):
            continue
        stages = range(len(value)) if many else range(0)
        if key in CHANNELS:
            small[key] = tuple((32 << s) // part for s in stages) if many else 64 // part
        elif key in HEADS:
            small[key] = tuple((2 << s) // part for s in stages) if many else 4 // part
        elif key in DEPTHS:
            small[key] = tuple(2 for _ in stages) if many else 4 // part
    return small


def _parameters(name: str, **arguments: Any) -> int:
    import timm
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(name, pretrained=False, **arguments).parameters())


def _smallest(module: str, limit: int = 40) -> tuple[int, str]:
    import timm

    names = [n for n in timm.list_models(module=module) if not n.endswith("_gap")] or timm.list_models(module=module)
    counts: list[tuple[int, str]] = []
    for name in names[:limit]:
        try:
            counts.append((_parameters(name), name))
        except Exception:
            continue  # cannot be built on the meta device, or wants another package
    return min(counts) if counts else (0, names[0])


def _default_size(name: str) -> int:
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return int(config.input_size[-1]) if config is not None else 224


def _works(name: str, image: int, arguments: Mapping[str, Any]) -> bool:
    import torch

    from benchmarks.coverage.builders.timm_models import build

    try:
        with torch.no_grad():
            built = build(name, image, arguments)
            result = built.module(*built.inputs)
        return all(bool(torch.isfinite(tensor).all()) for tensor in result)
    except Exception:
        return False


def family(module: str) -> dict[str, Any] | None:
    """The entry of one family, or None if no network of it can be built."""
    count, name = _smallest(module)
    arguments = constructor_arguments(name)
    small, half = shrunk(arguments, halve=False), shrunk(arguments, halve=True)
    depths = {key: value for key, value in small.items() if key in DEPTHS}
    attempts: list[tuple[dict[str, Any], dict[str, Any] | None]] = [(small, half)] if small != depths else []
    attempts += [(depths, None)] if depths else []
    attempts += [({}, None)]
    for source, native in attempts:
        if not source and count > LARGE:
            break
        for image in (*SIZES, _default_size(name)):
            if _works(name, image, source):
                fits = native is not None and _works(name, image, native)
                return {
                    "family": module, "model": name, "image": image, "arguments": source,
                    "half": native if fits else None, "parameters": count,
                }  # fmt: skip
    return {"family": module, "model": name, "problem": "no small size of it could be built", "parameters": count}


def survey(wanted: str, known: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield an entry for every family whose name contains ``wanted``, but for those known already."""
    with quiet():
        import_torchvision()
        import timm

        modules = [module for module in timm.list_modules() if wanted in module and module not in known]
    for module in modules:
        with quiet():
            found = family(module)
        if found is not None:
            yield found
