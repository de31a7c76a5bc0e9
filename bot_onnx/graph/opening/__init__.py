"""Rewrites that bring a file's form (fused ops, packed weights) back to the network that was exported."""

from bot_onnx.graph.opening.fused import open_fused
from bot_onnx.graph.opening.quantised import open_quantised
from bot_onnx.graph.opening.scheme import Scheme, read_scheme

__all__ = ["Scheme", "open_fused", "open_quantised", "read_scheme"]
