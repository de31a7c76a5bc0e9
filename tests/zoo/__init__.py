"""A zoo of tiny random transformers, built natively at any size and exported to ONNX as users export theirs.

Import ``Size``, ``TARGETS``, ``base_size`` and ``build`` from ``architectures``, ``cached_export`` from ``export``,
and the trained models from ``real``. Importing these modules costs nothing: PyTorch loads when a model is built.
"""
