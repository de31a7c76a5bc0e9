"""Run a saved plan again: its source is looked at anew, its edits are proven and carried out."""

from __future__ import annotations

from dataclasses import replace

from bot_onnx._align import Gradients
from bot_onnx._analysis.passes import Analysis
from bot_onnx._proof.promise import Way
from bot_onnx._proof.settle import settle
from bot_onnx._resample import make_options
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._shards import External
from bot_onnx._surgery.held import check_same
from bot_onnx._surgery.more_heads import with_key_heads
from bot_onnx._surgery.planner import Origin, Prepared, check_exact, prepare
from bot_onnx._surgery.types import Plan
from bot_onnx._target import TargetSpec
from bot_onnx.errors import PlanError


def planned_again(
    analysis: Analysis,
    stored: Plan,
    origin: Origin,
    *,
    samples: Samples | None,
    gradients: Gradients | None,
    unproven: bool,
    external: External,
    name: str,
) -> Prepared:
    """What a saved plan leads to.

    Its edits are carried out as it has them, once they are found to be those that its request makes of the source;
    operators that it does not hold (of alignments) are computed of the source's weights.

    Args:
        analysis: of the source.
        stored: the plan.
        origin: of the source, see :func:`check_source`.
        samples: that the alignment or the choice of layers looks at, where the plan was made with them.
        gradients: who takes them, where units are chosen by them.
        unproven: take numbers that were changed in the plan as they are.
        external: weights go to a file beside the model, or to several. name: file name of the output.

    Raises:
        PlanError: the plan is of another source or other samples, or says something else than its request makes.
        BotError: its request is no longer granted.
    """
    request = stored.asked
    digest = None if samples is None else samples.digest()
    if digest != request.calibration_sha256:
        wanted = "other samples" if samples and request.calibration_sha256 else "samples" if digest is None else "none"
        raise PlanError(
            f"the plan was made with {wanted} to look at: give --calibration (in Python: calibration) as it was then"
        )
    spec = TargetSpec.model_validate(request.spec, context={"where": "the plan's request"})
    options = make_options(stored.method, **stored.options)
    analysis = with_key_heads(analysis, spec)
    settled = settle(analysis, spec, Way(stored.method, options, stored.seed), unproven=request.unproven)
    prepared = prepare(
        analysis,
        spec,
        settled,
        origin,
        method=stored.method,
        options=options,
        seed=stored.seed,
        external=external,
        align=request.align,
        samples=samples,
        gradients=gradients,
        name=name,
        asked=replace(request, unproven=unproven or request.unproven),
        stored=stored,
    )
    check_exact(prepared)
    made = replace(prepared.plan, asked=replace(prepared.plan.asked, unproven=request.unproven))
    check_same(stored, made, changed=bool(prepared.changed))
    prepared.plan = replace(made, weights_sha256=stored.weights_sha256, device=stored.device)
    return prepared


def check_source(stored: Plan, sha256: str) -> None:
    """Refuse a source that the plan is not of.

    Raises:
        PlanError: gives both hashes.
    """
    if sha256 != stored.source_sha256:
        raise PlanError(
            f"the plan is of another source: SHA-256 {stored.source_sha256[:12]}…, and this one has {sha256[:12]}…; "
            "give the model that it was made of, or plan anew"
        )
