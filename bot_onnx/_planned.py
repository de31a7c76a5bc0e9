"""A plan that knows its model: what :meth:`bot_onnx._model.Model.plan` gives."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import onnx

from bot_onnx._onnxfile.lost_files import run_told
from bot_onnx._origins import private_folder
from bot_onnx._progress import Progress
from bot_onnx._request import PathOrName, ResizeRequest
from bot_onnx._surgery.types import Plan
from bot_onnx._workers import HERE, Pool
from bot_onnx.errors import GraphError

if TYPE_CHECKING:
    from bot_onnx._results import Result
    from bot_onnx._target import TargetSpec


class Resizer(Protocol):
    """What a plan is carried out by: a :class:`bot_onnx._model.Model`."""

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
    ) -> Result: ...

    def _alone(self) -> Resizer: ...


class PlannedResize(Plan):
    """A plan that knows its model, so that it can be carried out. It is a :class:`Plan` in all else.

    The weights are read when it is carried out, and the graph is worked through again: a plan keeps no file open. A
    source that is another one by then is refused.
    """

    __slots__ = ("_digest", "_model", "_request", "_stored", "_target")
    _model: Resizer
    _request: ResizeRequest
    _target: TargetSpec
    _digest: str | None
    _stored: Plan | None

    def _attach(
        self, model: Resizer, request: ResizeRequest, target: TargetSpec, digest: str | None, stored: Plan | None
    ) -> None:
        told = {"_model": model, "_request": request, "_target": target, "_digest": digest, "_stored": stored}
        for name, value in told.items():
            object.__setattr__(self, name, value)

    @property
    def request(self) -> ResizeRequest:
        """What was asked.

        Raises:
            GraphError: this is a copy, which has lost it.
        """
        try:
            return self._request
        except AttributeError:
            raise GraphError("this copy of a plan does not know its model: plan again with model.plan(…)") from None

    def write(
        self,
        output: PathOrName,
        *,
        force: bool = False,
        resume: bool = False,
        jobs: int = 1,
        scheduler: str | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Resize the model and verify what was written; see :meth:`Model.resize`.

        Raises:
            GraphError: the source has changed since the plan was made.
            BotError: something was refused or failed; no output was left behind.
        """
        request = self.request
        told = self._target, Path(output), force, self._digest, self._stored
        pool = Pool(jobs, scheduler)
        return run_told(progress, lambda: self._model._carry_out(request, *told, resume=resume, pool=pool))

    def apply(self, *, progress: Progress | None = None) -> onnx.ModelProto:
        """Resize the model, verify the result, and give it as a message with all its weights.

        It is verified as a file in a private folder (in memory where the system has room there), which is then gone.

        Args:
            progress: see :meth:`Model.inspect`.

        Raises:
            GraphError: the source has changed since the plan was made.
            BotError: something was refused or failed.
        """

        def make() -> onnx.ModelProto:
            request = self.request
            with private_folder(self.size_bytes[1]) as folder:
                model, out = self._model._alone(), folder / "model.onnx"
                done = model._carry_out(request, self._target, out, False, self._digest, self._stored)
                return onnx.load(done.output)

        return run_told(progress, make)

    def __eq__(self, other: object) -> bool:
        """Whether another plan, with or without its model, says the same."""
        if not isinstance(other, Plan):
            return NotImplemented
        return all(getattr(self, entry.name) == getattr(other, entry.name) for entry in fields(Plan) if entry.compare)

    __hash__ = None  # type: ignore[assignment]  # its options are a dict
