"""A folder of sounds as the input of a model that takes waveforms."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.rows import Padded, Places, Rows, Spool, starts_of
from bot_onnx._recover.types import Array
from bot_onnx.errors import RecoverError

SUFFIXES: Final = frozenset({".wav", ".wave"})
_MASK: Final = "attention_mask"
_OTHERS: Final = frozenset({".flac", ".mp3", ".ogg", ".m4a", ".opus", ".aac"})
_AWAY: Final = "make the inputs with the model's own processor, as an .npz file"
_BYTES_24: Final = 3
_LEAST: Final = 1e-7  #: that variances take, as the extractors of waveforms do


def find_sounds(folders: Iterable[Path]) -> list[Path]:
    """All WAV files of folders and the folders in them, in order of their names.

    Raises:
        RecoverError: sounds of other formats.
    """
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    odd = next((path for path in files if path.suffix.lower() in _OTHERS), None)
    if odd is not None:
        raise RecoverError(f"{odd} is no WAV file, and no other sounds are read: save them as WAV (PCM)")
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def read_sounds(
    files: Sequence[Path], specs: Sequence[InputSpec], config: Path | None, seconds: float, label: str
) -> Dataset:
    """Read WAV files at the rate that the model's config says; nothing is resampled.

    A file is cut into samples of at most ``seconds``, or of the model's own length. Where the model takes a mask, the
    last of a file is padded with zeros, else what does not fill one is left out.

    Args:
        files: the sounds. specs: inputs of the model: waveforms ``[batch, samples]``, and maybe a mask.
        config: the model's ``preprocessor_config.json``, which says the rate.
        seconds: of a sample. label: how notes call the data.

    Raises:
        RecoverError: the model takes something else (spectra), or a file is of another rate, has several channels, or
            cannot be read.
    """
    waves = [spec for spec in specs if spec.dtype.kind == "f"]
    odd = next((spec for spec in specs if spec not in waves and spec.name != _MASK), None)
    if len(waves) != 1 or len(waves[0].shape) != 2 or odd is not None:
        told = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in specs)
        raise RecoverError(f"sounds go into one input [batch, samples], and the model takes {told}: {_AWAY}")
    spec, masks = waves[0], [one for one in specs if one.name == _MASK]
    rate, normal = _rate(config)
    fixed = spec.shape[1] if isinstance(spec.shape[1], int) else None
    length = fixed or max(1, round(rate * seconds))
    spool, lengths = Spool(np.dtype(np.float32)), list[int]()
    for path in files:
        sound = _read(path, rate)
        end = len(sound) if masks else len(sound) // length * length
        for start in range(0, end, length):
            piece = sound[start : start + length]
            if normal:
                piece = (piece - piece.mean()) / np.sqrt(piece.var() + _LEAST)
            spool.append(piece)
            lengths.append(piece.size)
    each = f"at most {length / rate:g} seconds at {rate:,} a second, as {config} says"
    note = f"{len(lengths):,} samples of {label}, {each}"
    made: dict[str, Any] = {"sounds": [rate, normal, length]}
    if not masks:
        whole = spool.array(len(lengths), length)
        return Dataset({spec.name: whole.astype(spec.dtype, copy=False)}, notes=(note,), told=made)
    sizes = np.array(lengths, np.int64)
    padded = Padded(spool.array(), starts_of(sizes), sizes, 0, spec.dtype, fixed)
    arrays: dict[str, Rows] = {spec.name: padded, _MASK: Places(sizes, masks[0].dtype, fixed)}
    return Dataset(arrays, {}, sizes, () if fixed else tuple(arrays), None, notes=(note,), told=made)


def _rate(config: Path | None) -> tuple[int, bool]:
    """Numbers a second, and whether a sample is brought to mean 0 and variance 1."""
    if config is None:
        raise RecoverError(
            "sounds need the model's preprocessor_config.json, which says their rate: name it with --preprocessor"
        )
    try:
        told: Any = json.loads(config.read_text(encoding="utf-8"))
        kind, rate = told.get("feature_extractor_type", "Wav2Vec2FeatureExtractor"), told["sampling_rate"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecoverError(f"{config} says of no 'sampling_rate' ({error}): {_AWAY}") from error
    if told.get("feature_size", 1) != 1 or kind != "Wav2Vec2FeatureExtractor" or "chunk_length" in told:
        raise RecoverError(f"{config} makes no waveforms ({kind}), but features that are not known here: {_AWAY}")
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
        raise RecoverError(f"{config} has the sampling_rate {rate!r:.40}: {_AWAY}")
    return rate, bool(told.get("do_normalize", True))


def _read(path: Path, rate: int) -> Array:
    """A sound as numbers between -1 and 1."""
    try:
        with wave.open(str(path), "rb") as file:
            width, found, channels = file.getsampwidth(), file.getframerate(), file.getnchannels()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise RecoverError(f"{path} cannot be read as PCM: {error or 'it ends early'}; save it again") from error
    if found != rate:
        raise RecoverError(f"{path} has {found:,} numbers a second, and the model takes {rate:,}: resample it")
    if channels != 1:
        raise RecoverError(f"{path} has {channels} channels, and the model takes one: mix or choose one")
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if width == _BYTES_24:
        whole = np.zeros((len(raw) // width, 4), np.uint8)
        whole[:, 1:] = np.frombuffer(raw, np.uint8)[: len(whole) * width].reshape(-1, width)
        return whole.reshape(-1).view("<i4").astype(np.float32) / 2**31
    numbers: Array = np.frombuffer(raw, f"<i{width}").astype(np.float32)
    return numbers / np.float32(2 ** (8 * width - 1))
