"""Replace a node by others: new nodes stand where it stood, what read it reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._ops.nodes import fresh_name

Attribute = int | float | str | Sequence[int] | Sequence[float]


class Site:
    """Makes nodes in front of ``node`` and, in the end, lets their values take the place of its outputs.

    Args:
        graph: the graph that holds ``node``.
        node: to be replaced.
        taken: names in use; extended.
    """

    def __init__(self, graph: ir.Graph, node: ir.Node, taken: set[str]) -> None:
        self.graph = graph
        self.node = node
        self._taken = taken
        self._version = graph.opset_imports.get("", 18)

    @property
    def opset(self) -> int:
        """Version of ONNX's own ops in the model."""
        return self._version

    def input(self, slot: int) -> ir.Value | None:
        """An input of the node; None where it is left out."""
        return self.node.inputs[slot] if slot < len(self.node.inputs) else None

    def need(self, slot: int) -> ir.Value:
        """An input that the op demands."""
        value = self.input(slot)
        assert value is not None, f"{self.node.op_type} without input {slot}"
        return value

    def op(
        self,
        kind: str,
        *inputs: ir.Value | None,
        domain: str = "",
        attributes: dict[str, Attribute] | None = None,
        outputs: int = 1,
        label: str | None = None,
    ) -> ir.Value:
        """Add a node before the one to replace, called ``label`` (or after both); returns its first output."""
        name = fresh_name(label or f"{self.node.name or self.node.op_type}/{kind}", self._taken)
        made = ir.node(kind, inputs, attributes or {}, domain=domain, num_outputs=outputs, name=name)
        for index, output in enumerate(made.outputs):
            output.name = fresh_name(f"{name}_output_{index}", self._taken)
        self.graph.insert_before(self.node, made)
        first: ir.Value = made.outputs[0]
        return first

    def constant(self, array: NDArray[np.generic], label: str) -> ir.Value:
        """Add an initializer."""
        return self.initializer(ir.Tensor(np.asarray(array)), f"{self.node.name or self.node.op_type}/{label}")

    def initializer(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        """Add an initializer that holds ``tensor``, under ``name`` or one like it."""
        unique = fresh_name(name, self._taken)
        tensor.name = unique
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=unique, shape=shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.initializers[unique] = value
        return value

    def kept(self, *names: str) -> dict[str, Attribute]:
        """Attributes of the node to hand on to a successor, where it has them."""
        found = {name: self.node.attributes[name] for name in names if name in self.node.attributes}
        return {name: attribute.value for name, attribute in found.items()}

    def replace(self, *values: ir.Value | None) -> None:
        """Let ``values`` stand for the outputs, in order, and remove the node. Outputs keep their names."""
        for index, old in enumerate(self.node.outputs):
            new = values[index] if index < len(values) else None
            if new is None:
                continue
            if old.is_graph_output():
                new = self._as_output(old, new)
            for usage in tuple(old.uses()):
                usage.node.replace_input_with(usage.idx, new)
        self.graph.remove(self.node, safe=True)

    def _as_output(self, old: ir.Value, new: ir.Value) -> ir.Value:
        """A value that a graph output can be: computed by a node, of the output's name and type."""
        if new.producer() is None or new.is_graph_output():
            new = self.op("Identity", new)
        name = old.name
        old.name, new.name = new.name, name
        new.shape, new.type = old.shape, old.type
        for index, output in enumerate(self.graph.outputs):
            if output is old:
                self.graph.outputs[index] = new
        return new
