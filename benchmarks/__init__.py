"""Benchmarks and the training of the demo model; not installed with the package, run from a source checkout.

Tests may import ``benchmarks.synthetic``; nothing in ``bot_onnx`` imports from here.
"""
