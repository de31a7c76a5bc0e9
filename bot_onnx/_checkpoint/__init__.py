"""Weights between a graph and the framework it came from: which initializer is which entry of the state dict."""
