"""Recurrent layers: gates lie packed along one axis, a state runs from step to step."""

from __future__ import annotations

from bot_onnx._ops import costs
from bot_onnx._ops.record import MICROSOFT, Slot
from bot_onnx._ops.registry import register

#: Input slots: weights of the input, weights of the state, biases of both, initial states, peepholes.
INPUT_WEIGHT, STATE_WEIGHT, BIAS, LENGTHS, STATE, CELL, PEEPHOLES = 1, 2, 3, 4, 5, 6, 7

_WEIGHTS = {1: Slot.WEIGHT, 2: Slot.WEIGHT, 3: Slot.BIAS, 4: Slot.LENGTHS, 5: Slot.STATE}

register("LSTM", gates=4, slots={**_WEIGHTS, 6: Slot.STATE, 7: Slot.GATES}, macs=costs.recurrent)
register("GRU", gates=3, slots=_WEIGHTS, macs=costs.recurrent)
register("RNN", gates=1, slots=_WEIGHTS, macs=costs.recurrent)
register("AttnLSTM", domains=(MICROSOFT,))
