"""Ops that take axes away: sums, means, extremes, and choices along an axis."""

from __future__ import annotations

from bot_onnx._ops.record import MICROSOFT, Axes, Reduction
from bot_onnx._ops.registry import Traits, register

_REDUCED: Traits = {"axes": Axes.REDUCED}

register("ReduceMean", **_REDUCED, reduction=Reduction("mean", counts=False))
register("ReduceSum", **_REDUCED, reduction=Reduction("sum"), shapes=True)
register("ReduceSumSquare", **_REDUCED, reduction=Reduction("squares"), positive=True)
register("ReduceL2", **_REDUCED, reduction=Reduction("norm"), positive=True)
register("ReduceMax ReduceMin", **_REDUCED, reduction=Reduction("extreme", counts=False), shapes=True)
register("ReduceProd", **_REDUCED, reduction=Reduction("other"), shapes=True)
register("ReduceL1", **_REDUCED, reduction=Reduction("other"), positive=True)
register("ReduceLogSum ReduceLogSumExp", **_REDUCED, reduction=Reduction("other"))
register("ArgMax ArgMin", **_REDUCED, chooses=0, ordered=True)

register("GlobalAveragePool", reduction=Reduction("mean", counts=False, spatial=True))
register("GlobalMaxPool", reduction=Reduction("extreme", counts=False, spatial=True))
register("GlobalLpPool", reduction=Reduction("other", spatial=True))

register("ReduceSumInteger", domains=(MICROSOFT,))
register("Det")
register("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss")
