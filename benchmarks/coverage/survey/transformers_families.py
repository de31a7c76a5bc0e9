"""Families of transformers: one a folder of ``transformers.models``, built small from its configuration's defaults.

Which argument of a configuration is a width, a number of heads or of layers is known by its name; the library has
some fifty names for these. Which inputs a network takes is tried out.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Collection, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.coverage.builders.torchvision_import import import_torchvision
from benchmarks.coverage.exporting import quiet

_HIDDEN = """hidden_size d_model dim n_embd embed_dim model_dim d_embed encoder_hidden_size decoder_hidden_size
    word_embed_proj_dim projection_dim hidden_channels embedding_size encoder_embed_dim decoder_embed_dim emb_dim
    encoder_dim decoder_dim attention_dim output_dim out_hidden_size neck_hidden_size fusion_hidden_size
    output_hidden_size rnn_hidden_dim input_hidden_size fpn_hidden_size""".split()
_INNER = """intermediate_size ffn_dim n_inner d_ff encoder_ffn_dim decoder_ffn_dim hidden_dim ffn_hidden_size mlp_dim
    moe_intermediate_size shared_expert_intermediate_size feedforward_dim dim_feedforward inner_dim
    encoder_intermediate_size decoder_intermediate_size encoder_feedforward_dim decoder_feedforward_dim
    shared_intermediate_size expert_ffn_dim moe_shared_expert_intermediate_size dense_intermediate_size
    d_inner""".split()
_LAYERS = """num_hidden_layers n_layers n_layer num_layers encoder_layers decoder_layers num_encoder_layers
    num_decoder_layers depth encoder_num_layers decoder_num_layers encoder_num_hidden_layers
    decoder_num_hidden_layers num_blocks""".split()
_HEADS = """num_attention_heads n_heads n_head num_heads encoder_attention_heads decoder_attention_heads attention_heads
    encoder_num_attention_heads decoder_num_attention_heads encoder_num_heads decoder_num_heads
    num_attention_head""".split()
_KV_HEADS = "num_key_value_heads num_kv_heads n_kv_heads num_key_value_head n_head_kv".split()
_HEAD_DIM = "head_dim d_kv attention_head_dim d_head kv_channels head_size attention_head_size".split()
_STAGE_WIDTHS = "hidden_sizes embed_dims dims encoder_hidden_sizes hidden_dims widths".split()
_FIXED = {
    "vocab_size": 99, "max_position_embeddings": 64, "n_positions": 64, "max_source_positions": 64,
    "max_target_positions": 64, "n_ctx": 64, "image_size": 32, "patch_size": 8, "num_experts": 4,
    "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "max_sequence_length": 64,
    "num_mel_bins": 16, "moe_num_experts": 4, "moe_k": 2, "n_shared_experts": 1, "type_vocab_size": 2,
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
    "num_codevectors_per_group": 8, "codevector_dim": 16, "state_size": 8, "conv_depthwise_kernel_size": 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "sliding_window": 8, "n_group": 1,
    "topk_group": 1, "num_codebooks": 2, "codebook_size": 32, "num_queries": 6, "first_k_dense_replace": 1,
    "vocab_size_per_layer_input": 99, "hidden_size_per_layer_input": 16, "attn_implementation": None,
    "attention_window": 8,
}  # fmt: skip
_LIMIT = 15_000_000  # weights; above, the names have missed a size
_SECONDS = 60
_MEMORY = 8 << 30

_TEXT: dict[str, list[Any]] = {
    "input_ids": ["ids", "batch", "sequence"], "attention_mask": ["mask", "batch", "sequence"]
}  # fmt: skip
_IDS = {"input_ids": _TEXT["input_ids"]}
_DECODED = {"decoder_input_ids": ["ids", "batch", "target"]}


def small_config(config: Any, part: int = 1) -> dict[str, Any]:
    """Arguments that make a configuration small, nested ones included.

    Args:
        config: of default sizes.
        part: 2: half the width, heads and layers.
    """
    found: dict[str, Any] = {}
    values = {**config.to_dict()}
    values |= {name: getattr(config, name) for name in getattr(config, "attribute_map", {}) if hasattr(config, name)}
    for name, value in values.items():
        if name in getattr(config, "attribute_map", {}):
            continue
        nested = getattr(config, name, None)
        if hasattr(nested, "to_dict") and name in getattr(config, "sub_configs", {name: None}):
            found[name] = {"model_type": nested.model_type, **small_config(nested, part)}
        elif name.endswith("_token_id") and isinstance(value, int) and value >= 99:
            found[name] = 90 + sum(name.encode()) % 9
        else:
            small = _small(name, value, values, part)
            if small is not None:
                found[name] = small
    return found


def _small(name: str, value: Any, values: Mapping[str, Any], part: int) -> Any:
    if isinstance(value, tuple | list) and value and all(isinstance(item, int) for item in value):
        return _small_stages(name, range(len(value)), part)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    if name in _FIXED:
        return min(value, _FIXED[name]) if isinstance(_FIXED[name], int) else None
    if name in _KV_HEADS:
        heads = next((values[key] for key in _HEADS if isinstance(values.get(key), int)), value)
        return max(1, (4 if value == heads else 1 if value == 1 else 2) // part)
    for names, size in ((_HIDDEN, 64), (_INNER, 128), (_HEADS, 4), (_LAYERS, 4)):
        if name in names:
            return size // part
    return 16 if name in _HEAD_DIM else None


def _small_stages(name: str, stages: range, part: int) -> list[int] | None:
    """Small numbers for the stages of a network."""
    if name in _STAGE_WIDTHS:
        return [(32 << s) // part for s in stages]
    if name in _HEADS or name == "num_attention_heads":
        return [(2 << s) // part for s in stages]
    alike = {"depths": 2, "block_sizes": 1, "conv_dim": 32 // part, "tdnn_dim": 32 // part}
    return [alike[name]] * len(stages) if name in alike else None


def input_candidates(parameters: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
    """Sets of inputs that a call with these parameters may take, most telling first."""
    yield from _images(parameters)
    if "input_ids" in parameters:
        for given in (_TEXT, _IDS):
            yield given
            yield {**given, **_DECODED}
    yield from _sounds(parameters)
    for name in ("inputs_embeds", "hidden_states"):
        if name in parameters:
            yield {name: ["float", "batch", "sequence", 64]}


def _images(parameters: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
    for image in (32, 64, 128, 224):
        pixels = {"pixel_values": ["float", "batch", 3, image, image]}
        if "pixel_values" in parameters and "input_ids" in parameters and image < 100:
            yield {**_TEXT, **pixels}
            yield {**_IDS, **pixels}
        if "pixel_values" in parameters:
            yield pixels
            yield {**pixels, **_DECODED}
        if "pixel_values_videos" in parameters and "pixel_values" not in parameters:
            yield {"pixel_values_videos": ["float", "batch", 4, 3, image, image]}
    for frames in (2, 8, 16):
        if "pixel_values" in parameters:
            yield {"pixel_values": ["float", "batch", frames, 3, 32, 32]}


def _sounds(parameters: Mapping[str, Any]) -> Iterator[dict[str, list[Any]]]:
    if "input_values" in parameters:
        yield {"input_values": ["float", "batch", "samples"]}
        yield {"input_values": ["float", "batch", 1, "samples"]}
        yield {"input_values": ["float", "batch", 64, 16]}
    for name in ("input_features", "spectrogram"):
        if name in parameters:
            for shape in (["batch", 16, 128], ["batch", "time", 16], ["batch", "time", 80], ["batch", "time", 160]):
                yield {name: ["float", *shape]}
                yield {name: ["float", *shape], **_DECODED}


def representatives() -> dict[str, list[str]]:
    """Classes by family (a folder of ``transformers.models``), the family's own base model first."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    families: dict[str, list[tuple[bool, str]]] = {}
    for kind, names in MODEL_MAPPING_NAMES.items():
        for name in names if isinstance(names, tuple | list) else (names,):
            try:
                folder = getattr(transformers, name).__module__.split(".")[2]
            except (AttributeError, ImportError, IndexError):
                continue
            families.setdefault(folder, []).append((kind.replace("-", "_") != folder, name))
    return {
        folder: list(dict.fromkeys(name for _, name in sorted(found, key=lambda item: item[0])))
        for folder, found in families.items()
    }


