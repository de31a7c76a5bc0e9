"""Train the operators of a plan, and make its weights of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._align import align
from bot_onnx._learn.distil import Distillation
from bot_onnx._learn.materialise import Materialiser
from bot_onnx._learn.starts import MethodStarts
from bot_onnx._learn.types import Learned
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._progress import stage, step
from bot_onnx._recover.data import DataOptions
from bot_onnx._recover.extras import torch
from bot_onnx._recover.training import LARGEST_NORM, rate_at
from bot_onnx._recover.types import Settings
from bot_onnx._request import Learning
from bot_onnx._resample import MethodOptions
from bot_onnx._structure import Role
from bot_onnx._surgery.planner import Prepared
from bot_onnx._surgery.types import Plan, StackPlan
from bot_onnx.errors import RecoverError

Array = NDArray[Any]


def learn(
    prepared: Prepared,
    options: MethodOptions,
    asked: Learning,
    base: Mapping[str, Array],
    start: Path,
    source: Path,
    given: Given | None = None,
) -> tuple[dict[str, Array], Learned]:
    """Train the operators of a plan.

    Args:
        prepared: the plan and the source's tensors. options: of its method.
        asked: how long and on what.
        base: the method's own result, by tensor name.
        start: a file that holds it. source: the file that it was made from.
        given: what both run on.

    Returns:
        Every tensor of the target by name, and what was done.

    Raises:
        RecoverError, DataError, ResampleError: the plan cannot be learned; the message says why.
        MissingRuntimeError: the extra ``recover`` is not installed.
    """
    plan = prepared.plan
    _check_tokens(plan)
    stage("converting the start to PyTorch")
    settings = Settings(
        steps=max(asked.steps, 1), batch=asked.batch, rate=asked.rate, seed=plan.seed, held_out=asked.held_out,
        device="cpu", precision="fp32",
    )  # fmt: skip
    reading = DataOptions(**dict(asked.reading or {}))
    with open_model(start, given=given) as first, open_model(source, given=given) as teacher:
        distillation = Distillation(first, teacher, Path(asked.data), reading, settings)
        structure = prepared.alignment.structure
        inside = {s.id: s.chain for s in structure.stacks if s.chain is not None and not s.shared}
        made = Materialiser(
            plan.stacks,
            {dim.id: (dim.source, dim.target) for dim in plan.dims},
            {stack: chain for stack, chain in inside.items() if chain is not None},
            align(prepared.alignment, prepared.tensors),
            MethodStarts(plan.method, options, plan.seed),
            base,
            distillation.shapes,
            mix=asked.mix,
        )
        losses = _train(made, distillation, asked)
    with torch().no_grad():
        weights = {name: np.array(tensor.numpy()) for name, tensor in made.weights().items()}
    twins = _twins(plan.stacks, weights)
    followed = {name: base[name].size for name in (*weights, *twins)}
    tensors = {name: array.astype(base[name].dtype, copy=False) for name, array in {**base, **weights, **twins}.items()}
    return tensors, _report(made, distillation, losses, followed, len(base))


def _check_tokens(plan: Plan) -> None:
    """Refuse a smaller vocabulary: both networks run on the same tokens.

    Raises:
        RecoverError: tokens go.
    """
    for dim in plan.dims:
        if dim.role == Role.VOCAB and dim.target < dim.source:
            raise RecoverError(
                f"--learn: dim {dim.name!r} goes from {dim.source:,} to {dim.target:,} tokens, and the source answers "
                "with all of them: learn the operators first, and cut the vocabulary of what comes out"
            )


def _train(made: Materialiser, distillation: Distillation, asked: Learning) -> list[float]:
    """AdamW without decay, warm-up and cosine as in a recovery; the loss of every step."""
    library = torch()
    parameters = [*made.operators.named().values(), *distillation.maps]
    optimiser = library.optim.AdamW(parameters, lr=asked.rate, weight_decay=0.0)
    losses: list[float] = []
    for number in range(asked.steps):
        loss = distillation.loss(number, made.weights())
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise RecoverError(
                f"the loss is {losses[-1]} at step {number + 1} of --learn: take a lower --learn-rate than "
                f"{asked.rate:g}, and look at the data"
            )
        for group in optimiser.param_groups:
            group["lr"] = asked.rate * rate_at(number, asked.steps)
        optimiser.zero_grad()
        loss.backward()
        library.nn.utils.clip_grad_norm_(parameters, LARGEST_NORM)
        optimiser.step()
        step(f"learning, loss {losses[-1]:.4f}", number + 1, asked.steps)
    return losses


def _twins(stacks: Sequence[StackPlan], weights: Mapping[str, Array]) -> dict[str, Array]:
    """Transposes of learned tensors."""
    targets = {stack.task.stack: stack.targets for stack in stacks}
    pairs = ((stack.targets[0], targets[stack.twin_of][0]) for stack in stacks if stack.twin_of is not None)
    return {twin: np.ascontiguousarray(weights[name].T) for twin, name in pairs if name in weights}


def _report(
    made: Materialiser, distillation: Distillation, losses: Sequence[float], followed: Mapping[str, int], tensors: int
) -> Learned:
    operators = made.operators.named()
    last = losses[-max(1, len(losses) // 10) :]
    return Learned(
        steps=len(losses),
        samples=distillation.samples,
        loss=(losses[0], float(np.mean(last))) if losses else None,
        operators=len(operators),
        parameters=sum(parameter.numel() for parameter in operators.values()),
        tensors=len(followed),
        weights=sum(followed.values()),
        as_planned=tensors - len(followed),
        kept=len(made.kept),
        notes=distillation.notes,
    )
