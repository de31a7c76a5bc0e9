"""Carry out a plan on many processes, by Dask: each makes layers of the plan's stacks and writes them to their places.

The process that planned keeps the work of the output (:mod:`bot_onnx._onnxfile.kept_work`), lays what workers need into
its folder, and is told the digests of what they wrote. Where a tensor goes is known before one is made, and no two
tasks write to one place: a task that is run a second time, for its worker died, writes the same bytes again.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from bot_onnx import __version__
from bot_onnx._align import Aligned, align
from bot_onnx._onnxfile.addresses import Address
from bot_onnx._onnxfile.byte_layout import Placement, TensorSlot
from bot_onnx._onnxfile.kept_work import KeptWork
from bot_onnx._onnxfile.writer import Written, raw_bytes
from bot_onnx._resample import MethodOptions
from bot_onnx._resample.parallel import arithmetic
from bot_onnx._surgery.execute import Piece, Progress, made, pieces
from bot_onnx._surgery.planner import Prepared
from bot_onnx._surgery.types import Plan
from bot_onnx._workers import Pool, client_of, distributed
from bot_onnx.errors import BotError, GraphError, OutputError, ResampleError

_MOST_BYTES: Final = 1 << 26  #: of a task, unless one layer has more
_EACH: Final = 4  # tasks of a worker at least, where there are layers enough: they do not all take the same time
_alone: Final = threading.Lock()  # one task at a time in a process: its arithmetic has threads of its own


@dataclass(frozen=True, slots=True)
class Work:
    """What every worker has to know.

    Attributes:
        plan: what is made. options: of its method.
        aligned: gives the source's tensors.
        slots, places: of every tensor of the target, by name.
        version, arithmetic: of the process that planned.
    """

    plan: Plan
    options: MethodOptions
    aligned: Aligned
    slots: dict[str, TensorSlot]
    places: dict[str, Placement]
    version: str
    arithmetic: dict[str, Any]


#: What a worker says of a tensor: its name, and the SHA-256 of its bytes.
Told = tuple[str, bytes]


def spread(
    prepared: Prepared,
    options: MethodOptions,
    pool: Pool,
    kept: KeptWork,
    *,
    progress: Progress | None = None,
) -> Generator[tuple[str, Written], None, None]:
    """Have every tensor of the target made that is not finished, and yield what was written, as it is done.

    Args:
        prepared, options, progress: as :func:`bot_onnx._surgery.execute.produce` has them.
        pool: who makes them. kept: the work on the output, whose files are there, at their full length.

    Raises:
        BotError: there are no workers, or one cannot or may not do it; the message names what it was at.
    """
    wanted = pieces(prepared.plan, kept.finished)
    if not wanted:
        return
    sizes = {slot.name: slot.nbytes for slot in prepared.slots}
    stacks = {name: stack.task.name for stack in prepared.plan.stacks for name in stack.targets}
    done = sum(sizes[name] for name in kept.finished)
    with TemporaryDirectory() as folder, client_of(pool, Path(folder), own_threads=False) as client:
        aligned = align(prepared.alignment, prepared.tensors, xp=np)
        places = kept.plan.placements
        work = Work(prepared.plan, options, aligned, kept.plan.slots, places, __version__, arithmetic())
        tasks = shares(wanted, sizes, len(client.nthreads()))
        with _laid_out(work, kept.path) as laid:
            for name, digest in _answers(client, laid, tasks):
                yield name, Written(digest)
                done += sizes[name]
                if progress is not None:
                    progress(stacks[name], done, sum(sizes.values()))


def check_shared(pool: Pool, device: str, source: object) -> None:
    """Refuse what other processes cannot do, before any work.

    Args:
        pool: asks for other processes. device: that was asked for. source: the model that is resized.

    Raises:
        BotError: says what to drop.
    """
    if device == "cuda":
        raise ResampleError(
            f"'{pool.asking}' shares work among processors, and device 'cuda' is none: drop one of them"
        )
    if isinstance(source, Address):
        raise GraphError(
            f"{source} is not on this machine, and '{pool.asking}' needs a source that every worker can open: copy it "
            f"to a disk, or drop {pool.asking}"
        )


def shares(wanted: Iterable[Piece], sizes: dict[str, int], workers: int) -> list[tuple[Piece, ...]]:
    """Tasks of about the same bytes, the largest first: small pieces together, large ones by layers.

    Args:
        wanted: what is to be made. sizes: bytes of every tensor by name. workers: how many there are.
    """
    rows = [
        (Piece(piece.members, layer, layer + 1), sum(sizes[member.targets[layer]] for member in piece.members))
        for piece in wanted
        for layer in range(piece.start, piece.stop)
    ]
    most = min(_MOST_BYTES, ceil(sum(nbytes for _, nbytes in rows) / (_EACH * max(workers, 1))))
    tasks: list[tuple[int, list[Piece]]] = []
    for row, nbytes in rows:
        if not tasks or tasks[-1][0] + nbytes > most:
            tasks.append((0, []))
        whole, task = tasks[-1]
        if task and task[-1].members is row.members:
            task[-1] = replace(task[-1], stop=row.stop)
        else:
            task.append(row)
        tasks[-1] = whole + nbytes, task
    return [tuple(task) for _, task in sorted(tasks, key=lambda one: -one[0])]


@contextmanager
def _laid_out(work: Work, folder: Path) -> Iterator[tuple[str, str]]:
    """What workers read, in the folder that they write to: its path, and its SHA-256."""
    try:
        content: bytes = _pickler().dumps(work)
    except Exception as error:
        raise BotError(f"this plan cannot be handed to other processes ({error}): leave --jobs out") from error
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"work-{digest[:12]}"
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
            with open(os.open(path, flags, 0o600), "wb") as stream:
                stream.write(content)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
        yield str(path), digest
    finally:
        path.unlink(missing_ok=True)


def _answers(client: Any, laid: tuple[str, str], tasks: Sequence[Sequence[Piece]]) -> Iterator[Told]:
    """What workers say of all tasks, as they are done."""
    running = {
        client.submit(make, *laid, task, pure=False, priority=-number): task for number, task in enumerate(tasks)
    }
    try:
        while running:
            with client.as_current():
                finished = distributed().wait(list(running), return_when="FIRST_COMPLETED").done
            for future in finished:
                yield from _answer(future, running.pop(future))
    finally:
        client.cancel(list(running), force=True)


def _answer(future: Any, task: Sequence[Piece]) -> list[Told]:
    """What a worker says of a task.

    Raises:
        BotError: nobody could do it.
    """
    try:
        told: list[Told] = future.result()
        return told
    except distributed().scheduler.KilledWorker as error:
        name = task[0].members[0].targets[task[0].start]
        raise BotError(
            f"workers died again and again while they made {name!r} and what comes with it: too little memory? What is "
            "finished is kept: the same command goes on from there"
        ) from error
    except ModuleNotFoundError as error:
        raise BotError(f"a worker has no module {error.name}: install bot-onnx[cpu,sweep] where it runs") from error


def make(path: str, digest: str, task: Sequence[Piece]) -> list[Told]:
    """Make tensors and write them to their places, in whatever process this runs.

    Args:
        path, digest: of the :class:`Work`, which lies in the folder with the files of the output. task: what is made.

    Raises:
        BotError: this process cannot do it, or would compute other bytes.
    """
    with _alone:
        work = _read(path, digest)
        return [told for piece in task for told in _made(work, Path(path).parent, piece)]


def _made(work: Work, folder: Path, piece: Piece) -> Iterator[Told]:
    at = piece.members[0].targets[piece.start]
    try:
        for one in made(piece, work.plan, work.options, work.aligned.read, np):
            at = one.name
            raw, place = raw_bytes(one.values, work.slots[at]), work.places[at]
            with open(folder / place.file, "r+b", buffering=0) as stream:
                stream.seek(place.offset)
                written = 0
                while written < len(raw):
                    written += stream.write(raw[written:]) or 0
            yield at, hashlib.sha256(raw).digest()
    except OSError as error:
        raise OutputError(f"a worker cannot write tensor {at!r} in {folder}: {error.strerror or error}") from error
    except BotError:
        raise
    except Exception as error:
        raise BotError(f"a worker failed at tensor {at!r}: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=1)
def _read(path: str, digest: str) -> Work:
    """What was laid out, once for all tasks of a process.

    Raises:
        BotError: it is not there, or this process is not like the one that planned.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise OutputError(
            f"a worker cannot read {path} ({error.strerror}): it needs that folder under this path, as on a shared disk"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise OutputError(f"{path} is another file where a worker runs: it needs the same folder under this path")
    work: Work = _pickler().loads(content)
    if work.version != __version__:
        raise BotError(f"a worker has bot-onnx {__version__}, and the command {work.version}: install the same")
    own = arithmetic()
    for name, wanted in work.arithmetic.items():
        if own[name] != wanted:
            raise BotError(
                f"a worker computes otherwise than the command, and its bytes could be others: {name} is {own[name]}, "
                f"not {wanted}; give both the same OMP_NUM_THREADS and OPENBLAS_NUM_THREADS (Dask gives its workers "
                "1), on processors of one kind, with the same NumPy"
            )
    return work


def _pickler() -> Any:
    """Dask's own: some tensors are worked out by functions within functions, which Python's does not take."""
    return importlib.import_module("cloudpickle")
