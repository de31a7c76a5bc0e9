"""A HuggingFace ``config.json`` as a target spec: its keys (:mod:`bot_onnx._target.config_families`) mapped to ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bot_onnx._target.config_families import COMMON, PAIRS, TOWERS, family_of, keys_of, size_keys
from bot_onnx.errors import SpecError

_MARKS = ("model_type", "architectures", "transformers_version", "_name_or_path")


def recognises(data: Mapping[str, Any], own_keys: Sequence[str]) -> bool:
    """Tell a HuggingFace config from a spec of ours by its content.

    A config names its model type or architecture, or has size keys of that world and none that is only ours; a spec
    with one foreign key among its own stays a spec, so that the foreign key is refused and not half understood.
    """
    if any(mark in data for mark in _MARKS):
        return True
    foreign = size_keys(data)
    return bool(data.keys() & (foreign - set(own_keys))) and not data.keys() & (set(own_keys) - foreign)


def convert(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Translate a config into the keys of :class:`bot_onnx._target.TargetSpec`.

    Soft keys (skipped with a note where the graph has no such dim): ``vocab`` and ``positions``, a ``head_dim`` that
    the config leaves to hidden / heads, an ``intermediate`` that it leaves to 4 * hidden, and a single kv head, which
    an exported graph does not show. Of a network in stages (Swin, ConvNeXt) the first stage's sizes are taken; the
    others keep their ratio to it.

    Raises:
        SpecError: a size that is none, several towers in one config, or an encoder and a decoder of different widths,
            which one key cannot say.
    """
    config = tower(config, where)
    found = {key: size for key in COMMON if (size := _read(config, key, where)) is not None}
    if not found.keys() & {"layers", "hidden", "heads", "intermediate"}:
        raise SpecError(
            f"{where}: looks like a HuggingFace config but has none of the known size keys "
            f"(hidden_size, num_hidden_layers, num_attention_heads, …); write a spec of bot-onnx instead."
        )
    soft = {"vocab", "positions"} & found.keys()
    soft |= _implied(config, found)
    if "positions" in found:
        found["positions"] += family_of(config).position_offset
    name = config.get("_name_or_path") or config.get("model_type")
    named = {"name": name} if isinstance(name, str) and name else {}
    return {**named, **found, "soft": [key for key in COMMON if key in soft]}


def _implied(config: Mapping[str, Any], found: dict[str, Any]) -> set[str]:
    """Add the sizes that the config only implies to ``found``; return those of them that are soft."""
    hidden, heads = found.get("hidden"), found.get("heads")
    soft: set[str] = set()
    # multi_query wins over num_kv_heads, which Falcon fills with the number of query heads in this case.
    if config.get("multi_query") is True and not config.get("new_decoder_architecture"):
        found["kv_heads"] = 1
    if found.get("kv_heads") == 1:
        soft.add("kv_heads")
    if "head_dim" not in found and hidden and heads and hidden % heads == 0:
        found["head_dim"] = hidden // heads
        soft.add("head_dim")
    if "intermediate" not in found and hidden:
        ratio = config.get("mlp_ratio") or config.get("expansion_ratio")
        ratio = 4 if ratio is None and family_of(config).four_times else ratio
        # Above 2**20 no ratio is meant, and a float's product could be infinite.
        if isinstance(ratio, int | float) and not isinstance(ratio, bool) and 0 < ratio < 2**20:
            found["intermediate"] = max(1, int(hidden * ratio))
            soft.add("intermediate")
    return soft


def tower(config: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the config that holds the sizes: itself, or its only sub-config."""
    if config.keys() & size_keys(config) - {"vocab_size"}:
        return config
    towers = [key for key in TOWERS if isinstance(config.get(key), Mapping)]
    if len(towers) > 1:
        raise SpecError(
            f"{where}: this config describes several towers ({', '.join(towers)}); save the one that your graph "
            f"holds as a file of its own, or write a spec with 'dims'."
        )
    return config[towers[0]] if towers else config


def _read(config: Mapping[str, Any], key: str, where: str) -> Any:
    """Return the value of one of our keys: a size, for layers also a list of sizes; None if the config has none."""
    for encoder, decoder in PAIRS.get(key, ()):
        if config.get(encoder) is not None and config.get(decoder) is not None:
            return _both(config, (encoder, decoder), key, where)
    for alias in keys_of(config)[key]:
        value = config.get(alias)
        if value is None:
            continue
        if isinstance(value, list) and value:
            sizes = [_size(item, f"{alias}[{index}]", where) for index, item in enumerate(value)]
            return sizes if key == "layers" else sizes[0]
        return _size(value, alias, where)
    return None


def _both(config: Mapping[str, Any], pair: tuple[str, str], key: str, where: str) -> int | list[int]:
    encoder, decoder = (_size(config[name], name, where) for name in pair)
    if encoder == decoder:
        return encoder
    if key == "layers":
        return [encoder, decoder]
    raise SpecError(
        f"{where}: {pair[0]} {encoder} and {pair[1]} {decoder} differ, which the key '{key}' cannot say; "
        f"write a spec that names the dims of both under 'dims' (inspect prints them)."
    )


def _size(value: Any, key: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise SpecError(f"{where}: key '{key}' must be a whole number above 0, not {value!r:.80}; correct or drop it.")
    return value
