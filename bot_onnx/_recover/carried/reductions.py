"""Ops that reduce axes, softmaxes among them."""

from __future__ import annotations

from typing import Any

from bot_onnx._recover.carried.registry import Call, Step, carries
from bot_onnx._recover.extras import torch


@carries("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", numbered=True)
@carries("ReduceL1", "ReduceL2", "ReduceSumSquare", numbered=True)
def _reduction(step: Step) -> Call:
    library = torch()
    axes = step.numbers(1, "axes")
    keep = bool(step.attributes.get("keepdims", 1))
    nothing = not axes and bool(step.attributes.get("noop_with_empty_axes", 0))
    known: Any = {
        "mean": library.mean,
        "sum": library.sum,
        "max": library.amax,
        "min": library.amin,
        "l1": lambda x, dim, keepdim: x.abs().sum(dim, keepdim),
        "l2": lambda x, dim, keepdim: library.linalg.vector_norm(x, dim=dim, keepdim=keepdim),
        "sumsquare": lambda x, dim, keepdim: x.square().sum(dim, keepdim),
    }[step.op.removeprefix("Reduce").lower()]
    if nothing:
        return lambda x, *_: x
    return lambda x, *_: known(x, dim=axes or tuple(range(x.dim())), keepdim=keep)


@carries("ArgMax", "ArgMin")
def _place(step: Step) -> Call:
    step.expect(select_last_index=0)
    function, axis = getattr(torch(), step.op.lower()), int(step.attributes.get("axis", 0))
    keep = bool(step.attributes.get("keepdims", 1))
    return lambda x: function(x, dim=axis, keepdim=keep)


@carries("Softmax", "LogSoftmax")
def _softmax(step: Step) -> Call:
    function = torch().softmax if step.op == "Softmax" else torch().log_softmax
    axis = int(step.attributes.get("axis", -1 if step.opset >= 13 else 1))
    if step.opset >= 13 or axis == -1:
        return lambda x: function(x, axis)

    def coerced(x: Any) -> Any:
        """Over all axes from one on, as before opset 13."""
        return function(x.flatten(axis % x.dim()), -1).reshape(x.shape)

    return coerced
