"""Builders of networks: the only modules here that import PyTorch and the model libraries."""
