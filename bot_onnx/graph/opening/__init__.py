"""Rewrites that bring a file's form (fused ops, packed weights) back to the network that was exported."""

from bot_onnx.graph.opening.fused import open_fused

__all__ = ["open_fused"]
