"""The analysed graph as a message at other sizes, few layers deep, with every value for an output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis
from bot_onnx._canonical.control_flow import bodies_of, is_entry, nested_protos
from bot_onnx._canonical.spelling.seen import types_of
from bot_onnx._onnxfile.tensor_protos import held_proto
from bot_onnx._ops import record
from bot_onnx._ops.nodes import node_inputs
from bot_onnx._runs.observe import holds_sequence, shape_values

Array = NDArray[np.generic]

KEPT_LAYERS = 2  #: of every chain, so that what one layer hands to the next is seen
GIVEN = "//given"  #: ends the name of an input that takes the place of a value
_NARROW = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)


class Excerpt:
    """The nodes of a graph that are left when of every chain only the first layers are.

    Attributes:
        nodes: in graph order.
        outputs: values that the graph shows, by the names of its outputs, as far as their layers are left.
        random: results of the ops that draw at random; they become inputs.
    """

    def __init__(self, analysis: Analysis) -> None:
        graph = analysis.model.graph
        self._graph = graph
        self._known = set(graph)
        self._alias: dict[ir.Value, ir.Value] = {}
        dropped: set[ir.Node] = set()
        for chain, info in zip(analysis.chains, analysis.structure.chains, strict=True):
            if info.resizable is None and len(chain.layers) > KEPT_LAYERS:
                last, kept = chain.layers[-1].end, chain.layers[KEPT_LAYERS - 1].end
                self._alias.update(zip(last.outputs, kept.outputs, strict=True))
                dropped.update(node for layer in chain.layers[KEPT_LAYERS:] for node in layer.nodes)
        self.outputs = {
            value.name or "": self._alias.get(value, value)
            for value in graph.outputs
            if value in self._alias or value.producer() not in dropped
        }
        needed = self._needed(self.outputs.values())
        self.nodes = [node for node in graph if node in needed]
        self.random = [value for node in self.nodes if record(node).random for value in node.outputs]
        self._renamed = {old.name or "": new.name or "" for old, new in self._alias.items()}

    def _needed(self, values: Iterable[ir.Value]) -> set[ir.Node]:
        needed: set[ir.Node] = set()
        pending = [value.producer() for value in values]
        while pending:
            node = pending.pop()
            if node is None or node in needed:
                continue
            needed.add(node)
            pending.extend(self._alias.get(value, value).producer() for value in node_inputs(node))
        return needed

    @property
    def initializers(self) -> set[str]:
        """Names of the initializers that the nodes read."""
        return _initializers(self.nodes)

    def inputs_of(self, node: ir.Node) -> list[ir.Value]:
        """What a node reads when layers are left out."""
        return [self._alias.get(value, value) for value in node.inputs if value is not None]

    def read_for(self, values: Iterable[ir.Value]) -> set[str]:
        """Names of the initializers that some values need."""
        return _initializers(self._needed(values))

    def watched(self) -> list[ir.Value]:
        """Values outside of bodies that are tensors, in graph order; the graph's inputs are not among them."""
        bodies, arithmetic = bodies_of(self.nodes), shape_values(self._graph)
        return [
            value
            for node in self.nodes
            if bodies[node] is None and not is_entry(node) and not record(node).random
            for value in node.outputs
            if value.name and value.name not in arithmetic and not holds_sequence(value)
        ]

    def proto(
        self, analysis: Analysis, tensors: Mapping[str, Array], watched: Sequence[ir.Value], *, part: bool = False
    ) -> onnx.ModelProto:
        """The message, in single precision, as the graph stands now.

        Args:
            analysis: of the graph.
            tensors: contents of initializers by name; those of all others are the graph's own.
            watched: values to output.
            part: leave out the nodes that they do not need.
        """
        model, graph = analysis.model, analysis.model.graph
        present = self._needed(watched) if part else set(self.nodes)
        chosen = present | {node for node in graph if node not in self._known and _feeds(node, present)}
        proto = onnx.ModelProto(ir_version=min(model.ir_version or 8, 10))
        for domain, version in model.opset_imports.items():
            proto.opset_import.append(onnx.OperatorSetIdProto(domain=domain, version=version))
        proto.graph.name = "miniature"
        proto.graph.node.extend(nested_protos([node for node in graph if node in chosen and not record(node).random]))
        _rename(proto.graph.node, self._renamed)
        proto.graph.input.extend(map(_port, graph.inputs))
        if self.random:
            types = types_of(graph)
            ranks = {value: len(analysis.context.axes_of(value)) for value in self.random}
            proto.graph.input.extend(_drawn(value, types.get(value), ranks[value]) for value in self.random)
        for name in dict.fromkeys(value.name or "" for node in chosen for value in node_inputs(node)):
            value = graph.initializers.get(name)
            if name in tensors:
                proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(tensors[name], order="C"), name))
            elif value is not None and value.const_value is not None:
                proto.graph.initializer.append(held_proto(value.const_value, name))
        proto.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in watched)
        _in_single_precision(proto.graph)
        return proto


