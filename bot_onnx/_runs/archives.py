"""Archives of arrays that promise more than they hold, or unfold into far more: refused before any memory is taken."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot_onnx.errors import DataError

#: What arrays may take in memory however small their file is, and how many times its length beyond that.
FREE_BYTES: Final = 1 << 30
MOST_TIMES: Final = 100


def check_archive(path: Path, wanted: Collection[str] | None = None) -> None:
    """Hold what an ``.npz`` file promises against what it is.

    Args:
        path: of the file; one that is no archive passes, for whoever reads it to refuse.
        wanted: names of the arrays that will be read; None: all.

    Raises:
        DataError: arrays unfold into too much, or one is said to be of another length than it has.
    """
    if not zipfile.is_zipfile(path):
        return
    most = max(FREE_BYTES, MOST_TIMES * path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        names = {entry: entry.filename.removesuffix(".npy") for entry in archive.infolist()}
        chosen = {entry: name for entry, name in names.items() if wanted is None or name in wanted}
        total = sum(entry.file_size for entry in chosen)
        if total > most:
            raise DataError(
                f"{path} unfolds from {path.stat().st_size:,} bytes into {total:,}: save fewer samples, or save them "
                "uncompressed (np.savez)"
            )
        for entry, name in chosen.items():
            with archive.open(entry) as stream:
                needed = _length(stream)
            if needed is not None and needed != entry.file_size:
                raise DataError(
                    f"array {name!r} of {path} should take {needed:,} bytes and has {entry.file_size:,}: the file is "
                    "damaged; save it again"
                )


def _length(stream: Any) -> int | None:
    """Bytes that an array takes with its header, as that says; None where it is no array of plain numbers."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            return None
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except ValueError:  # no array at all: for whoever reads it to refuse
        return None
    return None if dtype.hasobject else int(stream.tell()) + prod(map(int, shape)) * dtype.itemsize
