"""Where the graph shows what units do: the values that weights read of them, the norms that stand behind filters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from bot_onnx._align.axes import leaves_of
from bot_onnx._align.reader_places import ReaderPlace, Unsuited, normalised, reader_place
from bot_onnx._align.stream_labels import bias_of
from bot_onnx._align.units import Units
from bot_onnx._analysis.passes import Analysis
from bot_onnx._ops import Slot, linear_of, slot_of
from bot_onnx._patterns.parameters import Parameter, find_parameters
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._runs.watched import Watched, hidden_in_bodies
from bot_onnx._structure import Stack
from bot_onnx.errors import ResampleError

_EPSILON = 1e-5  #: of a batch normalisation that says nothing


@dataclass(frozen=True, slots=True)
class Reading:
    """A value that a weight reads: its name, the axis along which, and the dim there."""

    value: str
    axis: int
    dim: str


@dataclass(frozen=True, slots=True)
class Scaling:
    """The batch normalisation behind a filter, by names of its tensors; ``bias`` is the filter's own, if it has one."""

    scale: str
    shift: str
    mean: str
    variance: str
    epsilon: float
    bias: str | None = None


class Readings:
    """What can be looked at in a graph; to be asked before a resize changes it.

    Attributes:
        samples: of what the network will see, or None.
    """

    def __init__(self, analysis: Analysis, samples: Samples | None) -> None:
        self._analysis, self.samples = analysis, samples

    @cached_property
    def _parameters(self) -> dict[str, Parameter]:
        return find_parameters(self._analysis.model.graph, self._analysis.context)

    def of(self, units: Units, layer: int) -> tuple[Reading, ...]:
        """All that weights read of the units of a layer, each value once.

        Raises:
            ResampleError: it cannot be seen.
        """
        found: dict[Reading, None] = {}
        for stack, _ in units.readers():
            for name in units.tensors(stack, layer):
                for node, slot in self._parameters[name].uses:
                    found[self._reading(units, node, slot)] = None
        hidden = hidden_in_bodies(self._analysis.model.graph, (reading.value for reading in found))
        if hidden is not None or not found:
            why = "lies in a branch or a loop" if found else "is read by no weight"
            raise _unseen(units, f"what they make {why}")
        return tuple(found)

    def _reading(self, units: Units, node: ir.Node, slot: int) -> Reading:
        linear = linear_of(node)
        place = 0 if slot else 1
        if linear is None or linear.form not in ("product", "kernel") or slot > 1:
            raise _unseen(units, f"{node.op_type} (node '{node.name}') reads them in a way that is not looked into")
        value = node.inputs[place]
        axes = [] if value is None else self._axes(units, value)
        if value is None or len(axes) != 1:
            raise _unseen(units, f"they cannot be told apart in what {node.op_type} (node '{node.name}') reads")
        return Reading(value.name or "", *axes[0])

    def _axes(self, units: Units, value: ir.Value) -> list[tuple[int, str]]:
        """Axes of a value that the units lie along, each with the dim there."""
        table, structure = self._analysis.context.table, self._analysis.structure
        found: list[tuple[int, str]] = []
        for axis, dim in enumerate(self._analysis.context.axes_of(value)):
            ident = None if dim is None else self._analysis.ids.get(table.find(dim))
            if ident is not None and set(units.leaves) <= set(leaves_of(structure, ident)):
                found.append((axis, ident))
        return found

    def place(self, weight: str, stack: Stack, inner: int) -> ReaderPlace:
        """Where a weight stands that reads chosen units along an axis of its own.

        Raises:
            Unsuited: it cannot make up for what goes.
        """
        for leaf in leaves_of(self._analysis.structure, stack.axes[inner] or ""):
            if leaf in self._normalised:
                raise Unsuited(f"reads what is normalised together with what goes, by {self._normalised[leaf]}")
        scaling = self._scalings.get(weight)
        mean = None if scaling is None else scaling.mean
        return reader_place(self._analysis, self._parameters[weight], stack, inner, mean)

    @cached_property
    def _normalised(self) -> dict[str, str]:
        return normalised(self._analysis)

    @cached_property
    def _scalings(self) -> dict[str, Scaling]:
        return self.scalings()

    def biases(self) -> dict[str, str]:
        """Per weight that is used once the bias that is added behind it."""
        found = {name: bias_of(one.uses[0][0]) for name, one in self._parameters.items() if len(one.uses) == 1}
        return {name: bias for name, bias in found.items() if bias is not None and bias != name}

    def watch(self, values: Iterable[str]) -> Watched:
        """The source as it is now, ready to be run on the samples, with some of its values shown."""
        assert self.samples is not None
        return Watched(self._analysis.model, self.samples, values)

    def scalings(self) -> dict[str, Scaling]:
        """Per weight the batch normalisation that alone reads what it makes."""
        found: dict[str, Scaling] = {}
        for node in self._analysis.model.graph:
            slots = {
                slot_of(node, slot): value.name or "" for slot, value in enumerate(node.inputs) if value is not None
            }
            maker = node.inputs[0].producer() if Slot.VARIANCE in slots and node.inputs[0] is not None else None
            if maker is None or linear_of(maker) is None or len(list(maker.outputs[0].uses())) != 1:
                continue
            made = {slot_of(maker, slot): value for slot, value in enumerate(maker.inputs) if value is not None}
            weight, bias = made.get(Slot.WEIGHT), made.get(Slot.BIAS)
            if weight is None or weight.const_value is None:
                continue
            epsilon = node.attributes.get("epsilon")
            found[weight.name or ""] = Scaling(
                slots[Slot.SCALE],
                slots[Slot.SHIFT],
                slots[Slot.MEAN],
                slots[Slot.VARIANCE],
                _EPSILON if epsilon is None else epsilon.as_float(),
                None if bias is None else bias.name,
            )
        return found


def _unseen(units: Units, why: str) -> ResampleError:
    return ResampleError(
        f"the activations of {units.name} cannot be looked at: {why}; choose by 'magnitude' (--keep magnitude)"
    )
