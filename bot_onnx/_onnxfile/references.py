"""Attributes that stand for those of a function: only the body of one can have them."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from bot_onnx.errors import GraphError

_BODIES = frozenset({onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS})


def check_references(model: onnx.ModelProto, place: str) -> None:
    """Refuse attributes of the main graph, and of the bodies in it, that refer to those of a function.

    onnx.checker passes them, and onnxruntime takes the attribute for missing.

    Raises:
        GraphError: the first such attribute.
    """
    _check(model.graph.node, place)


def _check(nodes: Iterable[onnx.NodeProto], place: str) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise GraphError(
                    f"{node.op_type} node {node.name!r} of {place} takes its {attribute.name!r} from the attribute "
                    f"{attribute.ref_attr_name!r} of a function, but stands in none: export the model again",
                    node=node.name,
                )
            for body in (attribute.g, *attribute.graphs) if attribute.type in _BODIES else ():
                _check(body.node, place)
