"""Which law every dim grows by, what its tensors need for it, and what the graph's constants do.

Where a dim of role hidden grows by no whole multiple, copies of its channels would come in different numbers, and the
norms over it would see other means and spreads. It is then given further channels instead, if the graph allows that
(:mod:`bot_onnx.graph.widening`). All other dims grow evenly: see :mod:`bot_onnx.resample.growth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import onnx_ir as ir

from bot_onnx.graph.analysis import Analysis
from bot_onnx.graph.types import Stack
from bot_onnx.graph.widening import Widening, find_widening
from bot_onnx.stack.types import Law
from bot_onnx.surgery.scales import write_number
from bot_onnx.surgery.types import ConstantPatch


@dataclass(frozen=True, slots=True)
class Laws:
    """How dims grow, for the work orders.

    Attributes:
        widened: facts of every dim that grows by a law of its own, by id.
        notes: what is kept nearly, or not, and why, in sentences.
    """

    widened: Mapping[str, Widening] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, stack: Stack, identity: str) -> Law:
        """The law of one dim on the tensors of a stack.

        A norm's scale goes on in its mean, so that what is read behind it can learn; its bias in 0, unless what the
        norm gives is a stream itself.
        """
        widening = self.widened.get(identity)
        if widening is None or widening.law is None:
            return "even"
        if not widening.scales.isdisjoint(stack.tensors):
            return "means"
        if not widening.biases.isdisjoint(stack.tensors):
            return "zeros" if widening.kept.isdisjoint(stack.tensors) else "means"
        return widening.law

    def of_output(self, name: str, identity: str) -> Law:
        """The law of one dim on an output of the graph."""
        widening = self.widened.get(identity)
        if widening is None or widening.law is None:
            return "even"
        return "zeros" if name in widening.shown else widening.law

    def gain(self, stack: Stack, sizes: Mapping[str, int], before: Mapping[str, int]) -> float:
        """Factor of a norm's scale: √(n/m)."""
        for identity, widening in self.widened.items():
            if widening.law is not None and not widening.scales.isdisjoint(stack.tensors):
                return sqrt(before[identity] / sizes[identity])
        return 1.0


def find_laws(analysis: Analysis, sizes: Mapping[str, int]) -> Laws:
    """Decide how the dims of ``analysis`` grow, before a resize changes the graph."""
    widened: dict[str, Widening] = {}
    notes: list[str] = []
    for dim in analysis.structure.dims.values():
        new = sizes[dim.id]
        if dim.role != "hidden" or new <= dim.size or new % dim.size == 0:
            continue
        widening = find_widening(analysis, dim.id)
        if widening.law is not None:
            widened[dim.id] = widening
        if not widening.exact:
            how = "by copies of its channels" if widening.law is None else "by further channels"
            notes.append(
                f"{dim.name} grows from {dim.size} to {new} {how}, which keeps the function nearly, not exactly: "
                f"{widening.reason}; a whole multiple of {dim.size} keeps it."
            )
    return Laws(widened, tuple(notes))


def patch_epsilons(analysis: Analysis, sizes: Mapping[str, int], laws: Laws) -> list[ConstantPatch]:
    """Bring the epsilons of norms over further channels to n/m of what they are, in place."""
    patches: list[ConstantPatch] = []
    for identity, widening in laws.widened.items():
        dim = analysis.structure.dims[identity]
        for epsilon in widening.epsilons:
            old = _epsilon(epsilon.node, epsilon.slot)
            number = old * dim.size / sizes[identity]
            reason = f"epsilon over {dim.size} of {sizes[identity]} channels"
            patches.append(write_number(analysis, epsilon.node, epsilon.slot, old, number, reason))
    return patches


def _epsilon(node: ir.Node, slot: int | str) -> float:
    if isinstance(slot, str):
        return float(node.attributes.get_float(slot, 1e-5))
    value = node.inputs[slot]
    assert value is not None and value.const_value is not None
    return float(value.const_value.numpy().reshape(-1)[0])
