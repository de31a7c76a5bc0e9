"""Text in a model's message that is no UTF-8: a fault where it is a name, replaced where it is a remark.

Protobuf hands out ``bytes`` for a text field that is not UTF-8, and everything that expects ``str`` fails much later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx

# Fields that only people read.
_REMARKS = frozenset({"doc_string", "producer_name", "producer_version", "denotation"})


def names_are_text(model: onnx.ModelProto) -> bool:
    """Whether the names in a model, its functions and the graphs within are valid UTF-8."""
    heads = [*_of_head(model, {"graph", "functions", "training_info"}), *_of_graph(model.graph)]
    bodies = (name for function in model.functions for name in _of_function(function))
    return all(isinstance(name, str) for name in heads) and all(isinstance(name, str) for name in bodies)


def mend_remarks(model: onnx.ModelProto) -> bool:
    """Replace what is no UTF-8 in remarks and metadata, in place; returns whether there was any."""
    found = [
        _mend(message)
        for message in (
            model,
            *model.metadata_props,
            model.graph,
            *model.graph.input,
            *model.graph.output,
            *model.graph.value_info,
            *model.graph.initializer,
            *model.functions,
        )
    ]
    nodes = [model.graph.node, *(function.node for function in model.functions)]
    return any([*found, *(_mend_nodes(each) for each in nodes)])


def _mend_nodes(nodes: Iterable[onnx.NodeProto]) -> bool:
    found = False
    for node in nodes:
        found |= _mend(node)
        for entry in node.metadata_props:
            found |= _mend(entry)
        for attribute in node.attribute:
            found |= _mend(attribute)
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _BODIES else ():
                found |= any([_mend(inner), *map(_mend, (*inner.input, *inner.output, *inner.value_info))])
                found |= _mend_nodes(inner.node)
            if attribute.HasField("t"):
                found |= _mend(attribute.t)
    return found


_BODIES = frozenset({onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS})


def _mend(message: Any) -> bool:
    """Replace what is no text in the remarks of one message, or in one entry of metadata."""
    names: tuple[str, ...] = ("key", "value") if isinstance(message, onnx.StringStringEntryProto) else ("doc_string",)
    if isinstance(message, onnx.ModelProto):
        names = ("doc_string", "producer_name", "producer_version")
    broken = [name for name in names if isinstance(getattr(message, name), bytes)]
    for name in broken:
        setattr(message, name, getattr(message, name).decode("utf-8", "replace"))
    return bool(broken)


def _of_head(message: Any, without: set[str]) -> Iterator[Any]:
    """Text fields of a message and of the messages in it, remarks and the fields ``without`` left out."""
    for field, content in message.ListFields():
        if field.name in without or field.name in _REMARKS or field.name == "metadata_props":
            continue
        for item in content if field.is_repeated else (content,):
            if field.type == field.TYPE_STRING:
                yield item
            elif field.type == field.TYPE_MESSAGE:
                yield from _of_head(item, set())


def _of_graph(graph: onnx.GraphProto) -> Iterator[Any]:
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield from _of_head(value, set())
    for tensor in graph.initializer:
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)
    yield from _of_nodes(graph.node)


def _of_function(function: onnx.FunctionProto) -> Iterator[Any]:
    yield from _of_head(function, {"node"})
    yield from _of_nodes(function.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[Any]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            if attribute.ref_attr_name:
                yield attribute.ref_attr_name
            if attribute.HasField("t"):
                yield attribute.t.name
            for inner in (attribute.g, *attribute.graphs) if attribute.type in _BODIES else ():
                yield from _of_graph(inner)
