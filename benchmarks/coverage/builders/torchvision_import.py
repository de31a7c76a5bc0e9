"""torchvision for the builders; no network of the benchmark calls the operators that it may lack."""

from bot_onnx._recover.extras import import_torchvision

__all__ = ["import_torchvision"]
