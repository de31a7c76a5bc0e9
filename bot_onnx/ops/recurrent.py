"""Recurrent layers: gates lie packed along one axis, a state runs from step to step."""

from __future__ import annotations

from bot_onnx.ops.record import MICROSOFT, Slot
from bot_onnx.ops.registry import register

_WEIGHTS = {1: Slot.WEIGHT, 2: Slot.WEIGHT, 3: Slot.BIAS, 4: Slot.LENGTHS, 5: Slot.STATE}

register("LSTM", gates=4, slots={**_WEIGHTS, 6: Slot.STATE, 7: Slot.GATES})
register("GRU", gates=3, slots=_WEIGHTS)
register("RNN", gates=1, slots=_WEIGHTS)
register("AttnLSTM", domains=(MICROSOFT,))
