"""Output that appears whole or not at all.

Files are written without a name where the system can do that (``O_TMPFILE`` on Linux: should the process be killed,
they are simply gone), else in a scratch folder beside the target (:mod:`bot_onnx._onnxfile.scratch`). They get their
names when everything is written, synced and checked; several get them as one (:mod:`bot_onnx._onnxfile.journal`).
What a killed process left behind is removed by the next run in that folder, unless it was to be kept
(:mod:`bot_onnx._onnxfile.kept_work`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from bot_onnx._onnxfile.byte_layout import MODEL
from bot_onnx._onnxfile.data_files import data_key, own_data
from bot_onnx._onnxfile.journal import ASIDE, STAGED, Journal, rename_new, settle, sync_folder
from bot_onnx._onnxfile.kept_work import KeptWork
from bot_onnx._onnxfile.locks import alone_in
from bot_onnx._onnxfile.parents import make_parents, remove_empty
from bot_onnx._onnxfile.read_only import source_of
from bot_onnx._onnxfile.scratch import Scratch, sweep
from bot_onnx.errors import OutputError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# Targets that this process is writing.
_ACTIVE: Final[set[Path]] = set()


class StagedFile:
    """A file on its way: open for writing, without its final name.

    Attributes:
        target: the path that it shall have.
        hidden: its present path, or None as long as it has no name.
    """

    def __init__(self, target: Path, hidden: Path | None, *, again: bool = False) -> None:
        """Create it at ``hidden``, or without a name in the target's folder.

        Args:
            target, hidden: see the attributes. again: it may be there already, and keeps what it holds.
        """
        self.target = target
        self.hidden = hidden
        flags = os.O_RDWR | getattr(os, "O_BINARY", 0)
        with worded(target):
            if hidden is None:
                descriptor = os.open(target.parent, flags | os.O_TMPFILE, 0o666)
            else:
                descriptor = os.open(hidden, flags | os.O_CREAT | (0 if again else os.O_EXCL), 0o666)
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

    @property
    def room(self) -> int:
        """Bytes of the disk that it takes already."""
        status = os.fstat(self._file.fileno())
        return getattr(status, "st_blocks", 0) * 512

    def sync(self) -> None:
        """Wait until everything written has reached the disk."""
        with worded(self.target, self._nbytes):
            os.fsync(self._file.fileno())

    @property
    def readable(self) -> Path:
        """A path under which this and other processes can open the file as it is now."""
        return self.hidden or Path(f"/proc/{os.getpid()}/fd/{self._file.fileno()}")

    def hide(self, folder: Path) -> None:
        """Give the file, which is written, its target's name in a scratch folder."""
        hidden = folder / self.target.name
        if self.hidden is None:
            _link_anonymous(self._file.fileno(), hidden)
        elif self.hidden != hidden:
            self._file.close()  # Windows renames no open file
            os.rename(self.hidden, hidden)
        self.hidden = hidden

    def place(self, *, force: bool) -> None:
        """Give the file its target's name; with ``force``, for which it must be hidden, in place of another file.

        Raises:
            FileExistsError: the name is taken, and ``force`` is off.
        """
        if self.hidden is None:
            _link_anonymous(self._file.fileno(), self.target)
            return
        self._file.close()
        if force:
            os.replace(self.hidden, self.target)
        else:
            rename_new(self.hidden, self.target)

    def close(self) -> None:
        """Close the file; one without a name is gone."""
        self._file.close()


