"""Files that get their names as one: what is about to happen is written down first.

No system renames two files in one step. So the order is such that whatever stands in between is either the old files
or refused on opening, and a note in the scratch folder says how to clear up: whoever finds it (this run at its end, or
the next one, after a kill) comes to the old files or to the new ones.

*Weights of a model* have names of their own (:mod:`bot_onnx._onnxfile.data_files`) and go first; the model's rename is
what counts, then the old weights go. *A second file under a fixed name* (a ``config.json``) goes last; the old one is
moved aside before, so that new weights never stand beside it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bot_onnx._onnxfile.data_files import is_read

STAGED: Final = "new"  #: folder in the scratch folder that holds the new files under their names
ASIDE: Final = "old"  #: the second file that was there before, in the scratch folder
_NOTE: Final = "journal"
_SWAP: Final = "swap"


@dataclass(frozen=True, slots=True)
class Journal:
    """What is about to happen in the folder of the scratch folder.

    Attributes:
        model: name of the file whose rename counts.
        made: names of the data files that get their names before.
        obsolete: names of data files that only the old model reads.
        second: name of the file that gets its name afterwards, or None.
    """

    model: str
    made: tuple[str, ...] = ()
    obsolete: tuple[str, ...] = ()
    second: str | None = None

    def write(self, scratch: Path) -> None:
        """Put it where :func:`settle` finds it."""
        note, unfinished = scratch / _NOTE, scratch / f"{_NOTE}.unfinished"
        with open(unfinished, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, note)
        sync_folder(scratch)


def settle(scratch: Path) -> None:
    """Bring files to their old or their new state, as their journal says; nothing where there is none.

    Only files that the interrupted run itself has made, or that only the model read which it replaced, are touched.

    Args:
        scratch: the folder with the journal. No other run may change names in the folder that holds it.
    """
    _settle_swap(scratch)
    try:
        told = json.loads((scratch / _NOTE).read_text(encoding="utf-8"))
        journal = Journal(told["model"], _names(told["made"]), _names(told["obsolete"]), told["second"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    names = [journal.model, *journal.made, *journal.obsolete, *([] if journal.second is None else [journal.second])]
    if not all(isinstance(name, str) and name and Path(name).name == name for name in names):
        return
    folder = scratch.parent
    model, staged = folder / journal.model, scratch / STAGED / journal.model
    done = not staged.exists() or (model.exists() and os.path.samefile(staged, model))
    for name in journal.obsolete if done else journal.made:
        with contextlib.suppress(OSError):
            if not is_read(folder / name, model):
                (folder / name).unlink()
    if journal.second is not None:
        left = scratch / STAGED / journal.second if done else scratch / ASIDE
        with contextlib.suppress(OSError):
            rename_new(left, folder / journal.second)
    sync_folder(folder)
    with contextlib.suppress(OSError):
        (scratch / _NOTE).unlink()


def _names(told: Any) -> tuple[Any, ...]:
    if not isinstance(told, list):
        raise ValueError("a list of names")
    return tuple(told)


def note_swap(scratch: Path, name: str) -> None:
    """Say that a folder of that name is about to be moved aside, for another one.

    Args:
        scratch: the scratch folder that it is moved into. name: its name, and that of the other one.
    """
    with open(scratch / _SWAP, "w", encoding="utf-8") as stream:
        stream.write(name)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(scratch)


def is_swapping(scratch: Path) -> bool:
    """Whether a folder was moved aside, and none has come in its place yet: the scratch folder holds all there is."""
    return _aside_of(scratch) is not None


def _settle_swap(scratch: Path) -> None:
    target = _aside_of(scratch)
    if target is not None:
        os.rename(scratch / ASIDE, target)
        sync_folder(scratch.parent)


def _aside_of(scratch: Path) -> Path | None:
    """Where a folder belongs that was moved aside, if no other one is there."""
    try:
        name = (scratch / _SWAP).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    target = scratch.parent / name
    lost = name and Path(name).name == name and (scratch / ASIDE).is_dir() and not os.path.lexists(target)
    return target if lost else None


def rename_new(old: Path, new: Path) -> None:
    """Rename a file, but never over another one.

    Raises:
        FileExistsError: the name is taken.
    """
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except (OSError, AttributeError, NotImplementedError):  # a file system, or a system, without hard links
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from None
        os.rename(old, new)
    else:
        old.unlink()


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder have reached the disk, where the system can do that."""
    # Not every system lets a folder be opened or synced; the files themselves are safe by now.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
