"""A folder that appears whole or not at all, in place of another one as well.

It is filled in a scratch folder beside its target (:mod:`bot_onnx._onnxfile.scratch`) and renamed. Where it replaces
another one, Linux exchanges both names in one step. Elsewhere the old one is moved aside first and a note says so:
after a kill in between, the next run beside it moves it back (:mod:`bot_onnx._onnxfile.journal`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Final

from bot_onnx._onnxfile.addresses import as_address
from bot_onnx._onnxfile.atomic_output import worded
from bot_onnx._onnxfile.journal import ASIDE, STAGED, note_swap, sync_folder
from bot_onnx._onnxfile.locks import alone_in
from bot_onnx._onnxfile.parents import make_parents, remove_empty
from bot_onnx._onnxfile.read_only import source_in
from bot_onnx._onnxfile.scratch import Scratch, sweep
from bot_onnx.errors import OutputError

_HERE: Final = -100  # AT_FDCWD
_EXCHANGE: Final = 2  # RENAME_EXCHANGE


class StagedFolder:
    """A folder on its way. Leaving the block without :meth:`publish` leaves everything as it was.

    Args:
        target: the folder to be. Folders above it that are missing are made.
    """

    def __init__(self, target: Path) -> None:
        self.target = target.absolute()
        self._made: list[Path] = []
        self._scratch: Scratch | None = None

    def __enter__(self) -> Path:
        """Make it, under another name."""
        try:
            with worded(self.target):
                self._made = make_parents(self.target)
                sweep(self.target.parent)
                self._scratch = Scratch(self.target.parent, self.target.name)
                staged = self._scratch.make() / STAGED / self.target.name
                staged.mkdir(parents=True)
                return staged
        except BaseException:
            self._clean()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove everything that was not published."""
        self._clean()

    def publish(self, *, over: bool) -> None:
        """Give it its name.

        Args:
            over: replace the folder that has it.

        Raises:
            OutputError: the name is taken and ``over`` is off, or the system refuses.
        """
        assert self._scratch is not None
        staged = self._scratch.path / STAGED / self.target.name
        for folder, _, files in os.walk(staged, topdown=False):
            for name in files:
                _sync_file(Path(folder) / name)
            sync_folder(Path(folder))
        with worded(self.target), alone_in(self.target.parent):
            if not os.path.lexists(self.target):
                os.rename(staged, self.target)
            elif not over:
                raise OutputError(f"{self.target} exists already: choose another name, or replace it with --force")
            elif not _exchanged(staged, self.target):
                note_swap(self._scratch.path, self.target.name)
                os.rename(self.target, self._scratch.path / ASIDE)
                os.rename(staged, self.target)
            sync_folder(self.target.parent)

    def _clean(self) -> None:
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
        remove_empty(self._made)


def check_folder(target: Path, *, force: bool, apart_from: Path, own: Collection[str] | None) -> None:
    """Refuse a folder that must not be written or replaced, before any work is done.

    Args:
        target: the folder to be. force: replace one that the tool wrote, or that is empty.
        apart_from: the source's folder, which must be neither in it, nor around it.
        own: places of the files that the tool wrote into the one that is there; None: it is none of the tool's.

    Raises:
        OutputError: it is refused.
    """
    if (address := as_address(target)) is not None:
        raise OutputError(f"{address} is not on this machine, where a folder is written: name one here and upload it")
    real, source = Path(os.path.realpath(target)), Path(os.path.realpath(apart_from))
    if real.is_relative_to(source) or source.is_relative_to(real):
        raise OutputError(f"{target} and the source {apart_from} are, or lie in, one another: choose another folder")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise OutputError(f"{target} exists and is no folder: of a folder comes a folder, name one")
    if not force:
        raise OutputError(f"{target} exists already: choose another name, or replace it with --force (force=True)")
    if (read := source_in(target)) is not None:
        raise OutputError(f"{target} holds a source of this command ({read}), which is never written to: name another")
    held = [path.relative_to(target).as_posix() for path in sorted(target.rglob("*")) if not path.is_dir()]
    if held and own is None:
        raise OutputError(f"{target} is not empty and was not written by this tool: choose another name, or remove it")
    foreign = [place for place in held if place not in (own or ())]
    if foreign:
        raise OutputError(
            f"{target} holds what this tool did not write ({', '.join(foreign[:3])}): move that away, or choose "
            "another name"
        )


def copy_file(source: Path, target: Path) -> None:
    """Copy the bytes of a file into a folder on its way.

    Raises:
        OutputError: the system refuses.
    """
    with worded(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _sync_file(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)
