"""What the place of a tensor whose name was lost says of it: the op, its module, and the parameters beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from bot_onnx._checkpoint.scopes import Scopes
from bot_onnx._checkpoint.signature import Signature
from bot_onnx._checkpoint.sites import Site, join, module_path, owner
from bot_onnx._checkpoint.types import Candidate
from bot_onnx._ops import Calc, computes, is_affine, is_layer_norm, is_statistic, is_sum, reduces

_LINEAR_CALLS = ("aten.linear",)
_ADDED = re.compile(r"add(_\d+)?(__use\d+(_\d+)?)?")


@dataclass(frozen=True, slots=True)
class Places:
    """The modules of a graph, as far as nodes and kept names tell them.

    Attributes:
        scopes: the modules behind scopes.
        signature: of the exported module, or None.
        kept: whether a name is its parameter's.
        computes_in: data types of the parameters whose names were kept.
    """

    scopes: Scopes
    signature: Signature | None
    kept: Callable[[str], bool]
    computes_in: frozenset[ir.DataType]

    def linear(self, site: Site, name: str) -> Candidate | str:
        """The weight of a linear map, which the exporter has transposed; or why it is not certain."""
        given = self._given(site.node)
        if len(given) > 1 and given[1] is not None:
            return Candidate(given[1], name, "scope", (1, 0))
        bias = _bias_beside(site)
        if bias is not None and self.kept(bias) and bias.endswith("bias") and "__use" not in bias:
            return Candidate(bias.removesuffix("bias") + "weight", name, "scope", (1, 0))
        module = None if site.path is None else self.scopes.module(site.path)
        if module is None or site.path is None:
            return "the exporter lost its name, and no scope of the nodes that use it tells it"
        if not self.scopes.innermost(site.path):
            return f"it is a weight that {module or 'the outermost module'!r} uses, but which module's is not known"
        return Candidate(join(module, "weight"), name, "scope", (1, 0))

    def norm(self, site: Site, value: ir.Value) -> Candidate | str | None:
        """The scale or bias of a normalisation; why that is not certain; or None where it is none.

        A name is lost where the exporter computed with the parameter. A view shows in the shape. Where there is none,
        one was added to a scale: ``(1 + w) * x`` is what norms do whose weights are drawn to zero.
        """
        tensor, node = value.const_value, site.node
        if tensor is None or site.path is None or not self.scopes.innermost(site.path):
            return None
        module, shape = self.scopes.module(site.path), tuple(tensor.shape.numpy())
        wide = [axis for axis, size in enumerate(shape) if size > 1]
        leaf = site.leaf if is_layer_norm(node) else "weight" if computes(node, Calc.PRODUCT) else None
        leaf = "bias" if is_sum(node) else leaf
        if module is None or leaf is None or len(wide) != 1 or not self._normalises(node, site):
            return None
        candidate = Candidate(join(module, leaf), value.name or "", "scope")
        if len(shape) > 1:
            return replace(candidate, perm=(wide[0],))
        if leaf != "weight":
            return f"it is {candidate.key!r}, or was computed from it"
        made_by_add = self.signature is None or _ADDED.fullmatch(value.name or "") is not None
        if not made_by_add or self.computes_in != {tensor.dtype}:
            return f"it was computed from {candidate.key!r}, and how is not known"
        return replace(candidate, shift=1.0)

    def _given(self, node: ir.Node) -> list[str | None]:
        """The arguments of the call of a linear function that a node comes from."""
        if self.signature is None:
            return []
        classes = node.metadata_props.get("pkg.torch.onnx.class_hierarchy", "")
        return self.signature.given(node) if any(call in classes for call in _LINEAR_CALLS) else []

    def _normalises(self, node: ir.Node, site: Site) -> bool:
        """Whether a node scales or shifts, in the module of the norm, what was divided by its size."""
        if is_layer_norm(node):
            return True
        others = [value for slot, value in enumerate(node.inputs) if value is not None and slot != site.slot]
        pending = [value.producer() for value in others]
        seen: set[ir.Node] = set()
        while pending:
            current = pending.pop()
            if current is None or current in seen or module_path(current) != site.path:
                continue
            if is_statistic(current) or reduces(current, "sum"):  # how large values are: a norm divides by it
                return True
            seen.add(current)
            pending += [value.producer() for value in current.inputs if value is not None]
        return False


def _bias_beside(site: Site) -> str | None:
    """Name of the tensor that a linear op adds to its product, or that the only Add after it does."""
    node = site.node
    if is_affine(node):
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return None if bias is None or bias.const_value is None else bias.name
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or not is_sum(uses[0].node):
        return None
    other = uses[0].node.inputs[1 - uses[0].idx]
    if other is None or other.const_value is None or module_path(uses[0].node) != site.path:
        return None
    return other.name if len(other.const_value.shape) == 1 else None


def free_keys(places: Places, taken: set[str], site: Site) -> list[str]:
    """Entries of the exported module, without a tensor yet, that a call was given, else those in its module."""
    signature = places.signature
    if signature is None or site.path is None:
        return []
    given = [key for key in signature.given(site.node) if key is not None and key not in taken]
    inside = [
        key
        for key in signature.keys.values()
        if key not in taken and (owner(key) == site.path or key.startswith(f"{site.path}.") or site.path == "")
    ]
    return given or inside


def by_key(candidates: Mapping[str, tuple[Candidate, ...]]) -> dict[str, list[Candidate]]:
    """Claims of tensors, by key."""
    found: dict[str, list[Candidate]] = {}
    for held in candidates.values():
        for candidate in held:
            found.setdefault(candidate.key, []).append(candidate)
    return found
