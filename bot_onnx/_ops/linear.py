"""Linear maps: products of matrices, convolutions, and what fuses them with something else."""

from __future__ import annotations

from bot_onnx._ops import costs
from bot_onnx._ops.record import MICROSOFT, Linear, Slot
from bot_onnx._ops.registry import register

_MATRIX = {1: Slot.WEIGHT}
_BIASED = {1: Slot.WEIGHT, 2: Slot.BIAS}

register("MatMul", linear=Linear("product"), slots=_MATRIX, leaves=True, macs=costs.product())
register(
    "FusedMatMul TransposeMatMul",
    domains=(MICROSOFT,),
    linear=Linear("product", flips=("transA", "transB")),
    slots=_MATRIX,
    macs=costs.product("transA"),
)
register(
    "Gemm",
    linear=Linear("product", flips=("transA", "transB")),
    slots=_BIASED,
    leaves=True,
    macs=costs.product("transA"),
)
register("Einsum", linear=Linear("letters", factors=0), macs=costs.letters)
register(
    "Conv",
    linear=Linear("kernel", contracted=1, operands=False),
    slots=_BIASED,
    leaves=True,
    macs=costs.kernel(),
)
register(
    "ConvTranspose",
    linear=Linear("kernel", contracted=0, operands=False),
    slots=_BIASED,
    leaves=True,
    macs=costs.kernel(transposed=True),
)
register("DeformConv", slots={1: Slot.WEIGHT, 3: Slot.BIAS}, macs=costs.kernel())

_EXPERTS = {2: Slot.WEIGHT, 3: Slot.BIAS, 4: Slot.WEIGHT, 5: Slot.BIAS, 6: Slot.WEIGHT, 7: Slot.BIAS}
register("MoE", domains=(MICROSOFT,), slots=_EXPERTS, experts=1, macs=costs.experts)

# Decomposed before anything is recognised, or run alone to see what they do.
register("FusedGemm GemmFastGelu", domains=(MICROSOFT,), slots=_BIASED, macs=costs.product("transA"))
register("FusedConv", domains=(MICROSOFT,), slots=_BIASED, macs=costs.kernel())
register("FusedMatMulActivation NhwcConv NhwcFusedConv SparseToDenseMatMul GemmFloat8", domains=(MICROSOFT,))
register("ConvTransposeWithDynamicPads MatMulPacked", domains=(MICROSOFT,))
