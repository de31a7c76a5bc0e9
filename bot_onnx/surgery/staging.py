"""Output that appears whole or not at all.

Files are written without a name where the system can do that (``O_TMPFILE`` on Linux: should the process be killed,
they are simply gone), else under a hidden name beside the target, ``.<name>.<pid>.partial``. They get their names when
everything is written, synced and checked. What a killed process left behind is removed by the next write.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from bot_onnx.errors import OutputError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# Hidden paths in use by this process: an own process id alone proves nothing, ids are reused.
_ACTIVE: Final[set[Path]] = set()


class StagedFile:
    """A file on its way: open for writing, without its final name.

    Attributes:
        target: the path that it shall have.
        hidden: its present path, or None as long as it has no name.
    """

    def __init__(self, target: Path, hidden: Path, *, anonymous: bool) -> None:
        self.target = target
        self.hidden: Path | None = None
        flags = os.O_RDWR | getattr(os, "O_BINARY", 0)
        with worded(target):
            if anonymous:
                descriptor = os.open(target.parent, flags | os.O_TMPFILE, 0o666)
            else:
                descriptor = os.open(hidden, flags | os.O_CREAT | os.O_EXCL, 0o666)
                self.hidden = hidden
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._nbytes = 0

    def resize(self, nbytes: int) -> None:
        """Set the length; this takes no room on the disk yet."""
        self._nbytes = nbytes
        with worded(self.target, nbytes):
            self._file.truncate(nbytes)

    def write_at(self, offset: int, values: memoryview | bytes) -> None:
        """Write all of ``values`` at ``offset``."""
        with worded(self.target, self._nbytes), memoryview(values) as left:
            self._file.seek(offset)
            position = 0
            while position < len(left):
                position += self._file.write(left[position:])

    def sync(self) -> None:
        """Wait until everything written has reached the disk."""
        with worded(self.target, self._nbytes):
            os.fsync(self._file.fileno())

    @property
    def readable(self) -> Path:
        """A path under which this and other processes can open the file as it is now."""
        return self.hidden or Path(f"/proc/{os.getpid()}/fd/{self._file.fileno()}")

    def name(self, path: Path) -> None:
        """Give the file a name that is not taken; a hidden name it had is dropped.

        Raises:
            FileExistsError: the name is taken.
        """
        if self.hidden is None:
            _link_anonymous(self._file.fileno(), path)
        else:
            _rename_new(self.hidden, path)
        self.hidden = path

    def replace(self, path: Path, hidden: Path) -> None:
        """Give the file a name, in one step if another file has it; ``hidden`` is a free path to go through."""
        if self.hidden is None:
            self.name(hidden)
        assert self.hidden is not None
        os.replace(self.hidden, path)
        self.hidden = path

    def discard(self) -> None:
        """Close the file and remove it if it has a hidden name still."""
        self._file.close()
        if self.hidden is not None and self.hidden != self.target:
            with contextlib.suppress(OSError):
                self.hidden.unlink()


class Staging:
    """The files of one output. Leaving the block without :meth:`publish` leaves the folder as it was.

    Args:
        path: the model file to be.
        data: the data file to be beside it, or None.
    """

    def __init__(self, path: Path, data: Path | None) -> None:
        self.path = path
        short = os.fsdecode(os.fsencode(path.name)[:200])  # file names end at 255 bytes
        self._prefix = f".{short}."
        self._hidden = path.parent / f"{self._prefix}{os.getpid()}.partial"
        self._targets = [path] if data is None else [data, path]
        self._files: list[StagedFile] = []

    def __enter__(self) -> Staging:
        """Create the files."""
        self._remove_stale()
        if self._hidden in _ACTIVE:
            raise OutputError(f"{self.path} is being written already: wait for it or choose another name")
        _ACTIVE.add(self._hidden)
        try:
            anonymous = _can_be_anonymous(self._hidden)
            if not anonymous and len(self._targets) > 1:
                self._folder()
            for target in self._targets:
                hidden = self._hidden / target.name if len(self._targets) > 1 else self._hidden
                self._files.append(StagedFile(target, hidden, anonymous=anonymous))
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove everything that was not published."""
        self._clean()

    @property
    def model(self) -> StagedFile:
        """The model file."""
        return self._files[-1]

    @property
    def data(self) -> StagedFile | None:
        """The data file, if there is one."""
        return self._files[0] if len(self._files) > 1 else None

    def reserve(self, model_bytes: int, data_bytes: int) -> None:
        """Set the lengths of the files, after a check that there is room for both."""
        with worded(self.path):
            free = shutil.disk_usage(self.path.parent).free
        if free < model_bytes + data_bytes:
            raise OutputError(
                f"{self.path} needs {model_bytes + data_bytes} bytes, but only {free} are free in {self.path.parent}: "
                "make room or choose another folder"
            )
        for file in self._files:
            file.resize(model_bytes if file is self.model else data_bytes)

    def readable(self) -> Path:
        """Return a path that opens the unpublished model; its data file, if any, lies beside it."""
        if len(self._files) > 1:
            with worded(self.path):
                for file in self._files:
                    if file.hidden is None:
                        file.name(self._folder() / file.target.name)
        return self.model.readable

    def publish(self, *, force: bool) -> None:
        """Give the files their names, the data file first; where the second fails, the first is taken back.

        Raises:
            OutputError: a name is taken and ``force`` is off, or the system refuses.
        """
        undo: list[tuple[Path, Path | None]] = []
        try:
            for file in self._files:
                with worded(file.target):
                    old = self._keep_old(file.target) if force and file is not self.model else None
                    if force:
                        spare = self._folder() / "new" if len(self._files) > 1 else self._hidden
                        file.replace(file.target, spare)
                    else:
                        file.name(file.target)
                    undo.append((file.target, old))
        except BaseException:
            if self.model.hidden != self.model.target:
                for target, old in undo:
                    with contextlib.suppress(OSError):
                        target.unlink() if old is None else os.replace(old, target)
            raise
        _sync_folder(self.path.parent)

    def _folder(self) -> Path:
        self._hidden.mkdir(exist_ok=True)
        return self._hidden

    def _keep_old(self, target: Path) -> Path | None:
        if not os.path.lexists(target):
            return None
        kept = self._folder() / "old"
        os.link(target, kept, follow_symlinks=False)
        return kept

    def _clean(self) -> None:
        for file in self._files:
            file.discard()
        _remove(self._hidden)
        _ACTIVE.discard(self._hidden)

    def _remove_stale(self) -> None:
        with contextlib.suppress(OSError):
            for entry in self.path.parent.iterdir():
                if not (entry.name.startswith(self._prefix) and entry.name.endswith(".partial")):
                    continue
                process = entry.name[len(self._prefix) : -len(".partial")]
                if process.isascii() and process.isdigit() and entry not in _ACTIVE and not _alive(int(process)):
                    _remove(entry)


