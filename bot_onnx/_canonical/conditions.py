"""What is true of a graph after certain rewrites to the canonical form; looked for in tests (see ``normalise``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from bot_onnx._canonical.constants import clonable
from bot_onnx._canonical.decompose.fused import fused_nodes
from bot_onnx._ops import record


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is true of a model or not.

    Attributes:
        text: what is true. breaks: the nodes or values that show that it is not, by name.
    """

    text: str
    breaks: Callable[[ir.Model], list[str]]

    def check(self, model: ir.Model) -> None:
        """Say what breaks the condition, if anything does.

        Raises:
            ValueError: it does not hold.
        """
        found = self.breaks(model)
        if found:
            raise ValueError(f"it is not true that {self.text}: {', '.join(found[:3])}")


def _calls(model: ir.Model) -> list[str]:
    called = {identifier[:2] for identifier in model.functions}
    return [_name(node) for node in model.graph if (node.domain, node.op_type) in called]


def _bodies(model: ir.Model) -> list[str]:
    return [_name(node) for node in model.graph if record(node).bodies and node.domain in ("", "ai.onnx")]


def _constants(model: ir.Model) -> list[str]:
    return [_name(node) for node in _named(model, "Constant") if not node.outputs[0].is_graph_output()]


def _identities(model: ir.Model) -> list[str]:
    return [_name(node) for node in _named(model, "Identity") if not node.outputs[0].is_graph_output()]


def _sums(model: ir.Model) -> list[str]:
    return [_name(node) for node in _named(model, "Sum") if len(node.inputs) > 1]


def _fused(model: ir.Model) -> list[str]:
    return [_name(node) for node in fused_nodes(model.graph)]


def _given_weights(model: ir.Model) -> list[str]:
    return [value.name or "" for value in model.graph.inputs if value.name in model.graph.initializers]


def _unread(model: ir.Model) -> list[str]:
    return [
        _name(node)
        for node in model.graph
        if not any(output.is_graph_output() or any(True for _ in output.uses()) for output in node.outputs)
    ]


def _disorder(model: ir.Model) -> list[str]:
    done: set[ir.Node] = set()
    found: list[str] = []
    for node in model.graph:
        makers = (value.producer() for value in node.inputs if value is not None)
        if any(maker is not None and maker.graph is model.graph and maker not in done for maker in makers):
            found.append(_name(node))
        done.add(node)
    return found


def _shared(model: ir.Model) -> list[str]:
    return [
        value.name or ""
        for value in model.graph.initializers.values()
        if not value.is_graph_output() and len(tuple(value.uses())) > 1 and clonable(value)
    ]


def _named(model: ir.Model, op: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == op and node.domain in ("", "ai.onnx")]


def _name(node: ir.Node) -> str:
    return f"{node.op_type} {node.name}"


NO_CALLS = Condition("no function of the model is called", _calls)
ONE_GRAPH = Condition("no node has a body", _bodies)
NO_CONSTANTS = Condition("constants are initializers", _constants)
NO_IDENTITIES = Condition("Identity nodes only show outputs", _identities)
SUMS_OF_TWO = Condition("sums are Adds", _sums)
NOTHING_FUSED = Condition("no op is fused", _fused)
WEIGHTS_INSIDE = Condition("no initializer can be given as an input", _given_weights)
ALL_READ = Condition("something reads every node", _unread)
IN_ORDER = Condition("nodes stand after what they read", _disorder)
OWN_CONSTANTS = Condition("unrelated uses share no constant", _shared)
