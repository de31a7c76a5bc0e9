"""What a network costs: parameters, bytes of weights, multiply-accumulates, at its own sizes and at others."""

from bot_onnx._costs.sizing import Sizing, sizing_of
from bot_onnx._costs.types import OUTSIDE, Cost, Costs

__all__ = ["OUTSIDE", "Cost", "Costs", "Sizing", "sizing_of"]
