"""Sizes for a budget: which depth and width of a network a device has room and time for."""

from bot_onnx._fit.budget import Budget
from bot_onnx._fit.job import fit
from bot_onnx._fit.types import Candidate, Fit, Original

__all__ = ["Budget", "Candidate", "Fit", "Original", "fit"]
