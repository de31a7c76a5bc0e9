"""The way back: how the source spelled what the analysis sees through.

A neutral node leaves the graph, and a :class:`Step` stands at every input that read it. A node keeps its steps
wherever it goes, and a copy of it (in an added layer) has them too, so that nothing needs to be mapped when a graph is
written: each step becomes a node again in front of the input that it stands at. Numbers in a step never name a size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._ops.nodes import fresh_name, names_in

_STEPS, _SHOWN, _WHOLE = "bot_onnx.steps", "bot_onnx.shown_through", "bot_onnx.spelled"
_IMPLIED = "bot_onnx.implied"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A neutral node of the source, without what it reads.

    Attributes:
        domain, op_type, name, attributes, properties: of the node. output: name of its result.
        slot: which of its inputs is the data.
        constants: the other inputs, by slot; None for one that is left out.
    """

    domain: str
    op_type: str
    name: str
    attributes: tuple[ir.Attr, ...]
    output: str
    slot: int = 0
    constants: Mapping[int, NDArray[np.generic] | None] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Whole:
    """A node of the source in another spelling than the one of two operands (MatMul, Add) that stands for it.

    Attributes:
        domain, op_type, attributes: of the node. turned: which operands a product turns around by itself.
        swapped: it has its operands in the other order.
    """

    domain: str
    op_type: str
    attributes: tuple[ir.Attr, ...]
    turned: tuple[bool, ...] = (False, False)
    swapped: bool = False


def see_through(graph: ir.Graph, node: ir.Node, source: ir.Value, steps: Sequence[Step] | None) -> bool:
    """Let what reads a neutral ``node`` read ``source`` instead, and note how it was spelled.

    Args:
        graph: the graph that holds the node.
        node: its first output equals ``source``.
        source: a value before it.
        steps: from ``source`` to the node; None: there is no saying how, without sizes.

    Returns:
        Whether it could be done: an output shows a graph input, a weight or another output only through a node.
    """
    output = node.outputs[0]
    if output.is_graph_output():
        if source.producer() is None or source.is_graph_output():
            return False
        _show(graph, output, source, steps)
    for usage in tuple(output.uses()):
        if steps:
            known: dict[int, tuple[Step, ...]] = usage.node.meta.setdefault(_STEPS, {})
            known[usage.idx] = (*steps, *known.get(usage.idx, ()))
        usage.node.replace_input_with(usage.idx, source)
    graph.remove(node, safe=True)
    return True


def _show(graph: ir.Graph, output: ir.Value, source: ir.Value, steps: Sequence[Step] | None) -> None:
    """Let the graph show ``source`` under the name of ``output``."""
    for index, shown in enumerate(graph.outputs):
        if shown is output:
            graph.outputs[index] = source
    name = output.name or ""
    output.name = f"{name}__shown"
    source.name, source.shape, source.type = name, output.shape or source.shape, output.type or source.type
    known: dict[str, tuple[Step, ...]] = graph.meta.setdefault(_SHOWN, {})
    known[name] = (*(steps or ()), *known.get(name, ()))


def steps_before(node: ir.Node, slot: int) -> tuple[Step, ...]:
    """Steps that stand at an input of a node."""
    known: dict[int, tuple[Step, ...]] = node.meta.get(_STEPS, {})
    return known.get(slot, ())


def swap_steps(node: ir.Node) -> None:
    """The two inputs of a node change places."""
    known: dict[int, tuple[Step, ...]] = node.meta.get(_STEPS, {})
    if known:
        node.meta[_STEPS] = {1 - slot: steps for slot, steps in known.items()}


def keep_spelling(original: ir.Node, copy: ir.Node) -> None:
    """A copy of a node is spelled as the node is."""
    for key in (_STEPS, _WHOLE, _IMPLIED):
        if key in original.meta:
            copy.meta[key] = original.meta[key]


def reads_as(copy: ir.Node, original: ir.Node) -> None:
    """The first input of a node is spelled as that of another one."""
    steps = steps_before(original, 0)
    if steps:
        copy.meta[_STEPS] = {0: steps}


def forget_spelling(node: ir.Node) -> None:
    """Of a node whose inputs become others."""
    node.meta.pop(_STEPS, None)


def stands_for(node: ir.Node, whole: Whole) -> None:
    """Note that ``node``, with the implied nodes around it, stands for a product in another spelling."""
    node.meta[_WHOLE] = whole


def stands_for_sum(node: ir.Node) -> None:
    """Note that the Add that ``node`` will be is a Sum in the source."""
    stands_for(node, Whole(node.domain, "Sum", ()))


def imply(node: ir.Node) -> None:
    """Note that the product beside ``node`` implies it in the source's spelling."""
    node.meta[_IMPLIED] = True


