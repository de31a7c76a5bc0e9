"""Saved plans, run again: a part of the Python API.

>>> plan = Plan.from_json(Path("plan.json").read_text())  # doctest: +SKIP
>>> replay("model.onnx", plan, "small.onnx")  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._proof.replay import check_source, planned_again
from bot_onnx._resample.parallel import Background
from bot_onnx._runs.read_overrides import as_given
from bot_onnx._runs.sample_arrays import samples_for
from bot_onnx._surgery.execute import Progress
from bot_onnx._surgery.planner import Origin, Prepared, refuse_quantised
from bot_onnx._surgery.types import Plan
from bot_onnx._verify.run import Planning, Run
from bot_onnx.api import InputsLike, PathOrName, Result, files_among, result_of
from bot_onnx.errors import PlanError

__all__ = ["replan", "replay"]


@surviving()
def replan(
    model: PathOrName,
    plan: Plan,
    *,
    calibration: PathOrName | None = None,
    external: bool | None = None,
    unproven: bool = False,
    inputs: InputsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Plan:
    """Say everything that :func:`replay` would do, without reading a weight; the arguments are those of it.

    Raises:
        PlanError: the plan is not one for this source, or was changed. BotError: see :func:`plan`.
    """
    sweep_beside(model)
    planning = _planning(plan, calibration, unproven, inputs, plan.request.file_name)
    with open_model(model, given=_given_again(plan, inputs, input_shapes)) as source, Background() as reader:
        source.check_resizable()
        digest = reader.submit(source.sha256)
        check_source(plan, digest.result())
        in_data = plan.external if external is None else external
        made = planning(source, analyse(source.model()), digest, in_data).plan
        source.check_unchanged()
        return made


@surviving()
def replay(
    model: PathOrName,
    plan: Plan,
    output: PathOrName,
    *,
    plan_file: PathOrName | None = None,
    calibration: PathOrName | None = None,
    force: bool = False,
    external: bool | None = None,
    unproven: bool = False,
    device: str = "auto",
    allow_nonfinite: bool = False,
    against: bool = True,
    inputs: InputsLike | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Carry out a saved plan: under the name of the run that made it, the output has the same bytes.

    The edits are those of the plan. The source is analysed anew, and each of them is held against what the plan's own
    request makes of it, which is what is proven.

    Args:
        model: path of the source that the plan was made of.
        plan: from :meth:`Plan.from_json`.
        plan_file: where it lies, which is never written to.
        calibration: the samples that the plan was made with, where it was.
        external: store the weights beside the model; None: as the plan does.
        unproven: take a factor or an epsilon that was changed in the plan as it is; nothing is promised then.
        output, force, device, allow_nonfinite, against, inputs, input_shapes, progress: see :func:`resize`.

    Raises:
        PlanError: the source is another one, or the plan says what its request does not make of it, or the weights came
            out otherwise than in the run that made it. BotError: see :func:`resize`.
    """
    run = Run(
        model,
        Path(output),
        force,
        plan.external if external is None else external,
        device,
        allow_nonfinite,
        against,
        plan.request.requantize,
        _given_again(plan, inputs, input_shapes),
        tuple(files_among(plan_file, calibration)),
        progress,
        plan,
    )
    return result_of(run.carried_out(_planning(plan, calibration, unproven, inputs, Path(output).name)), output)


def _planning(
    stored: Plan, calibration: PathOrName | None, unproven: bool, inputs: InputsLike | None, name: str
) -> Planning:
    """How a saved plan is planned again; refuses at once what can be told of the arguments."""
    if stored.request.inputs and inputs is None:
        raise PlanError("the plan was made on given inputs: give --inputs as it was then")

    def planning(source: Source, analysis: Analysis, digest: Future[str], in_data: bool) -> Prepared:
        origin = Origin(str(source.path), digest.result(), source.size_bytes)
        refuse_quantised(analysis, str(source.path))
        samples = None if calibration is None else samples_for(analysis.model, Path(calibration))
        return planned_again(analysis, stored, origin, samples=samples, unproven=unproven, external=in_data, name=name)

    return planning


def _given_again(
    stored: Plan, inputs: InputsLike | None, input_shapes: Mapping[str, Sequence[int]] | None
) -> Given | None:
    return as_given(inputs, input_shapes or stored.request.input_shapes)
