"""RoleStore at the two ends of a network: what its outputs show, and the alphabets that its inputs are coded in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.dims import Dim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._ops import VIEW, passes_on
from bot_onnx._ops.nodes import behind_views
from bot_onnx._ops.walk import forward
from bot_onnx._patterns.integer_inputs import from_integer_input
from bot_onnx._patterns.interface import Interface
from bot_onnx._patterns.parameters import Parameter
from bot_onnx._patterns.role_store import RoleStore
from bot_onnx._structure import Role


def give_outputs(
    graph: ir.Graph, context: AxisFacts, roles: RoleStore, parameters: Mapping[str, Parameter], interface: Interface
) -> None:
    """Give ``out`` to what outputs show and no trained weight reads: the user's interface, which keeps its size.

    A logits axis of the size of the vocabulary is ``vocab``. What trained weights read as well is a channel of the
    network that an output happens to show (a stage of a backbone); it has the role that it has inside.
    """
    table = context.table
    vocab = {table.size(dim) for dim in roles.dims(Role.VOCAB)}
    for output in graph.outputs:
        for dim in context.axes_of(output):
            if dim is None or not table.is_static(dim) or roles.of(dim) is not None:
                continue
            leaves = table.leaves(dim)
            if interface.read.isdisjoint(leaves) and not _is_pooled(graph, context, roles, parameters, interface, dim):
                roles.give(dim, Role.VOCAB if table.size(dim) in vocab else Role.OUT)
    for leaf in interface.outputs:
        open_ended = leaf not in interface.read and table.frozen(leaf) is None
        if open_ended and not _is_pooled(graph, context, roles, parameters, interface, leaf):
            roles.give(leaf, Role.OUT)


def _is_pooled(
    graph: ir.Graph,
    context: AxisFacts,
    roles: RoleStore,
    parameters: Mapping[str, Parameter],
    interface: Interface,
    dim: Dim,
) -> bool:
    """Whether an output is a second form of a residual stream that is an output itself (a pooler's).

    It is made from the stream by one square matrix, and shown through a Tanh: classes are shown as they are, or as
    probabilities. Whoever changes the stream, by key, changes this form of it.
    """
    table = context.table
    streams = [
        stream
        for stream in map(table.find, roles.dims(Role.HIDDEN))
        if stream in interface.outputs and table.size(stream) == table.size(dim)
    ]
    shown = interface.outputs.get(table.find(dim), ())
    names = {output.name: output for output in graph.outputs}
    makers = [node for name in shown if (made := behind_views(names[name])) and (node := made.producer()) is not None]
    if not streams or not makers or any(node.op_type != "Tanh" for node in makers):
        return False
    axes = [
        [None if axis is None else table.find(axis) for axis in context.axes_of(parameter.value)]
        for parameter in parameters.values()
        if parameter.kind == "matrix"
    ]
    makes = [pair for pair in axes if table.find(dim) in pair]
    return len(makes) == 1 and any(stream in makes[0] for stream in streams)


def decides_output(node: ir.Node) -> bool:
    """Whether what a node makes is a graph output, by views alone."""
    return any(value.is_graph_output() for value in forward(node.outputs, lambda user, _: passes_on(user, VIEW)))


def give_alphabets(graph: ir.Graph, context: AxisFacts, roles: RoleStore) -> None:
    """Give ``vocab`` to what an integer input is compared with, number by number: a one-hot code, written out."""
    for node in graph:
        if node.op_type != "Equal":
            continue
        for mine, other in (node.inputs, node.inputs[::-1]):
            table = behind_views(mine)
            tensor = table.const_value if table is not None else None
            if tensor is None or mine is None or tensor.size < 2 or not from_integer_input(other):
                continue
            values = tensor.numpy().reshape(-1)
            if np.issubdtype(values.dtype, np.number) and np.array_equal(values, np.arange(values.size)):
                for dim in context.axes_of(mine):
                    roles.give(dim, Role.VOCAB)
