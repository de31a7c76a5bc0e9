"""Linear maps: products of matrices, convolutions, and what fuses them with something else."""

from __future__ import annotations

from bot_onnx._ops.record import MICROSOFT, Linear, Slot
from bot_onnx._ops.registry import register

_MATRIX = {1: Slot.WEIGHT}
_BIASED = {1: Slot.WEIGHT, 2: Slot.BIAS}

register("MatMul", linear=Linear("product"), slots=_MATRIX, leaves=True)
register(
    "FusedMatMul TransposeMatMul",
    domains=(MICROSOFT,),
    linear=Linear("product", flips=("transA", "transB")),
    slots=_MATRIX,
)
register("Gemm", linear=Linear("product", flips=("transA", "transB")), slots=_BIASED, leaves=True)
register("Einsum", linear=Linear("letters", factors=0))
register("Conv", linear=Linear("kernel", contracted=1, operands=False), slots=_BIASED, leaves=True)
register("ConvTranspose", linear=Linear("kernel", contracted=0, operands=False), slots=_BIASED, leaves=True)
register("DeformConv", slots={1: Slot.WEIGHT, 3: Slot.BIAS})

_EXPERTS = {2: Slot.WEIGHT, 3: Slot.BIAS, 4: Slot.WEIGHT, 5: Slot.BIAS, 6: Slot.WEIGHT, 7: Slot.BIAS}
register("MoE", domains=(MICROSOFT,), slots=_EXPERTS, experts=1)

# Opened before anything is recognised, or run alone to see what they do.
register("FusedGemm GemmFastGelu FusedConv", domains=(MICROSOFT,), slots=_BIASED)
register("FusedMatMulActivation NhwcConv NhwcFusedConv SparseToDenseMatMul GemmFloat8", domains=(MICROSOFT,))
register("ConvTransposeWithDynamicPads MatMulPacked", domains=(MICROSOFT,))
