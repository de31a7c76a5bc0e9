"""Ops on quantised numbers. They are decomposed before anything is recognised: what stays of them is not understood."""

from __future__ import annotations

from bot_onnx._ops import costs
from bot_onnx._ops.record import MICROSOFT, Linear, Move, Packing, Slot
from bot_onnx._ops.registry import register

_OURS = (MICROSOFT,)
_BOTH = ("", MICROSOFT)

# -- to and from packed numbers ----------------------------------------------------------------------------------------

register("QuantizeLinear", domains=_BOTH, keeps_shape=True, packing=Packing("static"))
register("DynamicQuantizeLinear", keeps_shape=True, packing=Packing("dynamic"))
register(
    "DequantizeLinear",
    domains=_BOTH,
    keeps_shape=True,
    moves=Move.UNPACKED,
    slots={1: Slot.FACTOR, 2: Slot.ZERO_POINT},
    packing=Packing("weights", meant=(0,), packs=("Gather",), zero_point=2),
)

# -- activations quantised at run time ---------------------------------------------------------------------------------

_MATRICES = Linear("product")
_KERNELS = Linear("kernel", contracted=1, operands=False)
register(
    "MatMulInteger",
    packing=Packing("dynamic", packs=("MatMul", "Gemm"), contracts=True, like=_MATRICES, zero_point=3),
    macs=costs.product(),
)
register(
    "ConvInteger",
    packing=Packing("dynamic", packs=("Conv",), contracts=True, like=_KERNELS),
    macs=costs.kernel(),
)
register("QAttention", domains=_OURS, packing=Packing("dynamic", packs=("Attention",), contracts=True))
register("DynamicQuantizeLSTM", domains=_OURS, packing=Packing("dynamic", packs=("LSTM",)), macs=costs.recurrent)
register(
    "DynamicQuantizeMatMul MatMulIntegerToFloat",
    domains=_OURS,
    packing=Packing("dynamic", contracts=True),
    macs=costs.product(),
)

# -- by calibrated scales ----------------------------------------------------------------------------------------------

_TWO = Packing("static", meant=(0, 3))
_PRODUCT = Packing("static", meant=(0, 3), contracts=True)
_ONE = Packing("static", meant=(0,))
register("QLinearMatMul", packing=_PRODUCT, macs=costs.product())
register("QLinearConv", domains=_BOTH, packing=_PRODUCT, macs=costs.kernel(weight=3))
register("QGemm", domains=_OURS, packing=_PRODUCT, macs=costs.product("transA"))
register("QLinearAdd QLinearMul", domains=_OURS, packing=_TWO)
register("QLinearWhere", domains=_OURS, packing=Packing("static", meant=(1, 4)))
register("QLinearConcat", domains=_OURS, packing=Packing("static", every=True))
register(
    "QLinearSigmoid QLinearLeakyRelu QLinearSoftmax QLinearAveragePool QLinearGlobalAveragePool QLinearReduceMean",
    domains=_OURS,
    packing=_ONE,
)

# -- weights alone -----------------------------------------------------------------------------------------------------

register("MatMulNBits", domains=_OURS, packing=Packing("blocks", contracts=True, zero_point=3), macs=costs.product())
register("GatherBlockQuantized", domains=_OURS, packing=Packing("blocks", weight=0, zero_point=3))
register("QEmbedLayerNormalization", domains=_OURS, packing=Packing("weights", packs=("Gather",)))
register("MatMulBnb4", domains=_OURS, packing=Packing("weights", contracts=True), macs=costs.product())
register("MatMulFpQ4", domains=_OURS, packing=Packing("weights", contracts=True), macs=costs.product())
register("QMoE", domains=_OURS, packing=Packing("weights"))
