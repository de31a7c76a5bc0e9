"""Ops that make tensors from sizes: shapes, ranges, constants, random numbers, windows."""

from __future__ import annotations

from bot_onnx._ops.record import MICROSOFT, Slot
from bot_onnx._ops.registry import register

register("Shape Size", measures=True, shapes=True)
register("Constant")
register("ConstantOfShape", fills=True, shapes=True)
register("Range", ordered=True, shapes=True)
register("Range", domains=(MICROSOFT,), ordered=True)
register("OneHot", shapes=True, slots={2: Slot.SETTING})
register("EyeLike", measures=True, ordered=True, keeps_shape=True)
register("RandomNormal RandomUniform", random=True, ordered=True)
register("RandomNormalLike RandomUniformLike", random=True, ordered=True, measures=True, keeps_shape=True)
register("Bernoulli", random=True, ordered=True, keeps_shape=True)
register("Multinomial", random=True, ordered=True)
register("BlackmanWindow HammingWindow HannWindow MelWeightMatrix")
