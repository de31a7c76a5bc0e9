"""The Python API as functions: each of them is a line over the nouns of :mod:`bot_onnx._model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bot_onnx import _late  # noqa: F401  (before anything imports onnx-ir)
from bot_onnx._deferred import deferred
from bot_onnx._model import Model, open
from bot_onnx._request import ResizeRequest

if TYPE_CHECKING:
    from bot_onnx._align.energy import EnergyTable
    from bot_onnx._names import AlignKind, DeviceName, MethodName
    from bot_onnx._origins import ModelLike
    from bot_onnx._planned import PlannedResize
    from bot_onnx._progress import Progress
    from bot_onnx._request import InputsLike, Learning, PathOrName, SpecLike
    from bot_onnx._results import Inspection, Result
    from bot_onnx._shards import ExternalLike
    from bot_onnx._surgery.types import Plan
    from bot_onnx._together import Together, plan_together, resize_together, verify_together
    from bot_onnx._verify import VerifyReport

__all__ = [
    "Inspection",
    "Model",
    "PlannedResize",
    "Result",
    "Together",
    "energy",
    "inspect",
    "open",
    "plan",
    "plan_together",
    "replan",
    "replay",
    "resize",
    "resize_together",
    "verify",
    "verify_together",
]

Shapes = Mapping[str, Sequence[int]]

__getattr__ = deferred(
    __name__,
    {
        "bot_onnx._planned": "PlannedResize",
        "bot_onnx._results": "Inspection Result",
        "bot_onnx._together": "Together plan_together resize_together verify_together",
    },
)


def inspect(
    model: ModelLike,
    *,
    inputs: InputsLike | None = None,
    input_shapes: Shapes | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Analyse a model: :meth:`Model.inspect` of :func:`bot_onnx.open`, whose arguments these are.

    Raises:
        GraphError: it cannot be read or run.
    """
    return open(model, inputs=inputs, input_shapes=input_shapes).inspect(progress=progress)


def energy(
    model: ModelLike,
    *,
    inputs: InputsLike | None = None,
    input_shapes: Shapes | None = None,
    progress: Progress | None = None,
) -> tuple[EnergyTable, ...]:
    """Say how much of every stack's energy halving would keep: :meth:`Model.energy` of :func:`bot_onnx.open`.

    Raises:
        GraphError: it cannot be read or run.
    """
    return open(model, inputs=inputs, input_shapes=input_shapes).energy(progress=progress)


def plan(
    model: ModelLike,
    spec: SpecLike,
    *,
    method: MethodName | str = "bot",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    align: AlignKind | None = None,
    calibration: PathOrName | None = None,
    external: ExternalLike | None = None,
    unproven: bool = False,
    requantize: bool = False,
    learn: Learning | Mapping[str, Any] | None = None,
    inputs: InputsLike | None = None,
    input_shapes: Shapes | None = None,
    progress: Progress | None = None,
) -> PlannedResize:
    """Say everything that a resize would do, without reading a weight: :meth:`Model.plan` of a :class:`ResizeRequest`.

    Raises:
        ProofError: the sizes cannot be proven right.
        BotError: the source cannot be understood, or the target cannot be had.
    """
    request = ResizeRequest(
        spec, method=method, options=options, seed=seed, align=align, calibration=calibration, external=external,
        unproven=unproven, requantize=requantize, learn=learn, inputs=inputs, input_shapes=input_shapes,
    )  # fmt: skip
    return open(model).plan(request, progress=progress)


def resize(
    model: ModelLike,
    spec: SpecLike,
    output: PathOrName,
    *,
    method: MethodName | str = "bot",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    align: AlignKind | None = None,
    calibration: PathOrName | None = None,
    force: bool = False,
    resume: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    external: ExternalLike | None = None,
    unproven: bool = False,
    device: DeviceName = "auto",
    allow_nonfinite: bool = False,
    against: bool = True,
    requantize: bool = False,
    learn: Learning | Mapping[str, Any] | None = None,
    inputs: InputsLike | None = None,
    input_shapes: Shapes | None = None,
    progress: Progress | None = None,
) -> Result:
    """Resize a model and verify what was written: :meth:`Model.resize` of a :class:`ResizeRequest`.

    Args:
        model: see :func:`bot_onnx.open`.
        output: path of the new model. force, resume, jobs, scheduler, progress: see :meth:`Model.resize`.
        spec: and the others: see :class:`ResizeRequest`.

    Raises:
        BotError: something was refused or failed; no output was left behind.
    """
    request = ResizeRequest(
        spec, method=method, options=options, seed=seed, align=align, calibration=calibration, external=external,
        unproven=unproven, inputs=inputs, input_shapes=input_shapes, device=device, allow_nonfinite=allow_nonfinite,
        against=against, requantize=requantize, learn=learn,
    )  # fmt: skip
    return open(model).resize(
        request, output, force=force, resume=resume, jobs=jobs, scheduler=scheduler, progress=progress
    )


def replan(
    model: ModelLike,
    plan: Plan,
    *,
    calibration: PathOrName | None = None,
    external: ExternalLike | None = None,
    unproven: bool = False,
    inputs: InputsLike | None = None,
    input_shapes: Shapes | None = None,
    progress: Progress | None = None,
) -> PlannedResize:
    """Say everything that :func:`replay` would do, without reading a weight: :meth:`Model.replan`.

    Raises:
        PlanError: the plan is not one for this source, or was changed.
    """
    return open(model).replan(
        plan, calibration=calibration, external=external, unproven=unproven, inputs=inputs, input_shapes=input_shapes,
        progress=progress,
    )  # fmt: skip


def replay(
    model: ModelLike,
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
    input_shapes: Shapes | None = None,
    device: DeviceName = "auto",
    allow_nonfinite: bool = False,
    against: bool = True,
    progress: Progress | None = None,
) -> Result:
    """Carry out a saved plan: :meth:`Model.replay`, whose arguments these are.

    Raises:
        PlanError: the plan is not one for this source, or was changed.
        BotError: something was refused or failed; no output was left behind.
    """
    return open(model).replay(
        plan, output, plan_file=plan_file, force=force, resume=resume, jobs=jobs, scheduler=scheduler,
        calibration=calibration, external=external, unproven=unproven,
        inputs=inputs, input_shapes=input_shapes, device=device, allow_nonfinite=allow_nonfinite, against=against,
        progress=progress,
    )  # fmt: skip


def verify(
    model: ModelLike,
    *,
    spec: SpecLike | None = None,
    against: Model | ModelLike | None = None,
    inputs: InputsLike | None = None,
    input_shapes: Shapes | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check a model: :meth:`Model.verify` of :func:`bot_onnx.open`.

    Raises:
        GraphError: it cannot be opened at all. Failed checks are in the report.
    """
    opened = open(model, inputs=inputs, input_shapes=input_shapes)
    return opened.verify(spec=spec, against=against, progress=progress)
