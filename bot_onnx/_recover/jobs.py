"""A recovery from paths to a finished file: the part of the Python API that is about training."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

from bot_onnx import __version__
from bot_onnx._canonical.still_packed import quantised_weight
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.writer import check_output
from bot_onnx._progress import stage
from bot_onnx._recover.agreement import tolerance_of
from bot_onnx._recover.answer_store import AnswerStore, default_folder
from bot_onnx._recover.course import check_course, pieces, validation_batches
from bot_onnx._recover.data import PREPROCESSOR, DataLike, DataOptions, Origin, read_data
from bot_onnx._recover.dataset import Batches, Dataset, Indices, consecutive, split
from bot_onnx._recover.events import Events, check_events
from bot_onnx._recover.extras import converter, torch
from bot_onnx._recover.first_look import check_shared, check_student, leave_idle, unshared
from bot_onnx._recover.log import Log, Teller, check_log
from bot_onnx._recover.losses import Objective
from bot_onnx._recover.network import Frozen, fixed_batch, read_network
from bot_onnx._recover.pairing import check_ports, common_pairs
from bot_onnx._recover.place import Place, find_place
from bot_onnx._recover.quality import measure
from bot_onnx._recover.ranks import ALONE, Ranks, joined
from bot_onnx._recover.reporting import recovery
from bot_onnx._recover.savepoint import SUFFIX, Savepoint
from bot_onnx._recover.student import Student, first_run, make_student
from bot_onnx._recover.teacher import Teacher
from bot_onnx._recover.text import TOKENIZER
from bot_onnx._recover.trainable import Trainable, find_trainable
from bot_onnx._recover.training import Progress, Training, Validated, mask_of
from bot_onnx._recover.types import OutputQuality, Recovery, Settings
from bot_onnx._recover.writing import halves_note, weight_types, write_trained
from bot_onnx._runs.runtime import onnxruntime
from bot_onnx._shards import ExternalLike, external_of
from bot_onnx._verify import raise_unless_passed, verify_model
from bot_onnx._verify.feeding import index_ranges
from bot_onnx.errors import RecoverError

__all__ = ["DataOptions", "Recovery", "Settings", "recover"]

PathOrName = str | PathLike[str]

CACHE_BYTES = 8 << 30  #: of the teachers' answers on the disk
_FITTED = 8  # batches from which the maps between widths are solved


@surviving()
def recover(
    student: PathOrName,
    teacher: PathOrName,
    data: DataLike,
    output: PathOrName,
    *,
    settings: Settings | Mapping[str, Any] | None = None,
    options: DataOptions | Mapping[str, Any] | None = None,
    restart: bool = False,
    save_every: float = 30.0,
    teacher_cache: PathOrName | None = None,
    teacher_cache_bytes: int = CACHE_BYTES,
    force: bool = False,
    external: ExternalLike | None = None,
    state: PathOrName | None = None,
    progress: Progress | None = None,
    validated: Validated | None = None,
    log: PathOrName | None = None,
    log_every: int = 1,
    tensorboard: PathOrName | None = None,
) -> Recovery:
    """Teach a shrunk model what its source knows, and write the result.

    The output appears under its name only when it is whole and verified; neither model is written to. While the
    training runs, ``<output>.recover`` holds its state: a killed run goes on from there when it is called again with
    the same arguments, and comes to the same weights.

    In each of the processes that ``torchrun`` starts it trains a share of every batch; the first one writes and tells,
    and all return its report.

    Args:
        student: path of the model to train.
        teacher: path of the model that it learns from, with the same inputs and at least one common output.
        data: files, folders or patterns of paths (text, JSON lines, Parquet and Arrow, images, sounds, an ``.npz`` file
            with an array per input), or samples: objects with an array per input, texts, or a function that gives
            them. No labels are needed.
        output: path of the new model.
        settings: of the training: :class:`Settings`, or a mapping with its fields.
        options: how data are read: :class:`DataOptions`, or a mapping with its fields.
        restart: throw away what an earlier run left behind.
        save_every: seconds between two times that the state is saved.
        teacher_cache: folder where the teacher's answers are kept for this run and others; None: what the environment
            variable ``BOT_ONNX_TEACHER_CACHE`` names, else ``bot-onnx/teachers`` in the user's cache.
        teacher_cache_bytes: that the folder may take; 0: no answers are kept on the disk.
        force: replace an existing output.
        external: store the weights beside the model; None: as the student does; a text such as ``2GB``: in several
            files, of at most that size.
        state: where the state of the training is kept, and stays; None: ``<output>.recover``, gone in the end.
        progress: called with (steps done, steps in all, loss) after each step.
        validated: called with (steps done, loss on samples held out) before that, where it was measured.
        log: path of a CSV file that gets rows (step, loss, validation_loss, learning_rate, seconds) while the training
            runs. A run that goes on, goes on in it; an earlier log is replaced, any other file refused.
        log_every: steps between two rows.
        tensorboard: folder of event files for TensorBoard with the same numbers. A run that goes on, goes on in its
            curves; those of an earlier one are replaced.

    Raises:
        BotError: something was refused or failed; no output was left behind.
    """
    started = time.perf_counter()
    settings = settings if isinstance(settings, Settings) else Settings(**(settings or {}))
    options = options if isinstance(options, DataOptions) else DataOptions(**(options or {}))
    out, origin = Path(output), Origin.of(data)
    check_course(settings)
    converter()
    ranks = Ranks.of(os.environ)
    settings = ranks.threads_of(settings)
    place = find_place(settings, ranks)  # refused before anything is read
    if ranks.leads:
        sweep_beside(student, teacher, out)
    with ExitStack() as stack:
        sources = [stack.enter_context(open_model(path)) for path in (student, teacher)]
        in_data = external_of(external, sources[0].uses_external_data)
        read_only = [*sources[0].files, *sources[1].files, *files_read(origin, options, (student, teacher), out)]
        check_output(out, external=in_data, force=force, sources=read_only)
        kept = out.with_name(out.name + SUFFIX) if state is None else Path(state)
        check_output(kept, force=True, sources=read_only)
        if log is not None:
            check_log(Path(log), (out, kept), read_only)
        if tensorboard is not None:
            check_events(Path(tensorboard))
        stack.enter_context(_threads(settings.threads))
        stack.enter_context(joined(ranks, place.kind))
        stage(f"reading {student}, {teacher} and {origin.label or 'samples'}")
        cache = (default_folder() if teacher_cache is None else Path(teacher_cache), teacher_cache_bytes)
        job = Job(sources, origin, settings, options, cache, ranks)
        savepoint = Savepoint(kept, job.fingerprint())
        if restart and ranks.leads:
            savepoint.remove()
        ranks.check_same(job.fingerprint())
        begun = ranks.first(savepoint.load)
        training = job.training(savepoint, save_every)
        before = job.quality(job.beside()) if ranks.leads else ()
        del job.frozen_student  # onnxruntime holds weights in its own order beside those that are trained
        stage(f"training for {settings.steps} steps on {job.place.told()}")
        resumed = (
            0 if begun is None else len(begun.get("losses", ()))
        )  # what is missing in it is told as it is taken up
        tellers: list[Teller] = [Log(Path(log), log_every, resumed)] if log is not None and ranks.leads else []
        if tensorboard is not None and ranks.leads:
            events = Events(Path(tensorboard), log_every, resumed)
            stack.callback(events.close)
            tellers.append(events)
        training.run(begun, *((progress, tellers, validated) if ranks.leads else (None,)))
        after: list[tuple[OutputQuality, ...]] = []

        def check(readable: str) -> None:
            for source in sources:
                source.check_unchanged()
            raise_unless_passed(verify_model(out, readable=readable))
            after.append(job.quality(job.opened(readable)))

        def publish() -> Recovery:
            stage(f"writing {out}")
            write_trained(
                job.networks[0],
                job.trainable,
                training.weights(),
                out,
                told=job.told(),
                external=in_data,
                force=force,
                read_only=read_only,
                before_publish=check,
            )
            if state is None:
                savepoint.remove()
            return recovery(job, training, (before, after[0]), resumed, out)

        return replace(ranks.first(publish), seconds=time.perf_counter() - started)


def files_read(origin: Origin, options: DataOptions, models: Sequence[PathOrName], out: Path) -> list[Path]:
    """Files besides the models that the output must not replace: the data, an image among them, and what reads them."""
    files = origin.files()
    if out.exists() and origin.holds(out):
        files.append(out)
    beside = [Path(model).parent / name for model in models for name in (TOKENIZER, PREPROCESSOR)]
    named = (options.tokenizer, options.preprocessor, *beside)
    return files + [path for path in named if path is not None and path.is_file()]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let PyTorch compute with as many threads inside the block; 0: as it is."""
    before = torch().get_num_threads()
    torch().set_num_threads(count or before)
    try:
        yield
    finally:
        torch().set_num_threads(before)


