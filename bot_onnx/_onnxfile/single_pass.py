"""The digest of a source and the search for NaN and infinity in its weights, with every byte read once."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from bot_onnx._onnxfile import finite
from bot_onnx._onnxfile.finite import NonFinite
from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.stored_tensor import StoredTensor
from bot_onnx._onnxfile.weight_files import WeightFile

_HASH_BYTES: Final = 1 << 20


def read_once(source: Source, *, search: bool) -> tuple[str, NonFinite | None]:
    """Read all files of a source.

    Args:
        source: open. search: whether to look for NaN and infinity.

    Returns:
        What :meth:`Source.sha256` and :meth:`Source.find_nonfinite` give; None where nothing was looked for.

    Raises:
        GraphError: a file has become shorter.
    """
    digest, scratch = hashlib.sha256(), np.empty(_HASH_BYTES, np.uint8)
    probed: dict[str, bool] = {}
    for file in source.hashed():
        place = 0
        for name, stored in _lying_in(file, source) if search else ():
            if stored.offset < place:
                continue  # it shares bytes with the one before: looked at on its own
            for chunk in file.chunks(place, stored.offset - place, scratch):
                digest.update(chunk.data)
            probed[name] = False
            for chunk in file.chunks(stored.offset, stored.nbytes, scratch[: finite.CHUNK_BYTES]):
                digest.update(chunk.data)
                probed[name] = probed[name] or finite.suspicious([chunk], stored.dtype)
            place = stored.offset + stored.nbytes
        for chunk in file.chunks(place, file.size - place, scratch):
            digest.update(chunk.data)
    return digest.hexdigest(), source.find_nonfinite(probed) if search else None


def _lying_in(file: WeightFile, source: Source) -> list[tuple[str, StoredTensor]]:
    """The tensors of a file that may hold NaN or infinity, in the order in which they lie there."""
    found = [
        (name, stored)
        for name, stored in source.tensors.items()
        if stored.file is not None and stored.file.path == file.path and finite.may_hold_nonfinite(stored.dtype)
    ]
    return sorted(found, key=lambda entry: (entry[1].offset, entry[1].nbytes))
