"""The request that a saved plan stands for."""

from __future__ import annotations

from dataclasses import fields, replace

from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._request import LeftOpen, ResizeRequest
from bot_onnx._surgery.types import Plan
from bot_onnx._target import TargetSpec
from bot_onnx.errors import PlanError


def asked_again(plan: Plan, opened_on: Given | None, left: LeftOpen) -> tuple[ResizeRequest, TargetSpec]:
    """What a saved plan asks for, with what it leaves open.

    Args:
        plan: the plan. left: what it leaves open.
        opened_on: what the model was opened with, to run on.

    Returns:
        The request, and its target.

    Raises:
        PlanError: it was made on arrays, and there are none.
        SpecError: the target that it holds is none.
    """
    asked = plan.asked
    if asked.learned is not None:
        raise PlanError(
            "the plan's operators are learned, and a plan holds the settings of their training, not what it came to: "
            "resize with --learn and the same data, options and seed again (in Python: learn), which gives the same "
            "weights"
        )
    if asked.inputs and left.inputs is None and (opened_on is None or not opened_on.arrays):
        raise PlanError("the plan was made on given inputs: give --inputs (in Python: inputs) as it was then")
    if asked.input_shapes and not left.input_shapes and (opened_on is None or not opened_on.shapes):
        arrays = None if opened_on is None else opened_on.arrays or None
        left = replace(left, input_shapes=asked.input_shapes, inputs=arrays if left.inputs is None else left.inputs)
    left = replace(left, external=plan.external if left.external is None else left.external)
    target = TargetSpec.model_validate(asked.spec, context={"where": "the plan's request"})
    request = ResizeRequest(
        target, method=plan.method, options=plan.options, seed=plan.seed, align=asked.align,
        requantize=asked.requantize, **{entry.name: getattr(left, entry.name) for entry in fields(left)},
    )  # fmt: skip
    return request, target
