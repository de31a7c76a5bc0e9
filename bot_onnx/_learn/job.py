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
from bot_onnx._surgery.planner import Prepared
from bot_onnx._surgery.types import StackPlan
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
    stage("converting the start to PyTorch")
    plan = prepared.plan
    settings = Settings(
        steps=max(asked.steps, 1), batch=asked.batch, rate=asked.rate, seed=plan.seed, held_out=asked.held_out
    )
    with open_model(start, given=given) as first, open_model(source, given=given) as teacher:
        distillation = Distillation(first, teacher, Path(asked.data), data_options(asked), settings)
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
    return _whole(plan.stacks, base, weights), _report(made, distillation, losses, base)


def data_options(asked: Learning) -> DataOptions:
    """How the data are read."""
    given = dict(asked.reading or {})
    return DataOptions(**given)


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


def _whole(stacks: Sequence[StackPlan], base: Mapping[str, Array], weights: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors: the learned ones, their transposes, the rest as the method makes it."""
    found = {**base, **weights}
    by_stack = {stack.task.stack: stack for stack in stacks}
    for stack in stacks:
        if stack.twin_of is not None:
            original = by_stack[stack.twin_of].targets[0]
            if original in weights:
                found[stack.targets[0]] = np.ascontiguousarray(weights[original].T)
    return {name: array.astype(base[name].dtype, copy=False) for name, array in found.items()}


def _report(
    made: Materialiser, distillation: Distillation, losses: Sequence[float], base: Mapping[str, Array]
) -> Learned:
    operators = made.operators.named()
    last = losses[-max(1, len(losses) // 10) :]
    return Learned(
        steps=len(losses),
        samples=distillation.samples,
        loss=(losses[0], float(np.mean(last))) if losses else None,
        operators=len(operators),
        parameters=sum(parameter.numel() for parameter in operators.values()),
        tensors=len(made.names),
        weights=sum(base[name].size for name in made.names),
        as_planned=len(base) - len(made.names),
        kept=len(made.kept),
        notes=distillation.notes,
    )
