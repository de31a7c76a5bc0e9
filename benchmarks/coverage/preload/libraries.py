"""Load PyTorch and transformers."""

from benchmarks.coverage.builders.torchvision_import import import_torchvision
from benchmarks.coverage.exporting import quiet

with quiet():
    import_torchvision()
    import onnxscript
    import torch
    import transformers
    from transformers import AutoModel

__all__ = ["AutoModel", "onnxscript", "torch", "transformers"]
