"""Where a sweep keeps its files: alone in a study, models of trials out of sight."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bot_onnx._onnxfile.atomic_output import worded
from bot_onnx._onnxfile.locks import try_lock
from bot_onnx.errors import OutputError

_MARK = "lock"  # in the hidden folder: who holds it is at work on the study


@contextmanager
def work_folder(study: Path) -> Iterator[Path]:
    """The hidden folder of a study, ``.<name>.trials`` beside it: this process' alone for the block, then gone.

    Where the block fails, or the process is killed, models of trials stay in it for the next run; see :func:`tidy`.

    Raises:
        OutputError: another run is at work on the study, or the folder cannot be made.
    """
    folder = study.with_name(f".{study.name}.trials")
    with worded(study):
        descriptor = _locked(folder, study)
    kept: list[str] = []
    try:
        yield folder
    except BaseException:
        kept = [entry.name for entry in folder.iterdir() if entry.name.isdecimal()]
        raise
    finally:
        tidy(folder, kept)
        with suppress(OSError):
            (folder / _MARK).unlink()
        os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()


def _locked(folder: Path, study: Path) -> int:
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / _MARK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # a run that ended has just removed it
            continue
        held = try_lock(descriptor)
        with suppress(OSError):
            if held is not False and os.path.samestat(os.fstat(descriptor), os.stat(folder / _MARK)):
                return descriptor
        os.close(descriptor)
        if held is False:
            raise OutputError(f"{study}: another sweep is at work on it; wait for it, or name another --study")


def tidy(folder: Path, kept: Collection[int | str]) -> None:
    """Remove everything from the hidden folder but the models of some trials."""
    stay = {_MARK, *map(str, kept)}
    with suppress(OSError):
        for entry in [entry for entry in folder.iterdir() if entry.name not in stay]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
