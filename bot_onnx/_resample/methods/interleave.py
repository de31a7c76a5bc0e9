"""Interlaced stacking: a deeper network repeats every layer where it stands, W'_k = W_⌊k·L/L'⌋.

Three layers grow to six as 0 0 1 1 2 2. Width stays as it is.
"""

from __future__ import annotations

from bot_onnx._resample.depth import LayerAxis
from bot_onnx._resample.layered import LayeredMethod
from bot_onnx._resample.registry import MethodOptions


class InterleaveOptions(MethodOptions):
    """Method ``interleave`` has no options."""


class Interleave(LayeredMethod[InterleaveOptions]):
    """Copies of layers."""

    name = "interleave"
    title = "interlaced stacking: every layer repeated in place"
    reference = "Gong et al., ICML 2019, interlaced; Chang et al., 'Multi-level Residual Networks', ICLR 2018"
    direction = "grow"
    promises = ("exact-size", "deterministic", "values are the source's own")
    Options = InterleaveOptions
    only_depth = "use 'bot --layer-axis interleave', which resizes the width too"
    way_out = "to shrink use method 'bot' or 'ws'"

    def layer_mode(self, options: InterleaveOptions) -> LayerAxis:
        """The method itself."""
        return "interleave"


METHOD = Interleave()
