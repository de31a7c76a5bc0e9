"""Ops that move numbers: changes of form, cuts and joins, lookups."""

from __future__ import annotations

from bot_onnx._ops.record import MICROSOFT, Axes, Move, Slot
from bot_onnx._ops.registry import register

# -- every element once ------------------------------------------------------------------------------------------------

register("Identity", axes=Axes.BROADCAST, unary=True, moves=Move.KEPT, alike=True, shapes=True)
register("Dropout", axes=Axes.FIRST, moves=Move.KEPT, training=2)
register("BitmaskDropout", domains=(MICROSOFT,), moves=Move.KEPT, training=2)
register("Cast", axes=Axes.BROADCAST, unary=True, moves=Move.CAST, shapes=True)
register("CastLike", axes=Axes.FIRST, moves=Move.CAST, shapes=True)
register("BitCast", keeps_shape=True)  # other numbers of the same bits
register("Reshape", moves=Move.RESHAPED, alike=True, shapes=True, slots={1: Slot.SIZES})
register("Unsqueeze Squeeze", moves=Move.RESHAPED, alike=True, shapes=True, slots={1: Slot.SETTING})
register("Flatten", moves=Move.RESHAPED, alike=True)
register("ExpandDims", domains=(MICROSOFT,), moves=Move.RESHAPED, alike=True)
register("Transpose", moves=Move.TURNED, alike=True, shapes=True)

# -- some of them, or several times ------------------------------------------------------------------------------------

register("Slice", moves=Move.CUT, alike=True, shapes=True)
register("Split", moves=Move.CUT, alike=True, shapes=True, slots={1: Slot.PARTS})
register("Gather", moves=Move.PICKED, alike=True, shapes=True, slots={0: Slot.TABLE, 1: Slot.INDEX}, leaves=True)
register("GatherND", moves=Move.PICKED, alike=True, slots={1: Slot.INDEX})
register("GatherND", domains=(MICROSOFT,), moves=Move.PICKED, slots={1: Slot.INDEX})
register("GatherElements", moves=Move.PICKED | Move.SHUFFLED, slots={1: Slot.INDEX})
register("Compress", moves=Move.PICKED)
register("Expand", moves=Move.REPEATED, alike=True, shapes=True, slots={1: Slot.SIZES})
register("Tile", moves=Move.REPEATED, alike=True, shapes=True)
register("ReverseSequence", moves=Move.SHUFFLED, ordered=True, slots={1: Slot.LENGTHS})
register("DepthToSpace SpaceToDepth", moves=Move.SHUFFLED, alike=True)
register("Pad", moves=Move.PADDED)
register("Pad", domains=(MICROSOFT,), moves=Move.PADDED)
register("CenterCropPad", moves=Move.PADDED | Move.CUT)
register("Resize", moves=Move.RESIZED, alike=True, slots={1: Slot.SETTING, 2: Slot.SETTING, 3: Slot.SETTING})
register("Upsample", moves=Move.RESIZED, slots={1: Slot.SETTING})

# -- of several inputs -------------------------------------------------------------------------------------------------

register("Concat", variadic=True, moves=Move.JOINED, alike=True, shapes=True)
register(
    "Where", axes=Axes.BROADCAST, data=(1, 2), moves=Move.CHOSEN, alike=True, shapes=True,
    whole=lambda chosen, a, b: a if chosen else b,
)  # fmt: skip

# -- others that address by position -----------------------------------------------------------------------------------

register("Scatter ScatterElements ScatterND", slots={1: Slot.INDEX}, keeps_shape=True)
register("TensorScatter", slots={2: Slot.INDEX}, keeps_shape=True)
register("TopK", chooses=-1)
register("Unique NonZero NonMaxSuppression")
register("Unique", domains=(MICROSOFT,))
register("Col2Im")
register("GatherPacked RemovePadding RestorePadding NGramRepeatBlock", domains=(MICROSOFT,))
register("UnfoldTensor TorchEmbedding WordConvEmbedding", domains=(MICROSOFT,))
