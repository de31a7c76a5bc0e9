"""Ops that are a whole attention, or turn queries and keys by their positions."""

from __future__ import annotations

from bot_onnx._ops import costs
from bot_onnx._ops.record import MICROSOFT, Linear, Slot
from bot_onnx._ops.registry import register

_OURS = (MICROSOFT,)

register("Attention", attention=True, slots={3: Slot.MASK, 4: Slot.PAST, 5: Slot.PAST}, macs=costs.scores(past=4))
register(
    "Attention",
    domains=_OURS,
    attention=True,
    linear=Linear("attention", contracted=0, operands=False),
    slots={1: Slot.WEIGHT, 2: Slot.BIAS, 3: Slot.MASK, 4: Slot.PAST},
    macs=costs.projected,
)
register(
    "MultiHeadAttention",
    domains=_OURS,
    attention=True,
    slots={3: Slot.BIAS, 4: Slot.MASK, 6: Slot.PAST, 7: Slot.PAST},
    macs=costs.packed_or_scores,
)
register(
    "GroupQueryAttention",
    domains=_OURS,
    attention=True,
    slots={
        3: Slot.PAST, 4: Slot.PAST, 5: Slot.LENGTHS, 6: Slot.LENGTHS, 7: Slot.ROTATION, 8: Slot.ROTATION,
        14: Slot.SCALE, 15: Slot.SCALE,
    },
    macs=costs.grouped,
)  # fmt: skip
register("RotaryEmbedding", slots={1: Slot.ROTATION, 2: Slot.ROTATION, 3: Slot.INDEX})
register("RotaryEmbedding", domains=_OURS, slots={1: Slot.INDEX, 2: Slot.ROTATION, 3: Slot.ROTATION})

# Known by name: run alone to see what they do.
register("LinearAttention", domains=("", MICROSOFT), attention=True)
register(
    "DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DecoderAttention LongformerAttention PackedAttention "
    "PackedMultiHeadAttention PagedAttention SparseAttention",
    domains=_OURS,
    attention=True,
)
register("CausalConvWithState", domains=("", MICROSOFT))
register("RelativePositionBias GatedRelativePositionBias GemmaRotaryEmbedding", domains=_OURS)
