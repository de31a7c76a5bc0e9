"""Writing a model while its weights are still being made: no more than one tensor is in memory at a time.

The file is laid out first (:mod:`bot_onnx._onnxfile.byte_layout`), values are written at their offsets in whatever
order they come, and the output appears under its name only when it is complete and verified
(:mod:`bot_onnx._onnxfile.atomic_output`). Data files are named after the weights in them
(:mod:`bot_onnx._onnxfile.data_files`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._onnxfile.addresses import as_address
from bot_onnx._onnxfile.atomic_output import StagedFile, Staging
from bot_onnx._onnxfile.byte_layout import MODEL, MOST_FILES, Layout, Placement, TensorSlot, layout
from bot_onnx._onnxfile.data_files import UNKNOWN, data_name
from bot_onnx._onnxfile.kept_work import KeptWork
from bot_onnx._onnxfile.parents import nearest
from bot_onnx._onnxfile.read_only import StrPath, refuse_source
from bot_onnx._shards import External, Shards
from bot_onnx.errors import BotError, OutputError

__all__ = ["Layout", "Placement", "TensorSlot", "check_output", "layout", "write_model", "write_text"]


@dataclass(frozen=True, slots=True)
class Written:
    """Stands for the values of a tensor that another process has put to its place in work that is kept.

    Attributes:
        digest: SHA-256 of its bytes.
    """

    digest: bytes


#: What a tensor is produced as.
Values = NDArray[np.generic] | Written


def write_model(
    proto: onnx.ModelProto,
    slots: Sequence[TensorSlot],
    produce: Iterable[tuple[str, Values]],
    path: StrPath,
    *,
    external: External = False,
    force: bool = False,
    sources: Sequence[StrPath] = (),
    before_publish: Callable[[str], None] | None = None,
    weighed: Callable[[str], None] | None = None,
    kept: KeptWork | None = None,
) -> Layout:
    """Write a model whose weights arrive one by one.

    Args:
        proto: the model without the tensors in ``slots``.
        slots: the initializers to write, in file order.
        produce: yields ``(name, values)``, tensors in any order. A tensor may come in pieces along its first axis,
            one piece after the other; pieces of different tensors may alternate. Each array has the slot's data type
            (NumPy's or ml_dtypes'; any byte order) and is written before the next one is asked for. With work that is
            kept, :class:`Written` stands for what other processes wrote, which is read back.
        path: the output. ``<path>.<12 digits of their SHA-256>.data`` stands beside it if the weights are external,
            or several files (:func:`bot_onnx._onnxfile.data_files.data_name`).
        external: store weights as external data; models above 2 GiB always do.
        force: replace an existing output; the old one stays until the new one is complete. Data files that only the
            old one read go with it.
        sources: files that the output must not be, whatever name it goes by (the source and its external data).
        before_publish: called with a path that opens the finished file (its data files lie beside it), before the
            output has its name. If it raises, the output never appears.
        weighed: called before that with the hex SHA-256 of all tensors in ``slots`` (of their digests, in file order),
            wherever they lie. If it raises, the output never appears.
        kept: the work on this output that is kept, whose finished tensors need not be produced. It is dropped when
            the output has its name, and when one of these calls refuses it.

    Returns:
        The layout that was written.

    Raises:
        OutputError: the output may not or cannot be written, or what was produced does not fill the slots. Nothing is
            left behind, and what was there before is untouched, after this as after any other exception.
    """
    path = Path(path).absolute()
    check_output(path, external=external, force=force, sources=sources)
    plan = layout(proto, slots, path.name, external=external)
    with Staging(path, data=len(plan.data), kept=kept) as staging:
        beside = {file.key: staged for file, staged in zip(plan.data, staging.data, strict=True)}
        staging.reserve(plan.model_bytes, *(file.nbytes for file in plan.data))
        digests = _fill(plan, produce, {MODEL: staging.model, **beside}, kept)
        if weighed is not None:
            with _final(kept):
                weighed(_digest(digests.values()))
        outside = {file.key: _digest(digests[name] for name in plan.within(file.key)) for file in plan.data}
        plan = layout(proto, slots, path.name, external=external, digests=outside)
        for offset, framing in plan.framing:
            staging.model.write_at(offset, framing)
        for file in plan.data:
            staged = beside[file.key]
            staged.target = path.parent / file.name
            _check_target(staged.target, True, sources)
            staged.write_at(file.nbytes - len(file.seal), file.seal)
        for staged in (staging.model, *beside.values()):
            staged.sync()
        if before_publish is not None:
            readable = os.fspath(staging.readable())
            with _final(kept):
                before_publish(readable)
        staging.publish(force=force, keep=sources)
        if kept is not None:
            kept.drop()
    return plan


@contextlib.contextmanager
def _final(kept: KeptWork | None) -> Iterator[None]:
    """What is refused in here would be refused again: its work is not kept."""
    try:
        yield
    except BotError:
        if kept is not None:
            kept.drop()
        raise


def write_text(path: StrPath, text: str, *, force: bool = False, sources: Sequence[StrPath] = ()) -> None:
    """Write a text file, which appears whole or not at all, with the checks that a model's output has.

    Args:
        path: of the file.
        text: its content, written as UTF-8.
        force: replace an existing file.
        sources: files that it must not be, whatever name it goes by.

    Raises:
        OutputError: it may not or cannot be written; what was there before is untouched.
    """
    path = Path(path).absolute()
    check_output(path, force=force, sources=sources)
    content = text.encode()
    with Staging(path) as staging:
        staging.reserve(len(content))
        staging.model.write_at(0, content)
        staging.model.sync()
        staging.publish(force=force)


def check_output(
    path: StrPath, *, external: External = False, force: bool = False, sources: Sequence[StrPath] = ()
) -> None:
    """Refuse an output path that cannot or must not be written, before any work is done.

    The arguments are those of :func:`write_model`.

    Raises:
        OutputError: the path is a folder, a device or one of the sources; its folder is none or read-only; or it
            exists and ``force`` is off. A folder that is missing will be made.
    """
    path = Path(path)
    if (address := as_address(path)) is not None:
        raise OutputError(
            f"{address} is not on this machine: resize writes its model there, and nothing else does; name a file here "
            "and upload it"
        )
    if "\0" in str(path) or path.name in ("", ".."):
        raise OutputError(f"{str(path)!r} is no file name: name the output, for example small.onnx")
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise OutputError(f"{str(path)!r} is not UTF-8, which ONNX demands of names: choose another") from None
    folder = path.parent
    if _is_of_the_system(folder):
        raise OutputError(f"{path} is no regular file: name a file on a disk, for example small.onnx")
    there = nearest(folder)
    if not there.is_dir():
        what = "is not a folder" if there.exists() else "does not exist"
        shown = folder if there == folder.absolute() else there
        raise OutputError(f"cannot write {path}: {shown} {what}; choose another")
    _check_target(path, force, sources)
    if external:
        count = MOST_FILES if isinstance(external, Shards) else 1
        _check_target(folder / data_name(path.name, UNKNOWN, 1, count), True, sources)  # that the name is not too long
    if not os.access(there, os.W_OK | os.X_OK):
        shown = folder if folder.is_dir() else there
        raise OutputError(f"cannot write {path}: no permission to create files in {shown}; choose another folder")


def _is_of_the_system(folder: Path) -> bool:
    """Whether what lies in a folder are devices, streams and processes: ``/dev/stdout`` may well look like a file."""
    real = Path(os.path.realpath(folder))
    systems = real.is_relative_to("/dev") or real.is_relative_to("/proc") or real.is_relative_to("/sys")
    return systems and not real.is_relative_to("/dev/shm")


def _check_target(path: Path, force: bool, sources: Sequence[StrPath]) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink() and not force:
            raise OutputError(
                f"{path} exists already: choose another name, or replace it with --force (force=True)"
            ) from None
        return
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another name") from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder: name a file in it, for example {path / 'small.onnx'}")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path} is no regular file: choose another name")
    refuse_source(path, sources)
    if not force:
        raise OutputError(f"{path} exists already: choose another name, or replace it with --force (force=True)")


def _fill(
    plan: Layout,
    produce: Iterable[tuple[str, Values]],
    files: dict[str, StagedFile],
    kept: KeptWork | None,
) -> dict[str, bytes]:
    """Write the values; give the SHA-256 of every tensor, in file order."""
    done = {} if kept is None else dict(kept.finished)
    written = dict.fromkeys(plan.slots, 0) | {name: plan.placements[name].nbytes for name in done}
    digests = {name: hashlib.sha256() for name in plan.slots}
    for name, values in produce:
        slot = plan.slots.get(name)
        if slot is None:
            raise OutputError(f"a tensor {name!r} was produced that the output has no place for; nothing was written")
        place = plan.placements[name]
        if isinstance(values, Written):
            assert kept is not None
            kept.check(name, values.digest)
            kept.note(name, values.digest)
            done[name], written[name] = values.digest, place.nbytes
            continue
        raw = raw_bytes(values, slot)
        if done.pop(name, None) is not None:  # made again, with others that were not finished
            written[name] = 0
        if written[name] + len(raw) > place.nbytes:
            raise OutputError(f"tensor {name!r} was produced twice or in too many pieces; nothing was written")
        files[place.file].write_at(place.offset + written[name], raw)
        written[name] += len(raw)
        digests[name].update(raw)
        if kept is not None and written[name] == place.nbytes:
            kept.note(name, digests[name].digest())
    missing = [name for name, count in written.items() if count < plan.placements[name].nbytes]
    if missing:
        raise OutputError(f"no or too few values were produced for tensor {missing[0]!r}; nothing was written")
    return {name: done.get(name) or digest.digest() for name, digest in digests.items()}


def _digest(digests: Iterable[bytes]) -> str:
    """Of weights, in file order: the SHA-256 of theirs."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def raw_bytes(values: NDArray[np.generic], slot: TensorSlot) -> memoryview:
    """Check an array against its slot; give its bytes as ONNX stores them, without a copy where they are so already."""
    dtype = ir.DataType(slot.dtype)
    whole = values.shape == slot.shape
    piece = values.ndim > 0 and values.ndim == len(slot.shape) and values.shape[1:] == slot.shape[1:]
    if values.dtype.newbyteorder("=") != np.dtype(dtype.numpy()) or not (whole or piece):
        raise OutputError(
            f"tensor {slot.name!r} was produced as {values.dtype} {list(values.shape)}, but the plan says "
            f"{dtype.name} {list(slot.shape)}; nothing was written"
        )
    if dtype.bitwidth < 8:
        if not whole:
            raise OutputError(f"tensor {slot.name!r} ({dtype.name}) packs several values a byte: produce it whole")
        return memoryview(ir.Tensor(values, dtype=dtype).tobytes())
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data
