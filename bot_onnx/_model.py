"""The noun of the public API: a :class:`Model` that is opened. What a call of it needs is imported by that call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from bot_onnx._folders.layout import Folder, find_folder
from bot_onnx._onnxfile.lost_files import run_told
from bot_onnx._origins import ModelLike, Origin
from bot_onnx._progress import Progress
from bot_onnx._request import InputsLike, LeftOpen, PathOrName, ResizeRequest
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._workers import HERE, Pool
from bot_onnx.errors import GraphError, OutputError

if TYPE_CHECKING:
    from bot_onnx._align.energy import EnergyTable
    from bot_onnx._names import DeviceName
    from bot_onnx._onnxfile.input_overrides import Given
    from bot_onnx._planned import PlannedResize
    from bot_onnx._request import SpecLike
    from bot_onnx._results import Inspection, Result
    from bot_onnx._shards import ExternalLike
    from bot_onnx._structure import Structure
    from bot_onnx._surgery.types import Plan
    from bot_onnx._target import TargetSpec
    from bot_onnx._verify import VerifyReport


#: Makes more of a model in a folder on its way: told the source, the new model, and where that will lie; gives notes
#: for the card.
Also = Callable[[Path, Path, Path], tuple[str, ...]]


class Model:
    """A model to look at, to plan for and to resize; nothing of it is ever written to.

    Nothing stays open between two calls: a file is opened for each of them, and what lies in memory goes to a private
    folder for its time (in memory where the system has room there), which is then gone.
    """

    def __init__(
        self,
        model: ModelLike,
        *,
        inputs: InputsLike | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        file: str | None = None,
    ) -> None:
        """Take a model, without reading it yet; see :func:`open`."""
        self._given_as, self._file = Origin.of(model), file
        self._inputs, self._shapes = inputs, input_shapes
        self._also: Also | None = None

    @property
    def source(self) -> str:
        """How messages, plans and reports call it: its path, or the kind of thing that it was given as."""
        return self._origin.label

    @cached_property
    def _folder(self) -> Folder | None:
        """The folder that it was given as, if any."""
        return find_folder(self._given_as.model, self._file)

    @cached_property
    def _origin(self) -> Origin:
        folder = self._folder
        return self._given_as if folder is None else Origin(folder.model, folder.shown)

    @cached_property
    def structure(self) -> Structure:
        """The dims, the chains of layers, the stacks of parameters: analysed when first asked for."""
        return self.inspect().structure

    def inspect(self, *, progress: Progress | None = None) -> Inspection:
        """Analyse it.

        Args:
            progress: called with (what, done, in all) as it goes on; 0 of 0 where nothing is counted.

        Raises:
            GraphError: it cannot be read or run.
        """
        from bot_onnx._inspecting import inspect_model

        return run_told(progress, lambda: inspect_model(self._origin, self._given()))

    def energy(self, *, progress: Progress | None = None) -> tuple[EnergyTable, ...]:
        """Say how much of every stack's energy halving would keep, by each method that shrinks and each alignment.

        All weights are read.

        Args:
            progress: see :meth:`inspect`.

        Returns:
            A table per method for ``none``, for ``permute``, and for ``rotate`` where the network admits it.

        Raises:
            GraphError: it cannot be read or run.
        """
        from bot_onnx._energies import energies

        return run_told(progress, lambda: energies(self._origin, self._given()))

    def plan(self, request: ResizeRequest | SpecLike, *, progress: Progress | None = None) -> PlannedResize:
        """Say everything that a resize would do, without reading a weight.

        Args:
            request: what is asked; a spec alone (see :class:`ResizeRequest`) takes the defaults for all else.
            progress: see :meth:`inspect`.

        Raises:
            ProofError: the sizes cannot be proven right.
            BotError: the source cannot be understood, or the target cannot be had.
        """
        asked = request if isinstance(request, ResizeRequest) else ResizeRequest(request)

        def make() -> PlannedResize:
            target = asked.target()  # what is written later is what was read now
            return self._planned(asked, target, None)

        return run_told(progress, make)

    def resize(
        self,
        request: ResizeRequest | SpecLike,
        output: PathOrName,
        *,
        force: bool = False,
        resume: bool = False,
        jobs: int = 1,
        scheduler: str | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Plan, resize, and verify what was written.

        The output appears under its name only when it is whole and has passed.

        Args:
            request: see :meth:`plan`.
            output: path of the new model.
            force: replace an existing output.
            resume: keep what is finished in ``<output>.resize``, and go on from what is kept there.
            jobs: processes here that make the weights, by Dask (extra ``sweep``); 1: this one. The bytes are the same.
            scheduler: address of a Dask scheduler whose workers do it instead; with either, work is kept as by
                ``resume``.
            progress: see :meth:`inspect`; while weights are written, in bytes.

        Raises:
            BotError: something was refused or failed; no output was left behind.
        """
        asked = request if isinstance(request, ResizeRequest) else ResizeRequest(request)
        pool = Pool(jobs, scheduler)
        work = partial(self._carry_out, asked, asked.target(), Path(output), force, None, resume=resume, pool=pool)
        return run_told(progress, work)

    def replan(
        self,
        plan: Plan,
        *,
        calibration: PathOrName | None = None,
        external: ExternalLike | None = None,
        unproven: bool = False,
        inputs: InputsLike | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        progress: Progress | None = None,
    ) -> PlannedResize:
        """Say everything that :meth:`replay` would do, without reading a weight; the arguments are those of it.

        Raises:
            PlanError: the plan is not one for this source, or was changed.
        """
        from bot_onnx._again import asked_again

        left = LeftOpen(calibration, external, unproven, inputs, input_shapes)
        return run_told(progress, lambda: self._planned(*asked_again(plan, self._given(), left), plan))

    def replay(
        self,
        plan: Plan,
        output: PathOrName,
        *,
        plan_file: PathOrName | None = None,
        force: bool = False,
        resume: bool = False,
        jobs: int = 1,
        scheduler: str | None = None,
        calibration: PathOrName | None = None,
        external: ExternalLike | None = None,
        unproven: bool = False,
        inputs: InputsLike | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        device: DeviceName = "auto",
        allow_nonfinite: bool = False,
        against: bool = True,
        progress: Progress | None = None,
    ) -> Result:
        """Carry out a saved plan: under the name of the run that made it, the output has the same bytes.

        The edits are those of the plan. The source is analysed anew, and each of them is held against what the plan's
        own request makes of it, which is what is proven.

        Args:
            plan: from :meth:`Plan.from_json`.
            output, force, resume, jobs, scheduler, progress: see :meth:`resize`.
            plan_file: where it lies, which is never written to.
            calibration: the samples that the plan was made with, where it was.
            external: see :class:`ResizeRequest`; None: as the plan does.
            unproven: take a factor or an epsilon that was changed in the plan as it is; nothing is promised then.
            inputs, input_shapes, device, allow_nonfinite, against: see :class:`ResizeRequest`.

        Raises:
            PlanError: the source is another one, or the plan says what its request does not make of it, or the weights
                came out otherwise than in the run that made it.
            BotError: see :meth:`resize`.
        """
        from bot_onnx._again import asked_again

        reads = () if plan_file is None else (Path(plan_file),)
        left = LeftOpen(calibration, external, unproven, inputs, input_shapes, device, allow_nonfinite, against)
        pool = Pool(jobs, scheduler)

        def work() -> Result:
            asked, target = asked_again(plan, self._given(), left)
            return self._carry_out(asked, target, Path(output), force, None, plan, reads, resume, pool)

        return run_told(progress, work)

    def verify(
        self,
        *,
        spec: SpecLike | None = None,
        against: Model | ModelLike | None = None,
        progress: Progress | None = None,
    ) -> VerifyReport:
        """Check it: structure, runtime, analysis, and how close its outputs are to another model's.

        Args:
            spec: what its sizes should be.
            against: a model to compare its outputs with. Where the file says that it was resized from that very model
                and keeps its outputs, a check fails unless they agree; otherwise the comparison is for information.
            progress: see :meth:`inspect`.

        Raises:
            GraphError: it cannot be opened at all. Failed checks are in the report.
        """
        from bot_onnx._verifying import verify_origin

        wanted = None if spec is None else ResizeRequest(spec).target()
        other = against._origin if isinstance(against, Model) else None if against is None else Model(against)._origin
        return run_told(progress, lambda: verify_origin(self._origin, wanted, other, self._given()))

    def folder_notes(self, plan: Plan) -> tuple[str, ...]:
        """What the folder that a plan leads to cannot say, and what does not go along, where the model is in a folder.

        Raises:
            SpecError: a config in it is none, or would tell of another network than the model's.
        """
        if self._folder is None:
            return ()
        from bot_onnx._folders import planned_notes

        return planned_notes(self._folder, plan)

    def _given(self, request: ResizeRequest | None = None) -> Given | None:
        """What it is run on: as a request says, else as it was opened."""
        asked = None if request is None else as_given(request.inputs, request.input_shapes)
        return as_given(self._inputs, self._shapes) if asked is None else asked

    def _sketch(self, request: ResizeRequest) -> PlannedResize:
        """What :meth:`plan` says, for who only looks at it: its source is not hashed, hence not held against later."""
        return run_told(None, lambda: self._planned(request, request.target(), None, hashed=False))

    def _planned(
        self, request: ResizeRequest, target: TargetSpec, stored: Plan | None, *, hashed: bool = True
    ) -> PlannedResize:
        from bot_onnx._engine import make_plan
        from bot_onnx._planned import PlannedResize

        plan, digest = make_plan(self._origin, request, target, self._given(request), stored, hashed=hashed)
        plan = replace(plan, notes=(*plan.notes, *self.folder_notes(plan)))
        made = PlannedResize(**{entry.name: getattr(plan, entry.name) for entry in fields(plan)})
        made._attach(self, request, target, digest or None, stored)
        return made

    def _carry_out(
        self,
        request: ResizeRequest,
        target: TargetSpec,
        output: Path,
        force: bool,
        planned: str | None,
        stored: Plan | None = None,
        reads: tuple[Path, ...] = (),
        resume: bool = False,
        pool: Pool = HERE,
    ) -> Result:
        from bot_onnx._engine import carry_out

        run = partial(
            carry_out, self._origin, request, target, self._given(request), planned=planned, stored=stored,
            reads=reads, settled=self.folder_notes,
        )  # fmt: skip
        if self._folder is None:
            return run(output, force=force, resume=resume, pool=pool)
        if resume or pool.flag:
            raise OutputError(
                f"{output} is a folder, whose work is not kept: resize the .onnx file, or drop {pool.asking}"
            )
        from bot_onnx._folders import FolderOutput

        with FolderOutput(self._folder, output, force=force) as made:
            result = run(made.model)
            report = replace(result.report, path=str(output / self._folder.inner))
            also = () if self._also is None else self._also(self._folder.model, made.model, output / self._folder.inner)
            notes = made.publish(result.plan, report, also)
        plan = replace(result.plan, notes=(*result.plan.notes, *notes))
        return replace(result, plan=plan, report=report, output=output)

    def _alone(self) -> Model:
        """Its file, without the folder that it lies in."""
        return Model(self._origin.model, inputs=self._inputs, input_shapes=self._shapes)

    def __repr__(self) -> str:
        """How it is called."""
        return f"<Model {self.source}>"

    def _repr_html_(self) -> str:
        return self.inspect()._repr_html_()