def _entry(family: str, name: str) -> dict[str, Any]:
    """The entry of one class.

    Raises:
        ValueError: it cannot be built small, or no set of inputs fits; the message says which.
    """
    import inspect

    import torch
    import transformers

    from benchmarks.coverage.builders.huggingface import build

    kind = getattr(transformers, name)
    default = kind.config_class()
    config = small_config(default)
    with torch.device("meta"):
        count = sum(p.numel() for p in kind(kind.config_class(**config)).parameters())
    if count > _LIMIT:
        raise ValueError(f"{count:,} weights after making it small")
    parameters = inspect.signature(kind.forward).parameters
    constants = {"use_cache": False} if "use_cache" in parameters else {}
    problem: Exception | None = None
    for inputs in input_candidates(parameters):
        try:
            with torch.no_grad():
                built = build(name, config, inputs, constants)
                outputs = built.module(*built.inputs)
        except Exception as error:
            problem = problem or error
            continue
        if outputs and all(bool(torch.isfinite(tensor).any()) for tensor in outputs):
            half = small_config(default, part=2)
            return {"family": family, "model": name, "config": config, "half": half, "inputs": inputs,
                    "constants": constants, "parameters": count}  # fmt: skip
    raise ValueError(f"no inputs fit: {problem}"[:200])


def _child(family: str, names: list[str], sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    result: dict[str, Any] = {"family": family, "model": names[0], "problem": "no class"}
    with quiet():
        for name in names[:3]:
            try:
                result = _entry(family, name)
                break
            except Exception as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                result = {"family": family, "model": name, "problem": reason}
    sender.send(result)


def survey(wanted: str, known: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield an entry for every family whose name contains ``wanted``, but for those known already.

    One that cannot be had has a ``problem`` instead of a configuration.
    """
    with quiet():
        import_torchvision()
        import transformers  # noqa: F401

        families = {f: names for f, names in representatives().items() if wanted in f and f not in known}
    context = multiprocessing.get_context("fork")
    for family, names in sorted(families.items()):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(family, names, sender), daemon=True)
        process.start()
        sender.close()
        try:
            yield receiver.recv() if receiver.poll(_SECONDS) else _given_up(family, names, "took too long")
        except EOFError:
            yield _given_up(family, names, "the process died")
        process.kill()
        process.join()


def _given_up(family: str, names: list[str], why: str) -> dict[str, Any]:
    return {"family": family, "model": names[0], "problem": why}
