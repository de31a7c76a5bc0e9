"""Normalisations: over the last axes, over the positions of a channel, over groups of channels."""

from __future__ import annotations

from bot_onnx._ops.record import MICROSOFT, Norm, Slot
from bot_onnx._ops.registry import register

_PARAMETERS = {1: Slot.SCALE, 2: Slot.SHIFT}

register("LayerNormalization", norm=Norm("trailing"), slots=_PARAMETERS, leaves=True)
register("RMSNormalization", norm=Norm("trailing", centred=False), slots={1: Slot.SCALE}, leaves=True)
register("InstanceNormalization", norm=Norm("space"), slots=_PARAMETERS, leaves=True)
register("GroupNormalization", norm=Norm("groups", groups="num_groups"), slots=_PARAMETERS, leaves=True)
register(
    "BatchNormalization",
    norm=Norm("batch"),
    slots={**_PARAMETERS, 3: Slot.MEAN, 4: Slot.VARIANCE},
    leaves=True,
)

# onnxruntime's optimiser writes these two in ONNX's domain; reading moves them to where they belong.
register("LayerNormalization", domains=(MICROSOFT,), norm=Norm("trailing"), slots=_PARAMETERS)
register(
    "SimplifiedLayerNormalization",
    domains=("", MICROSOFT),
    norm=Norm("trailing", centred=False),
    slots={1: Slot.SCALE},
)
register("GroupNorm", domains=(MICROSOFT,), norm=Norm("groups", groups="groups"), slots=_PARAMETERS)

# A sum first: decomposed before anything is recognised.
register("SkipLayerNormalization", domains=(MICROSOFT,), slots={2: Slot.SCALE, 3: Slot.SHIFT, 4: Slot.BIAS})
register("SkipSimplifiedLayerNormalization", domains=(MICROSOFT,), slots={2: Slot.SCALE, 3: Slot.BIAS})
register("EmbedLayerNormalization", domains=(MICROSOFT,), slots={5: Slot.SCALE, 6: Slot.SHIFT})
register("SkipGroupNorm GatedRMSNorm BranchwiseRMSNorm RMSNormRotary", domains=(MICROSOFT,))
