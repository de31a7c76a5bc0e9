"""What the newer exporter says of the module that it exported: its parameters, its buffers, what a node was given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_LINE = re.compile(
    r"^(?P<name>\w+): (?P<kind>PARAMETER|BUFFER) target='(?P<key>[^']+)'(?P<unsaved> persistent=False)?", re.MULTILINE
)
SOURCE_LINE = "pkg.torch.onnx.fx_node"


@dataclass(frozen=True, slots=True)
class Signature:
    """The state of an exported module.

    Attributes:
        keys: entry of the state dict by the name that the exporter's own graph has for it, in the module's order.
        unsaved: keys of buffers that are no entries of the state dict.
    """

    keys: Mapping[str, str]
    unsaved: frozenset[str]

    def given(self, node: ir.Node) -> list[str | None]:
        """What the call that a node comes from was given, in order: keys, and None for what is no entry."""
        line = node.metadata_props.get(SOURCE_LINE, "").partition("args = (")[2].partition("kwargs")[0]
        return [self.keys.get(name) for name in re.findall(r"%(\w+)", line)]


def read_signature(graph: ir.Graph) -> Signature | None:
    """The signature that a graph carries, or None."""
    lines = list(_LINE.finditer(graph.metadata_props.get(_SIGNATURE, "")))
    if not lines:
        return None
    return Signature(
        {line["name"]: line["key"] for line in lines if not line["unsaved"]},
        frozenset(line["key"] for line in lines if line["unsaved"]),
    )
