"""Files that would unfold without end, or that show things no network has at its border: refused at once, by name."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import onnx
import onnx_ir as ir

from bot_onnx._onnxfile.tensor_protos import all_tensors
from bot_onnx.errors import GraphError

#: Nodes that a graph may have once its functions are written out: real ones have some ten thousand.
MAX_NODES = 1_000_000

#: Nodes that run in loops whose length is fixed: real ones take some thousand turns.
MAX_STEPS = 10_000_000

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


def check_loops(model: onnx.ModelProto, place: str) -> None:
    """Count what loops run that take a constant number of turns and never end before.

    Where a condition may end a loop, or the number is computed, only running it tells.

    Raises:
        GraphError: a loop runs more than :data:`MAX_STEPS` nodes, or without end.
    """
    _steps(model.graph.node, _numbers(model.graph.node, model.graph.initializer), 1, place)
    for function in model.functions:
        _steps(function.node, _numbers(function.node), 1, place)


def _steps(nodes: Iterable[onnx.NodeProto], known: dict[str, int], times: int, place: str) -> int:
    """Number of nodes that run, those in loops as often as they do; ``known``: constants of one number."""
    steps = 0
    for node in nodes:
        steps += times
        for body in _bodies(node):
            inner = {**known, **_numbers(body.node, body.initializer)}
            for value in body.input:
                inner.pop(value.name, None)
            turns = _turns(node, body, known, inner) if node.op_type == "Loop" and not node.domain else 1
            steps += turns if turns > MAX_STEPS else _steps(body.node, inner, times * turns, place)
            if steps > MAX_STEPS:
                raise GraphError(
                    f"{node.op_type} {node.name or (node.output or '?')[0]!r} of {place} would run more than "
                    f"{MAX_STEPS:,} steps before it ends, if it does: export the model with a shorter loop",
                    node=node.name or (node.output or "?")[0],
                )
    return steps


def _turns(loop: onnx.NodeProto, body: onnx.GraphProto, known: dict[str, int], inner: dict[str, int]) -> int:
    """How often a loop runs at least: as often as it is told to, where nothing can end it before."""
    if len(body.input) < 2 or not body.output:
        return 1
    trips, first = (*loop.input[:2], "", "")[:2]
    if first and not known.get(first):
        return 1
    makers = {name: node for node in body.node for name in node.output}
    going = body.output[0].name
    while going in makers and makers[going].op_type in ("Identity", "Cast") and makers[going].input:
        going = makers.pop(going).input[0]
    if going != body.input[1].name and not inner.get(going):
        return 1
    return max(known.get(trips, 1), 1) if trips else MAX_STEPS + 1


def _numbers(nodes: Iterable[onnx.NodeProto], tensors: Iterable[onnx.TensorProto] = ()) -> dict[str, int]:
    """Constants of one whole number or truth value, by name."""
    held = {tensor.name: tensor for tensor in tensors}
    found: dict[str, int] = {}
    for node in nodes:
        for attribute in node.attribute if node.op_type == "Constant" and node.output else ():
            if attribute.type == onnx.AttributeProto.INT:
                found[node.output[0]] = attribute.i
            elif attribute.type == onnx.AttributeProto.TENSOR:
                held[node.output[0]] = attribute.t
    for name, tensor in held.items():
        inside = tensor.data_location != onnx.TensorProto.EXTERNAL and all(size == 1 for size in tensor.dims)
        if inside and tensor.data_type in _COUNTS:
            with suppress(ValueError, TypeError, IndexError):  # damaged: its own check says so
                found[name] = int(onnx.numpy_helper.to_array(tensor).reshape(-1)[0])
    return found


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [
        body
        for attribute in node.attribute
        if attribute.type in _BODIES
        for body in ((attribute.g,) if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs)
    ]


_COUNTS = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL})
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
    """Refuse a model without weights.

    Args:
        model: the model.
        sizes: number of elements and data type of every tensor in it.
        place: the file, for the message.

    Raises:
        GraphError: no tensor holds several numbers that could be resampled.
    """
    if not any(count > 1 and _may_be_weight(dtype) for count, dtype in sizes):
        raise GraphError(_weightless(model, place))


def check_classical(model: onnx.ModelProto, place: str) -> None:
    """Refuse ensembles of trees and other classical models at once: they hold their numbers in attributes.

    Millions of these make everything else slow. What only scales their inputs (a list of numbers) is no weight.

    Raises:
        GraphError: there are such ops, and no matrix beside them.
    """
    if _classical(model) and not any(_is_matrix(tensor) for _, tensor in all_tensors(model)):
        raise GraphError(_weightless(model, place))


def _classical(model: onnx.ModelProto) -> list[str]:
    """Names of the ops of classical models, once each."""
    nodes = (*model.graph.node, *(node for function in model.functions for node in function.node))
    return list(dict.fromkeys(node.op_type for node in nodes if node.domain == "ai.onnx.ml"))


def _is_matrix(tensor: onnx.TensorProto) -> bool:
    known = tensor.data_type in {dtype.value for dtype in ir.DataType}
    return sum(size > 1 for size in tensor.dims) > 1 and (not known or _may_be_weight(ir.DataType(tensor.data_type)))


def _weightless(model: onnx.ModelProto, place: str) -> str:
    classical = _classical(model)
    why = f": {', '.join(classical[:3])} hold their numbers in attributes" if classical else ""
    return f"{place} has no weights to resize{why}; give a neural network"


def _may_be_weight(dtype: ir.DataType) -> bool:
    """Floating-point numbers, or the small integers that quantised weights are packed in."""
    return dtype.is_floating_point() or (dtype != ir.DataType.STRING and dtype.is_integer() and dtype.bitwidth <= 8)