class Staging:
    """The files of one output. Leaving the block without :meth:`publish` leaves the folder as it was.

    Folders above it that are missing are made, and gone again where nothing is published.

    Args:
        path: the file to be.
        data: how many data files belong to it, whose :attr:`StagedFile.target` is set when their content is known.
        second: a file under a fixed name that belongs to it, or None.
        kept: work on it that outlives this process, where there is some.
    """

    def __init__(self, path: Path, *, data: int = 0, second: Path | None = None, kept: KeptWork | None = None) -> None:
        self.path = path
        self._kept = kept
        self._second = second
        self._others = [path.with_name(f"{path.name}.{data_key(number, data)}") for number in range(1, data + 1)]
        if second is not None:
            self._others.append(second)
        self._scratch: Scratch | None = None
        self._files: list[StagedFile] = []
        self._made: list[Path] = []

    def __enter__(self) -> Staging:
        """Create the files."""
        if self.path in _ACTIVE:
            raise OutputError(f"{self.path} is being written already: wait for it or choose another name")
        _ACTIVE.add(self.path)
        try:
            with worded(self.path):
                self._made = make_parents(self.path)
                sweep(self.path.parent)
                anonymous = self._kept is None and _can_be_anonymous(self.path.parent)
                for number, target in enumerate((self.path, *self._others)):
                    hidden = None if anonymous else self._place_of(number)
                    self._files.append(StagedFile(target, hidden, again=self._kept is not None))
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
        """The file at :attr:`path`."""
        return self._files[0]

    @property
    def data(self) -> list[StagedFile]:
        """The data files."""
        return self._files[1:] if self._second is None else []

    @property
    def second(self) -> StagedFile | None:
        """The file under a fixed name, if there is one."""
        return None if self._second is None else self._files[-1]

    def reserve(self, *lengths: int) -> None:
        """Set the lengths of the files, the one at :attr:`path` first, after a check that there is room for all."""
        with worded(self.path):
            free = shutil.disk_usage(self.path.parent).free
        taken = sum(file.room for file in self._files)
        if free + taken < sum(lengths):
            raise OutputError(
                f"{self.path} needs {sum(lengths)} bytes, but only {free} are free in {self.path.parent}: "
                "make room or choose another folder"
            )
        for file, nbytes in zip(self._files, lengths, strict=True):
            file.resize(nbytes)

    def readable(self) -> Path:
        """Return a path that opens the unpublished model; its data files, if any, lie beside it."""
        if len(self._files) > 1:
            self._hide(None if self._kept is None else self._kept.path)
        return self.model.readable

    def publish(self, *, force: bool, keep: Sequence[str | os.PathLike[str]] = ()) -> None:
        """Give the files their names, all or none; data files that only the old model read go with it.

        Args:
            force: replace files that exist. keep: files that stay whatever happens.

        Raises:
            OutputError: a name is taken and ``force`` is off, or the system refuses.
        """
        with worded(self.path), alone_in(self.path.parent):
            old = {name for name in own_data(self.path) if source_of(self.path.with_name(name), keep) is None}
            if len(self._files) == 1 and not old:
                if force:
                    self._hide()
                self.model.place(force=force)
            else:
                self._publish_noted(old, force=force)
        sync_folder(self.path.parent)

    def _publish_noted(self, old: set[str], *, force: bool) -> None:
        self._hide()
        scratch = self._folder().parent
        made = [file for file in self.data if not _same_bytes(file)]  # others are there already
        for file in (*made, *filter(None, (self.second,)), self.model):
            if not force and os.path.lexists(file.target):
                raise OutputError(_taken(file.target))
        obsolete = old - {file.target.name for file in self.data}
        Journal(
            self.path.name,
            tuple(file.target.name for file in made),
            tuple(sorted(obsolete)),
            None if self._second is None else self._second.name,
        ).write(scratch)
        for file in made:
            with worded(file.target):
                file.place(force=force)
        if self._second is not None and os.path.lexists(self._second):
            os.replace(self._second, scratch / ASIDE)
        sync_folder(self.path.parent)
        self.model.place(force=force)
        sync_folder(self.path.parent)
        for file in self._files[1:]:
            file.close()
        settle(scratch)

    def _hide(self, folder: Path | None = None) -> None:
        with worded(self.path):
            for file in self._files:
                file.hide(folder or self._folder())

    def _place_of(self, number: int) -> Path:
        if self._kept is not None:
            return self._kept.path / (data_key(number, len(self._others)) if number else MODEL)
        return self._folder() / f"{number}.unfinished"

    def _folder(self) -> Path:
        """The folder of the new files in the scratch folder."""
        if self._scratch is None:
            self._scratch = Scratch(self.path.parent, self.path.name)
            (self._scratch.make() / STAGED).mkdir()
        return self._scratch.path / STAGED

    def _clean(self) -> None:
        for file in self._files:
            file.close()
        if self._scratch is not None:
            self._scratch.close()
        remove_empty(self._made)
        _ACTIVE.discard(self.path)


@contextlib.contextmanager
def floats_beside(out: Path) -> Iterator[Path]:
    """A folder beside the output for floats of quantised models: gone afterwards, or with the next run."""
    scratch, made = Scratch(out.absolute().parent, out.name), []
    try:
        with worded(out):
            made = make_parents(out)
            floats = scratch.make() / "floats"
            floats.mkdir()
        yield floats
    finally:
        scratch.close()
        remove_empty(made)


@contextlib.contextmanager
def worded(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn the system's errors about ``path`` into an :class:`OutputError`."""
    try:
        yield
    except FileExistsError as error:
        raise OutputError(_taken(path)) from error
    except OSError as error:
        if error.errno in _FULL:
            amount = f" ({needed} bytes needed)" if needed else ""
            raise OutputError(
                f"no room left for {path}{amount}: {error.strerror}; make room or choose another folder"
            ) from error
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error


def _taken(path: Path) -> str:
    return f"{path} exists already: choose another name, or replace it with --force (force=True)"


def _same_bytes(file: StagedFile) -> bool:
    """Whether the target is there already, with the very same content: it may be another model's as well."""
    assert file.hidden is not None
    try:
        if file.target.is_symlink() or file.target.stat().st_size != file.hidden.stat().st_size:
            return False
        with open(file.target, "rb") as theirs, open(file.hidden, "rb") as ours:
            while (block := ours.read(1 << 20)) == theirs.read(1 << 20):
                if not block:
                    return True
    except OSError:
        return False
    return False


def _can_be_anonymous(folder: Path) -> bool:
    """Whether files in this folder can be written without a name and be named later: tried with an empty one."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    try:
        descriptor = os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o600)
    except OSError:
        return False
    try:
        with Scratch(folder, "probe") as scratch:
            _link_anonymous(descriptor, scratch / "probe")
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
