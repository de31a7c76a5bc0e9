"""Where in the framework's tree of modules a node stands, and which parameter of its module an input of it is.

Both PyTorch exporters leave the module's path on their nodes: the older one in names
(``/encoder/layer.0/attention/self/query/MatMul``), the newer one in metadata.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache

import onnx_ir as ir

from bot_onnx._canonical.folded_norms import CLASSES, holds_norm
from bot_onnx._ops import VIEW, carries, is_sum, leaf_of, passes_on
from bot_onnx._ops.walk import uses

SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Site:
    """One use of a tensor.

    Attributes:
        node, slot: the op and which of its inputs.
        path: of the module, ``encoder.layer.0``; empty for the outermost; None where nothing says it.
        leaf: name of the parameter in its module, or None where the op does not tell.
        linear: the tensor holds a linear module's weight with its axes in the other order, as exporters fold it.
        folded: the exporter has multiplied a normalisation that followed into the tensor, whatever its name says.
    """

    node: ir.Node
    slot: int
    path: str | None
    leaf: str | None
    linear: bool
    folded: bool

    @property
    def key(self) -> str | None:
        """Path and leaf, if both are known."""
        return None if self.path is None or self.leaf is None else join(self.path, self.leaf)


def join(path: str, leaf: str) -> str:
    """Key of a parameter in the module at ``path``."""
    return f"{path}.{leaf}" if path else leaf


def owner(key: str) -> str:
    """Path of the module that has the parameter ``key``."""
    return key.rpartition(".")[0]


def sites_of(value: ir.Value) -> list[Site]:
    """Every use of an initializer, in the order of the graph's uses; views of it are skipped."""
    sites: list[Site] = []
    for node, slot in uses(value, lambda node, slot: carries(node, slot, VIEW)):
        read = node.inputs[slot]
        assert read is not None
        sites.append(_site(node, slot, read, read is value))
    return sites


def _site(node: ir.Node, slot: int, value: ir.Value, direct: bool) -> Site:
    path = module_path(node)
    leaf = leaf_of(node, slot)
    if is_sum(node) and path is not None and _follows_linear(node, slot, path):
        leaf = "bias"
    matrix = leaf == "weight" and value.const_value is not None and len(value.const_value.shape) == 2
    return Site(node, slot, path, leaf, direct and matrix and _folds_transpose(node), holds_norm(node))


def _follows_linear(node: ir.Node, slot: int, path: str) -> bool:
    """Whether an Add completes the product with a weight in the same module."""
    other = node.inputs[1 - slot]
    producer = other.producer() if other is not None else None
    if producer is None or producer.op_type != "MatMul" or module_path(producer) != path:
        return False
    weight = producer.inputs[1]
    while weight is not None and weight.const_value is None:
        view = weight.producer()
        weight = view.inputs[0] if view is not None and passes_on(view, VIEW) else None
    return weight is not None


def _folds_transpose(node: ir.Node) -> bool:
    """Whether a weight with these axes is a folded transpose of a linear module's.

    The newer exporter says which function the node comes from; the older one loses a weight's name only when it
    computes with it while exporting, and for a matrix that is the transpose.
    """
    if node.op_type == "Gemm":
        transposed = node.attributes.get("transB")
        if transposed is not None and transposed.as_int():
            return False
    elif node.op_type != "MatMul":
        return False
    classes = _texts(node.metadata_props.get(CLASSES, ""))
    return not classes or classes[-1].startswith("aten.linear")


def module_path(node: ir.Node) -> str | None:
    """Path of the module whose forward made ``node``, or None."""
    scopes = _texts(node.metadata_props.get(SCOPES, ""))
    if scopes:
        return scopes[-2] if len(scopes) > 1 else ""
    name = node.name or ""
    if not name.startswith("/"):
        return None
    # A called container stands before its called child, which carries the container's name as well: /blocks/blocks.0
    parts: list[str] = []
    for scope in name.split("/")[1:-1]:
        if parts and scope.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(scope)
    return ".".join(parts)


def named_modules_known(graph: ir.Graph) -> bool:
    """Whether the nodes carry the newer exporter's metadata."""
    return any(SCOPES in node.metadata_props for node in graph)


@lru_cache(4096)
def _texts(listed: str) -> tuple[str, ...]:
    """Texts of a list that was printed into metadata."""
    try:
        found = ast.literal_eval(listed) if listed else ()
    except (ValueError, SyntaxError):
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(text, str) for text in found) else ()
