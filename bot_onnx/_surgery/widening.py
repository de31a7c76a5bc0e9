"""Whether a residual stream can be given further channels that change nothing, and what its norms need for that.

A stream of n channels grows to m by channels that hold 0 (``zeros``), as an RMSNorm wants, or the mean of the others
(``means``), as a LayerNorm wants: its mean stays, its deviations are 0 in what is new. In both the sum of squares that
the norm divides by is spread over more channels, so that its scale takes √(n/m), and its epsilon n/m. Which law
a graph admits, :mod:`bot_onnx._surgery.new_channels` finds.

These are the zero and the average expansion of LEMON (Wang et al., ICLR 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops import Axes, is_layer_norm, record
from bot_onnx._reasons import Reason, Why
from bot_onnx._surgery.channel_labels import Epsilon, WideningLaw
from bot_onnx._surgery.new_channels import ChannelWalk


@dataclass(frozen=True, slots=True)
class Widening:
    """How a dim of role hidden can grow.

    Attributes:
        law: of its new channels; None: there is none that fits, or no norm that asks for one.
        scales: parameters that scale the results of its norms. biases: added to them.
        kept: those of the biases whose result is a stream itself, so that its new channels hold their mean.
        epsilons: of its norms.
        reason: why there is no law, or why the law is kept nearly; None where the function stays.
        shown: outputs of the graph whose new channels hold 0 although the law is ``means``: they stand behind a norm.
    """

    law: WideningLaw | None
    scales: frozenset[str] = frozenset()
    biases: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()
    epsilons: tuple[Epsilon, ...] = ()
    reason: Reason | None = None
    shown: frozenset[str] = frozenset()

    @property
    def exact(self) -> bool:
        """Whether the function stays at any size."""
        return self.reason is None


def normalised_dims(analysis: Analysis) -> frozenset[str]:
    """Ids of the dims that a norm or another mean or sum is taken over."""
    table = analysis.context.table
    found: set[str] = set()
    for node in analysis.model.graph:
        if record(node).axes is Axes.REDUCED:
            after = {table.find(dim) for dim in analysis.context.axes_of(node.outputs[0]) if dim is not None}
            before = [table.find(dim) for dim in analysis.context.axes_of(node.inputs[0]) if dim is not None]
            gone = [dim for dim in before if dim not in after]
        elif is_layer_norm(node):
            gone = [table.find(dim) for dim in analysis.context.axes_of(node.inputs[0])[-1:] if dim is not None]
        else:
            continue
        found.update(analysis.ids[dim] for dim in gone if dim in analysis.ids)
    return frozenset(found)


def find_widening(analysis: Analysis, identity: str) -> Widening:
    """How the dim ``identity`` can grow. To be asked before a resize changes the graph."""
    dim = analysis.structure.dims[identity]
    root = next(dim for dim, known in analysis.ids.items() if known == identity)
    if dim.kind != "leaf":
        return Widening(None, reason=Reason(Why.COMPOSED))
    hidden = analysis.context.table.find(root)
    walk = ChannelWalk(analysis, hidden, "zeros")
    reason = walk.run()
    if reason and walk.centred:
        walk = ChannelWalk(analysis, hidden, "means")
        reason = walk.run()
    return Widening(None, reason=reason) if reason else _widening(walk)


def _widening(walk: ChannelWalk) -> Widening:
    if not walk.norms:
        return Widening(None)
    if not all(norm.scale for norm in walk.norms):
        return Widening(None, reason=Reason(Why.NO_SCALE))
    kept = {norm.bias for norm in walk.norms if norm.bias is not None and norm.streams}
    return Widening(
        walk.law,
        frozenset(name for norm in walk.norms for name in norm.scale),
        frozenset(norm.bias for norm in walk.norms if norm.bias is not None),
        frozenset(kept),
        tuple(walk.epsilons),
        walk.nearly[0] if walk.nearly else None,
        frozenset(walk.shown),
    )
