"""An output that goes to another place: made and verified here, uploaded in the end, the model last.

No object store takes several files in one step. So data files, which are named after their content
(:mod:`bot_onnx._onnxfile.data_files`), go first, and the model's own upload is what counts: nobody sees a model without
its data, or an old model with new data. What was uploaded before a failure is removed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final

from bot_onnx._onnxfile.addresses import Address, connected, first_line
from bot_onnx._onnxfile.data_files import SEAL_BYTES, is_named_after, named_files, named_in
from bot_onnx._onnxfile.mirror import Mirror
from bot_onnx._onnxfile.scratch import Scratch, sweep
from bot_onnx._progress import stage
from bot_onnx.errors import BotError, GraphError, OutputError

_TAKEN: Final = "exists already: choose another name, or replace it with --force (force=True)"


class Upload:
    """One output on its way to an address. Leaving the block without :meth:`publish` leaves nothing there.

    Args:
        address: of the model to be. force: replace one that is there. sources: addresses that it must not be.

    Raises:
        OutputError: it may not be written, or the place cannot be reached.
    """

    def __init__(self, address: Address, *, force: bool, sources: Sequence[Address] = ()) -> None:
        self._address, self._force, self._sources = address, force, sources
        try:
            self._system, self._place = connected(address)
        except GraphError as error:
            raise OutputError(str(error)) from error
        self._name = PurePosixPath(self._place).name
        if not self._name:
            raise OutputError(f"{address} is no file name: name the output, for example {address}/small.onnx")
        self._scratch = Scratch(Path(tempfile.gettempdir()), "bot-onnx")
        self._made: list[str] = []
        self._kept: set[str] = set()  # what a source reads

    def __enter__(self) -> Path:
        """Make a folder for the output; give the path that it is to be written to.

        Raises:
            OutputError: the output may not be written.
        """
        sweep(Path(tempfile.gettempdir()))
        try:
            made = self._scratch.make() / "made"
            made.mkdir()
            (made.parent / "others").mkdir()
            with self._worded():
                self._check_sources()
                self._check()
        except BaseException:
            self._scratch.close()
            raise
        return made / self._name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder, and what was uploaded of an output that is not whole there."""
        for place in self._made:
            with contextlib.suppress(Exception):
                self._system.rm_file(place)
        self._scratch.close()

    def publish(self) -> None:
        """Upload the output, which is whole and verified: its data files, then the model.

        Raises:
            OutputError: it cannot be written, or came up in the meantime; nothing of it is left there.
        """
        model = self._scratch.path / "made" / self._name
        data = named_files(model)
        with self._worded():
            self._check()
            obsolete = self._obsolete({file.name for file in data})
            for file in data:
                place = self._beside(file.name)
                if not self._is_there(file, place):
                    stage(f"uploading {file.name}")
                    self._put(file, place)
            stage(f"uploading {self._name}")
            self._put(model, self._place)
            self._made.clear()
        for name in obsolete:  # the new model stands: what cannot be removed now is only in the way
            with contextlib.suppress(Exception):
                self._system.rm_file(self._beside(name))

    def _check_sources(self) -> None:
        for source in self._sources:
            self._kept |= {str(source), *(str(source.parent / name) for name in self._read(source) or ())}
        if str(self._address) in self._kept:
            raise OutputError(
                f"{self._address} is a source of this command, which is never written to: choose another name"
            )

    def _check(self) -> None:
        self._system.invalidate_cache()
        if self._system.isdir(self._place):
            raise OutputError(f"{self._address} is a folder: name a file in it, for example {self._address}/small.onnx")
        if not self._force and self._system.exists(self._place):
            raise OutputError(f"{self._address} {_TAKEN}")

    def _is_there(self, file: Path, place: str) -> bool:
        """Whether a data file of these very weights is there already, which another model may read."""
        if not self._system.exists(place):
            return False
        length = file.stat().st_size
        with open(file, "rb") as stream:
            stream.seek(length - SEAL_BYTES)
            seal = stream.read()
        if self._system.info(place)["size"] == length and self._system.tail(place, SEAL_BYTES) == seal:
            return True
        if not self._force:
            raise OutputError(f"{self._address.parent / file.name} {_TAKEN}")
        return False

    def _put(self, file: Path, place: str) -> None:
        if not self._system.exists(place):
            self._made.append(place)
        self._system.put_file(str(file), place)
        self._system.invalidate_cache()
        found, length = self._system.info(place)["size"], file.stat().st_size
        if found != length:
            raise OutputError(f"{self._address.parent / file.name} has {found} bytes after its upload, not {length}")

    def _obsolete(self, new: set[str]) -> list[str]:
        """Data files of the model that is replaced that no other model in the folder reads."""
        old = self._read(self._address) if self._system.exists(self._place) else None
        found = {name for name in old or () if is_named_after(name, self._name)} - new
        found -= {name for name in found if str(self._address.parent / name) in self._kept}
        if not found:
            return []
        for entry in self._system.ls(self._beside(""), detail=False):
            name = PurePosixPath(entry).name
            if name != self._name and PurePosixPath(name).suffix in (".onnx", PurePosixPath(self._name).suffix):
                others = self._read(self._address.with_name(name))
                found -= found if others is None else others
        return sorted(found)

    def _read(self, address: Address) -> frozenset[str] | None:
        """Data files that a model elsewhere names; None where it cannot be read."""
        try:
            mirror = Mirror(address, self._scratch.path / "others")
            with contextlib.closing(mirror):
                return named_in(mirror.open())
        except BotError:
            return None

    def _beside(self, name: str) -> str:
        head, slash, _ = self._place.rpartition("/")
        return head + slash + name

    @contextlib.contextmanager
    def _worded(self) -> Iterator[None]:
        try:
            yield
        except BotError:
            raise
        except Exception as error:  # file systems raise errors of many libraries
            raise OutputError(
                f"{self._address} cannot be written: {first_line(error)}; check the address and what it asks for"
            ) from error
