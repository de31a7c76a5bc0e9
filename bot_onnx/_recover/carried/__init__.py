"""ONNX ops as functions of PyTorch, with attributes and constants resolved once.

An op that is not here, or an attribute that its function does not know, is :class:`Uncarried`.
"""

from bot_onnx._recover.carried import elementwise, layers, moves, reductions
from bot_onnx._recover.carried.registry import Call, Step, Uncarried, built, tensor_slots

__all__ = ["Call", "Step", "Uncarried", "built", "elementwise", "layers", "moves", "reductions", "tensor_slots"]
