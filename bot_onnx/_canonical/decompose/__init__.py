"""Rewrites that bring a file's form (fused ops, packed weights) back to the network that was exported."""

from bot_onnx._canonical.decompose.fused import decompose_fused
from bot_onnx._canonical.decompose.quantised import Decomposed, decompose_quantised
from bot_onnx._canonical.decompose.roundings import Grid
from bot_onnx._canonical.decompose.scheme import Scheme, read_scheme
from bot_onnx._canonical.decompose.spelled_out import name_dequantisation
from bot_onnx._canonical.decompose.storage import fold_casts, fold_reshapes, keep_storage, restore_casts, stored_type

__all__ = [
    "Decomposed",
    "Grid",
    "Scheme",
    "decompose_fused",
    "decompose_quantised",
    "fold_casts",
    "fold_reshapes",
    "keep_storage",
    "name_dequantisation",
    "read_scheme",
    "restore_casts",
    "stored_type",
]