def open(
    model: ModelLike,
    *,
    inputs: InputsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    file: str | None = None,
) -> Model:
    """Open a model: a path, the bytes of a file, an ``onnx.ModelProto`` or an ``onnx_ir.Model``.

    Args:
        model: the model. What lies in memory holds all of its weights. A path may be that of a folder with an .onnx
            file and what belongs to it, or ``hf://organisation/name``: of a folder comes a folder.
        inputs: what to run it on, where sizes cannot be guessed: arrays by input, or an ``.npz`` file of them.
        input_shapes: shapes by input; what is fed is made up, or repeated from ``inputs``.
        file: place of the model in its folder, where there are several.

    Raises:
        TypeError: it is none of them. What is wrong with a model shows when it is looked at.

    Examples:
        >>> import bot_onnx
        >>> model = bot_onnx.open("model.onnx")  # doctest: +SKIP
        >>> plan = model.plan(bot_onnx.ResizeRequest({"layers": 6, "hidden": 384}))  # doctest: +SKIP
        >>> plan.write("small.onnx")  # doctest: +SKIP
    """
    return Model(model, inputs=inputs, input_shapes=input_shapes, file=file)


def also_in_folder(model: Model, make: Also) -> Path:
    """Let something more be put into the folder that comes of a folder, before that gets its name.

    Returns:
        The source.

    Raises:
        GraphError: the model lies in no folder.
    """
    if model._folder is None:
        raise GraphError(f"{model.source} is no folder")
    model._also = make
    return model._folder.model
