"""Find a small representative of every family of a model library: what the sweeps are made of.

``python -m benchmarks.coverage.survey timm`` (or ``transformers``) builds candidates and writes
``benchmarks/coverage/cases/<library>_families.json``, which the cases read without importing the library.
"""
