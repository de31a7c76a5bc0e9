"""Proofs: that the sizes of a plan make a network of the same kind, shown on a miniature before anything is written."""

from bot_onnx._proof.promise import Way
from bot_onnx._proof.settle import settle

__all__ = ["Way", "settle"]
