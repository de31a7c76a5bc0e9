"""Layers that take turns in what they read from outside: local and global masks, tables of two rotary bases."""

from __future__ import annotations

from bot_onnx._patterns.layers import LayerChain


def turn_length(chain: LayerChain) -> int | None:
    """After how many layers the values that the layers read from outside are the same again; None: never."""
    outside = [[id(value) for value in layer.outside] for layer in chain.layers]
    for distance in range(1, len(outside)):
        if outside[distance:] == outside[:-distance]:
            return distance
    return None
