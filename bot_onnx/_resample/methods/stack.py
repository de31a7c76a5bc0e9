"""StackBERT: a deeper network repeats the whole run of layers, W'_k = W_(k mod L).

Three layers grow to six as 0 1 2 0 1 2. Width stays as it is.
"""

from __future__ import annotations

from bot_onnx._resample.depth import LayerAxis
from bot_onnx._resample.layered import LayeredMethod
from bot_onnx._resample.registry import MethodOptions


class StackOptions(MethodOptions):
    """Method ``stack`` has no options."""


class Stack(LayeredMethod[StackOptions]):
    """Copies of layers."""

    name = "stack"
    title = "StackBERT: the whole run of layers repeated"
    reference = "Gong et al., 'Efficient Training of BERT by Progressively Stacking', ICML 2019"
    direction = "grow"
    promises = ("exact-size", "deterministic", "values are the source's own")
    Options = StackOptions
    only_depth = "use 'bot --layer-axis stack', which resizes the width too"
    way_out = "to shrink use method 'bot' or 'ws'"

    def layer_mode(self, options: StackOptions) -> LayerAxis:
        """The method itself."""
        return "stack"


METHOD = Stack()
