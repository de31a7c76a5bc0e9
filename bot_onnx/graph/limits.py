"""Files that would unfold without end, or that show things no network has at its border: refused at once, by name."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from bot_onnx.errors import GraphError

#: Nodes that a graph may have once its functions are written out: real ones have some ten thousand.
MAX_NODES = 1_000_000

Key = tuple[str, str, str]


def check_functions(model: onnx.ModelProto, place: str) -> None:
    """Count the nodes of a model as they would be with all functions written out.

    Raises:
        GraphError: functions call each other in a circle, or there are more than :data:`MAX_NODES` nodes.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    if not functions:
        return
    counts: dict[Key, int] = {}
    pending: list[tuple[Key, bool]] = [(key, False) for key in functions]
    open_calls: set[Key] = set()
    while pending:
        key, left = pending.pop()
        if left:
            counts[key] = _count(functions[key].node, counts)
            open_calls.discard(key)
        elif key not in counts:
            if key in open_calls:
                raise GraphError(f"function {key[1]!r} of {place} calls itself: export the model again")
            open_calls.add(key)
            pending.append((key, True))
            called = {called for called in _called(functions[key].node) if called in functions}
            if circle := called & open_calls:
                raise GraphError(f"function {min(circle)[1]!r} of {place} calls itself: export the model again")
            pending.extend((other, False) for other in called)
    if (nodes := _count(model.graph.node, counts)) > MAX_NODES:
        raise GraphError(
            f"the functions of {place} unfold into {nodes if nodes < 10**12 else 'more than 10^12'} nodes, more than "
            f"{MAX_NODES:,}: export the model without nested functions"
        )


def _count(nodes: Iterable[onnx.NodeProto], counts: dict[Key, int]) -> int:
    return sum(counts.get(called, 1) for called in _called(nodes))


def _called(nodes: Iterable[onnx.NodeProto]) -> list[Key]:
    """What nodes call, those in bodies included."""
    called: list[Key] = []
    for node in nodes:
        called.append((node.domain, node.op_type, node.overload))
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs) if attribute.type in _BODIES else ():
                called += _called(body.node)
    return called


_BODIES = frozenset({onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS})
_KINDS = {
    "sequence_type": "a sequence",
    "optional_type": "an optional value",
    "map_type": "a map",
    "sparse_tensor_type": "a sparse tensor",
}


def check_ports(model: onnx.ModelProto, place: str) -> None:
    """Inputs must be tensors of a known type; outputs may be sequences or optional values, but no maps.

    Raises:
        GraphError: the first port that is none of these.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        kind = value.type.WhichOneof("value")
        if value.name in weights:
            continue
        if kind != "tensor_type":
            what = _KINDS.get(str(kind), "a value without a type")
            raise GraphError(
                f"input {value.name!r} of {place} is {what}: only tensors can be fed here; export the model with "
                "tensors as inputs"
            )
        element = value.type.tensor_type.elem_type
        if element == 0 or element not in onnx.TensorProto.DataType.values():
            raise GraphError(
                f"input {value.name!r} of {place} has no element type that is known ({element}): export the model again"
            )
    for value in model.graph.output:
        if _has_map(value.type):
            raise GraphError(
                f"output {value.name!r} of {place} has a map in it (classes by name, say), which cannot be carried "
                "through: export the model with tensors as outputs (skl2onnx: zipmap=False)"
            )


def _has_map(kind: onnx.TypeProto) -> bool:
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return _has_map(kind.sequence_type.elem_type)
    if which == "optional_type":
        return _has_map(kind.optional_type.elem_type)
    return bool(which == "map_type")


def check_weights(model: onnx.ModelProto, sizes: Iterable[tuple[int, ir.DataType]], place: str) -> None:
    """Refuse a model without weights: ensembles of trees and other classical models hold their numbers in attributes.

    Args:
        model: the model.
        sizes: number of elements and data type of every tensor in it.
        place: the file, for the message.

    Raises:
        GraphError: no tensor holds several numbers that could be resampled.
    """
    if any(count > 1 and _may_be_weight(dtype) for count, dtype in sizes):
        return
    classical = dict.fromkeys(node.op_type for node in model.graph.node if node.domain == "ai.onnx.ml")
    why = f": {', '.join(list(classical)[:3])} hold their numbers in attributes" if classical else ""
    raise GraphError(f"{place} has no weights to resize{why}; give a neural network")


def _may_be_weight(dtype: ir.DataType) -> bool:
    """Floating-point numbers, or the small integers that quantised weights are packed in."""
    return dtype.is_floating_point() or (dtype != ir.DataType.STRING and dtype.is_integer() and dtype.bitwidth <= 8)