@contextlib.contextmanager
def worded(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the system's errors about ``path`` into an :class:`OutputError`."""
    try:
        yield
    except FileExistsError as error:
        raise OutputError(
            f"{path} exists already: choose another name, or replace it with --force (force=True)"
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            amount = f" ({needed} bytes needed)" if needed else ""
            raise OutputError(
                f"no room left for {path}{amount}: {error.strerror}; make room or choose another folder"
            ) from error
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error


def _can_be_anonymous(probe: Path) -> bool:
    """Whether files in this folder can be written without a name and be named later: tried with an empty one."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    try:
        descriptor = os.open(probe.parent, os.O_RDWR | os.O_TMPFILE, 0o600)
    except OSError:
        return False
    try:
        _link_anonymous(descriptor, probe)
        probe.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _link_anonymous(descriptor: int, path: Path) -> None:
    # Only with a folder descriptor does Python pass AT_SYMLINK_FOLLOW on, which /proc's links need.
    folder = os.open("/proc", os.O_RDONLY)
    try:
        os.link(f"self/fd/{descriptor}", path, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


def _rename_new(old: Path, new: Path) -> None:
    """Rename a file, but never over another one."""
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new)) from None
        os.rename(old, new)
    else:
        old.unlink()


def _alive(process: int) -> bool:
    if process == os.getpid():
        return False  # not this one's: those in use are known
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync_folder(folder: Path) -> None:
    # Not every system lets a folder be opened or synced; the files themselves are safe by now.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