def restore_steps(graph: ir.Graph) -> None:
    """Put back what was seen through, in place; a second time there is nothing left to do."""
    _restore_wholes(graph)
    taken: set[str] = set()
    made: dict[tuple[int, Step], ir.Value] = {}
    for node in list(graph):
        known: dict[int, tuple[Step, ...]] = node.meta.pop(_STEPS, {})
        for slot, steps in known.items():
            value = node.inputs[slot]
            if value is not None and steps:
                taken = taken or names_in(graph)
                node.replace_input_with(slot, _walked(graph, value, steps, made, taken))
    shown: dict[str, tuple[Step, ...]] = graph.meta.pop(_SHOWN, {})
    for index, output in enumerate(graph.outputs):
        steps = shown.get(output.name or "", ())
        if steps and output.producer() is not None:
            taken = taken or names_in(graph)
            last = _walked(graph, output, steps, made, taken)
            output.name, last.name = fresh_name(f"{output.name}__inside", taken), output.name
            last.shape, last.type = output.shape, output.type
            graph.outputs[index] = last


def _walked(
    graph: ir.Graph, value: ir.Value, steps: Sequence[Step], made: dict[tuple[int, Step], ir.Value], taken: set[str]
) -> ir.Value:
    """``value`` through the nodes that ``steps`` tell of; those that are there already are not made twice."""
    for step in steps:
        key = (id(value), step)
        if key not in made:
            made[key] = _made(graph, value, step, taken)
        value = made[key]
    return value


def _made(graph: ir.Graph, value: ir.Value, step: Step, taken: set[str]) -> ir.Value:
    inputs: list[ir.Value | None] = [None] * (1 + max([step.slot, *step.constants]))
    inputs[step.slot] = value
    name = fresh_name(step.name or step.op_type, taken)
    for slot, content in step.constants.items():
        if content is not None:
            label = fresh_name(f"{name}/{slot}", taken)
            tensor = ir.Tensor(content, name=label)
            kind = ir.TensorType(tensor.dtype)
            constant = ir.Value(name=label, shape=ir.Shape(content.shape), type=kind, const_value=tensor)
            graph.register_initializer(constant)
            inputs[slot] = constant
    node = ir.Node(step.domain, step.op_type, inputs, list(step.attributes), num_outputs=1, name=name)
    node.metadata_props.update(step.properties)
    node.outputs[0].name = fresh_name(step.output or name, taken)
    node.outputs[0].type = value.type
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        graph.insert_after(producer, node)
    return node.outputs[0]


# -- products ----------------------------------------------------------------------------------------------------------


def _restore_wholes(graph: ir.Graph) -> None:
    """Put products back into the source's spelling: what it implies goes."""
    for node in list(graph):
        whole: Whole | None = node.meta.pop(_WHOLE, None)
        if whole is None:
            continue
        turned = tuple(_is_turned(value) for value in node.inputs)
        attributes = {attribute.name: attribute for attribute in whole.attributes}
        if turned != whole.turned:
            continue  # it stands together with a transposition of the source now
        operands = [_behind(value) if turns else value for value, turns in zip(node.inputs, turned, strict=True)]
        factor = _implied_factor(node)
        if factor is not None and factor.inputs[1] is not None and factor.inputs[1].const_value is not None:
            number = float(factor.inputs[1].const_value.numpy().reshape(-1)[0])
            attributes["alpha"] = ir.AttrFloat32("alpha", number)
            node.name, factor.name = factor.name, node.name
            _replace(graph, factor.outputs[0], node.outputs[0])
        if whole.swapped:
            operands.reverse()
            swap_steps(node)
        for slot, value in enumerate(operands):
            node.replace_input_with(slot, value)
        node.domain, node.op_type = whole.domain, whole.op_type
        node.attributes.clear()
        node.attributes.update(attributes)
    graph.remove([n for n in graph if _IMPLIED in n.meta and not any(True for _ in n.outputs[0].uses())], safe=True)


def _is_turned(value: ir.Value | None) -> bool:
    """Whether a value is an operand that the product turns around."""
    node = value.producer() if value is not None else None
    return node is not None and node.op_type == "Transpose" and _IMPLIED in node.meta


def _behind(value: ir.Value | None) -> ir.Value | None:
    node = value.producer() if value is not None else None
    return node.inputs[0] if node is not None else None


def _implied_factor(node: ir.Node) -> ir.Node | None:
    readers = [usage.node for usage in node.outputs[0].uses()]
    factor = readers[0] if len(readers) == 1 else None
    return factor if factor is not None and factor.op_type == "Mul" and _IMPLIED in factor.meta else None


def _replace(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let everything read ``new``, under the name of ``old``."""
    old.name, new.name = new.name, old.name
    new.shape, new.type = old.shape, old.type
    for usage in tuple(old.uses()):
        usage.node.replace_input_with(usage.idx, new)
    for index, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[index] = new