def _initializers(nodes: Iterable[ir.Node]) -> set[str]:
    return {value.name or "" for node in nodes for value in node_inputs(node) if value.const_value is not None}


def _feeds(node: ir.Node, others: set[ir.Node]) -> bool:
    return any(usage.node in others for value in node.outputs for usage in value.uses())


def scaled(graph: onnx.GraphProto, factors: Mapping[str, float]) -> None:
    """Multiply values of a message, given by name, as soon as they are made."""
    for node in list(graph.node) if factors else ():
        for slot, name in enumerate(node.output):
            if name in factors:
                plain, held = f"{name}//plain", f"{name}//factor"
                node.output[slot] = plain
                graph.initializer.append(onnx.numpy_helper.from_array(np.array(factors[name], np.float32), held))
                place = list(graph.node).index(node) + 1
                graph.node.insert(place, onnx.helper.make_node("Mul", [plain, held], [name]))


def detached(graph: onnx.GraphProto, made: frozenset[str], given: Mapping[str, Array]) -> None:
    """Let the nodes of a message that make some values read inputs instead of what they read so far.

    Args:
        graph: of the message.
        made: the values.
        given: what the inputs take, by the name of what was read; theirs ends in ``GIVEN``.
    """
    for node in graph.node:
        for slot, name in enumerate(node.input if not made.isdisjoint(node.output) else ()):
            if name in given:
                node.input[slot] = f"{name}{GIVEN}"
    for name, array in given.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(f"{name}{GIVEN}", kind, array.shape))


def _rename(nodes: Sequence[onnx.NodeProto], names: Mapping[str, str]) -> None:
    for node in nodes if names else ():
        for slot, name in enumerate(node.input):
            if name in names:
                node.input[slot] = names[name]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g.node, names)
                for output in attribute.g.output:
                    output.name = names.get(output.name, output.name)


def _port(value: ir.Value) -> onnx.ValueInfoProto:
    proto = ir.serde.serialize_value(value)
    if proto.type.HasField("tensor_type"):
        rank = len(proto.type.tensor_type.shape.dim)
        proto.type.tensor_type.ClearField("shape")
        for axis in range(rank):
            proto.type.tensor_type.shape.dim.add().dim_param = f"{value.name}_{axis}"
    return proto


def _drawn(value: ir.Value, kind: ir.DataType | None, rank: int) -> onnx.ValueInfoProto:
    """The input that takes the place of random numbers; a file need not declare what they are."""
    sizes = [f"{value.name}_{axis}" for axis in range(rank)]
    return onnx.helper.make_tensor_value_info(value.name or "", kind or ir.DataType.FLOAT, sizes)


def _in_single_precision(graph: onnx.GraphProto) -> None:
    """Halves and doubles become floats throughout: the miniature is about structure, not about rounding."""
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type in _NARROW:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for tensor in graph.initializer:
        _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            elif attribute.HasField("g"):
                _in_single_precision(attribute.g)
            elif attribute.name in ("to", "dtype", "stash_type", "softmax_precision") and attribute.i in _NARROW:
                attribute.i = onnx.TensorProto.FLOAT


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _NARROW:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
