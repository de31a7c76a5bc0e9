"""Hidden folders for what is not finished: gone with the block, or with the next run where that was killed.

``.<name>.<12 digits>.partial`` holds a file ``lock`` that its maker keeps locked. Who can lock it knows that the maker
is gone (:mod:`bot_onnx._onnxfile.locks`), settles what it was about to do (:mod:`bot_onnx._onnxfile.journal`) and
removes the folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

from bot_onnx._onnxfile.journal import is_swapping, settle
from bot_onnx._onnxfile.locks import alone_in, try_lock

_LOCK: Final = "lock"
_MARK: Final = b"bot_onnx\n"  # what the lock holds: a folder without it is not ours
_NAME: Final = re.compile(r"\..*\.[0-9a-f]{12}\.partial", re.DOTALL)
_ATTEMPTS: Final = 100


class Scratch:
    """A folder that is in use for as long as the block runs, or from :meth:`make` to :meth:`close`.

    Args:
        folder: where it is made.
        label: part of its name.
    """

    def __init__(self, folder: Path, label: str) -> None:
        self._folder = folder
        self._label = os.fsencode(label)[:200].decode("utf-8", "ignore")  # file names end at 255 bytes
        self._descriptor: int | None = None
        self.path = self._new()

    def make(self) -> Path:
        """Make it and return its path.

        Raises:
            OSError: it cannot be made.
        """
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
                self._descriptor = _lock_new(self.path / _LOCK)
                if self._descriptor is not None:
                    return self.path
            self.path = self._new()
        raise OSError(f"no folder for unfinished files can be made in {self._folder}")

    def close(self) -> None:
        """Settle what was begun and remove the folder; one that was not finished making as well.

        A signal that ends the process in here comes through when that is done.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            _remove(self.path)
            return
        try:
            _clear(self.path, descriptor)
        except BaseException:
            with contextlib.suppress(OSError), alone_in(self.path.parent):
                settle(self.path)
            if not is_swapping(self.path):
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def _new(self) -> Path:
        return self._folder / f".{self._label}.{secrets.token_hex(6)}.partial"

    def __enter__(self) -> Path:
        """Make it; a signal that ends the process in here leaves nothing behind either."""
        try:
            return self.make()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove it."""
        self.close()


def sweep(folder: Path) -> None:
    """Settle and remove what killed runs have left in a folder; what a living one uses stays, as does all else."""
    try:
        left = [entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for path in left:
        with contextlib.suppress(OSError):
            if path.is_symlink() or not path.is_dir() or not _is_own(path):
                continue
            with contextlib.suppress(OSError):
                path.rmdir()  # killed before it had its lock, or after it lost it
                continue
            descriptor = _inherit(path / _LOCK)
            if descriptor is not None:
                _clear(path, descriptor)


def sweep_beside(*files: str | os.PathLike[str]) -> None:
    """:func:`sweep` the folders of files that a command reads or writes, and that of temporary files."""
    folders = [*(Path(os.path.abspath(file)).parent for file in files), Path(tempfile.gettempdir())]
    for folder in dict.fromkeys(folders):
        sweep(folder)


def _is_own(path: Path) -> bool:
    """Whether this user has made it: in a shared folder somebody else's may tell of things to do."""
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()


def _lock_new(lock: Path) -> int | None:
    """Make the lock; None where another run took the folder for left behind in between."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except (FileExistsError, FileNotFoundError):
        return None
    os.write(descriptor, _MARK)
    with contextlib.suppress(OSError):
        if try_lock(descriptor) is not False and os.path.samestat(os.fstat(descriptor), os.stat(lock)):
            return descriptor
    os.close(descriptor)
    return None


def _inherit(lock: Path) -> int | None:
    """Lock what nobody locks any more; None if somebody does, or if it is not ours."""
    descriptor = os.open(lock, os.O_RDWR)
    if os.read(descriptor, len(_MARK)) in (_MARK, b"") and try_lock(descriptor) is True:
        return descriptor
    os.close(descriptor)
    return None


def _clear(path: Path, descriptor: int) -> None:
    """Settle what was begun in a folder and remove it, its lock last: without one nobody could tell whose it is."""
    with contextlib.suppress(OSError), alone_in(path.parent):
        settle(path)
    if is_swapping(path):  # it could not be moved back: the next run tries again
        os.close(descriptor)
        return
    with contextlib.suppress(OSError):
        for entry in path.iterdir():
            if entry.name == _LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()
    os.close(descriptor)  # Windows removes no open file
    _remove(path)


def _remove(path: Path) -> None:
    """Remove a folder that holds its lock at most."""
    with contextlib.suppress(OSError):
        (path / _LOCK).unlink(missing_ok=True)
        path.rmdir()