class Job:
    """Everything that is known before the first step.

    Args:
        sources: the student's and the teacher's files.
        origin: of the data.
        settings: of the training. options: of the reading.
        cache: folder of the teachers' answers and the bytes that it may take; None: as by default.
        ranks: the processes that train.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        origin: Origin,
        settings: Settings,
        options: DataOptions,
        cache: tuple[Path | None, int] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.settings, self.ranks = settings, ranks
        self.place = find_place(settings, ranks)
        self.networks = read_network(sources[0]), read_network(sources[1])
        packed = quantised_weight(self.networks[0].analysis.model.graph)
        if packed is not None:
            raise RecoverError(f"the weights of {sources[0].path} are quantised: train the floating-point model")
        check_ports(*self.networks)
        self.trainable: Trainable = find_trainable(self.networks[0])
        rows = index_ranges(sources[0].proto.graph)
        for name, count in index_ranges(sources[1].proto.graph).items():
            rows[name] = min(count, rows.get(name, count))
        paths = [network.path for network in self.networks]
        self.data: Dataset = read_data(origin, self.networks[0].inputs, options, paths, rows)
        self.chunk = fixed_batch(self.networks, list(self.data.arrays))
        self.training_indices, self.held_out = split(len(self.data), settings.held_out, settings.seed)
        if self.chunk is not None and min(len(self.training_indices), len(self.held_out)) < self.chunk:
            raise RecoverError(
                f"the models take {self.chunk} samples at a time, and the data hold {len(self.data)}: give more, or "
                "export the models with an open batch axis"
            )
        drawn = settings.batch * settings.accumulate
        self.batches = Batches(self.training_indices, drawn, settings.seed, self.chunk, self.data.lengths)
        self.pairs, self.notes = common_pairs(*self.networks, settings)
        if quantised_weight(sources[0].model().graph) is not None:
            self.notes.append(
                "The weights of the student were quantised: it was trained, and is written, as the floats that they "
                "stand for; --quantize packs them again."
            )
        names = [pair.student for pair in self.pairs]
        learnt = [*(name for name in self.networks[0].outputs if name in names), *names]
        self.frozen_student = self._frozen(0, learnt, settings.threads)
        self.types = weight_types(self.networks[0], {*self.trainable.values, *self.trainable.twins})
        self.notes += halves_note(self.types)
        self.teacher = self._teacher(*(cache or (default_folder(), CACHE_BYTES)))

    def _frozen(self, side: int, names: Sequence[str], threads: int, cuda: bool = False) -> Frozen:
        wanted, number = list(dict.fromkeys(names)), self.place.number
        return Frozen(
            self.networks[side].form(wanted), wanted, threads=threads, chunk=self.chunk, cuda=cuda, number=number
        )

    def beside(self) -> Frozen:
        """The student as it was, for its quality."""
        if self.place.on_cpu:
            return self.frozen_student
        return self._frozen(0, self.networks[0].outputs, self.settings.threads, cuda=True)

    def _teacher(self, cache: Path | None, most: int) -> Teacher:
        """What answers for all that is learnt or measured."""
        student, teacher = self.networks
        common = [name for name in teacher.outputs if name in student.outputs]
        names = sorted({*common, *(pair.teacher for pair in self.pairs)})
        cuda = self.place.kind == "cuda"
        model = self._frozen(1, names, 1, cuda)
        if cuda and model.device == "cpu":
            self.notes.append(
                f"The teacher answered on the CPU: onnxruntime {onnxruntime().__version__} does not run it on CUDA "
                "(the extra 'gpu' brings one that may)."
            )
        store = None
        if cache is not None and most:
            key = [__version__, onnxruntime().__version__, teacher.digest, self.chunk, names]
            key += [model.device] if model.device != "cpu" else []
            store = AnswerStore(cache, json.dumps(key), most, self.ranks.world)
        return Teacher(
            lambda threads: model if threads == 1 else self._frozen(1, names, threads, cuda),
            self.data,
            store=store,
            threads=self.settings.threads,
            chunk=self.chunk,
            tolerance=tolerance_of(teacher.halves),
        )

    def opened(self, path: str) -> Frozen:
        """A finished student."""
        cuda, threads = self.place.kind == "cuda", self.settings.threads
        return Frozen(path, self.networks[0].outputs, threads=threads, chunk=self.chunk, cuda=cuda)

    def told(self) -> dict[str, Any]:
        """What the file is to say of its training."""
        given = asdict(self.settings)
        del given["threads"]
        if not (self.settings.patience or self.settings.keep_best):  # then nothing depends on it
            del given["validate_every"]
        return {
            **given,
            "device": self.place.kind,
            **({"processes": self.ranks.world} if self.ranks.world > 1 else {}),
            "precision": self.place.precision,
            "student": self.networks[0].digest,
            "teacher": self.networks[1].digest,
            "data": self.data.digest(),
            **self.data.told,
        }

    def fingerprint(self) -> dict[str, Any]:
        """What the course of the training depends on; not devices and processes, for the same to rounding."""
        told = {**self.told(), "torch": str(torch().__version__).partition("+")[0]}
        return {name: value for name, value in told.items() if name not in ("device", "processes")}

    def training(self, savepoint: Savepoint, save_every: float) -> Training:
        """Convert the student, check it, and look at the first batches."""
        torch().manual_seed(self.settings.seed)
        wanted = list(self.frozen_student.outputs)
        student = make_student(self.networks[0], self.trainable, wanted, chunk=self.chunk, constant=self.data.fixed)
        batches = []
        for step in range(_FITTED):
            chosen = self._first_piece(step)
            feeds = self.data.feeds(chosen)
            ours = first_run(student, feeds) if step == 0 else student.look(feeds)
            if step == 0 and self.ranks.world > 1:
                self._check_shares(student, ours, chosen)
            if step < 2:
                check_student(ours, feeds, self.frozen_student, self.networks[0], self.data.fixed)
            batches.append((ours, Place().tensors(self.teacher.answers(chosen, feeds)), mask_of(self.data, feeds)))
        objective = Objective(self.pairs, self.settings, batches)
        training = Training(
            student,
            self.teacher,
            objective,
            self.data,
            self.batches,
            self.settings,
            savepoint,
            save_every,
            validation_batches(self.held_out, self.settings.batch, self.chunk),
            self.chunk,
            ranks=self.ranks,
        )
        leave_idle(training, batches[0][1], self._first_piece(0), self.trainable)
        training.to(self.place)
        return training

    def _check_shares(self, student: Student, ours: dict[str, Any], chosen: Indices) -> None:
        """See that all batches can be shared by the processes."""
        if not self.teacher.alone:
            raise unshared(next(iter(self.pairs)).teacher)
        unit = self.chunk or 1
        check_shared(student, ours, self.data, chosen, self.ranks.shares(len(chosen), unit))
        watched = validation_batches(self.held_out, self.settings.batch, self.chunk)[: self.settings.validate_every]
        for one in (*pieces(self.batches.at(0), self.settings, self.chunk), *watched):
            self.ranks.shares(len(one), unit)

    def _first_piece(self, step: int) -> Indices:
        return pieces(self.batches.at(step), self.settings, self.chunk)[0]

    def quality(self, student: Frozen) -> tuple[OutputQuality, ...]:
        """How close a student is to the teacher on the held-out samples."""
        batches = consecutive(self.held_out, self.settings.batch, self.chunk)
        return measure(student, self.teacher, self.networks, self.data, batches)
