"""The small trained model that ships with bot-onnx, and the held-out images to judge it and its resized copies by.

Import from here: ``HeldOut``, ``accuracy``, ``held_out``, ``model_bytes``, ``model_file``.
``benchmarks/train_digits_vit.py`` makes both data files.
"""

from bot_onnx.demo.data import HeldOut, accuracy, held_out, model_bytes, model_file

__all__ = ["HeldOut", "accuracy", "held_out", "model_bytes", "model_file"]
