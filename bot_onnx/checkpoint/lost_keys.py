"""Keys of a graph's weights from what the exporter left: initializers' names, the scopes of nodes, the layers.

Exporters keep the names of parameters that they write as they are, and lose those of parameters that they compute with
(the transpose of a linear module's weight) or share (equal biases). What is lost is found again where a rule says for
certain what the tensor is; everything else stays lost, with a reason, for a checkpoint or the user to settle.
"""

from __future__ import annotations

import re

import onnx_ir as ir

from bot_onnx.checkpoint.layers import claim_twins, complete_layers
from bot_onnx.checkpoint.sites import Site, join, module_path, named_modules_known, owner, sites_of
from bot_onnx.checkpoint.types import Claim, Draft
from bot_onnx.graph.analysis import Analysis
from bot_onnx.graph.normalise import FLOATS
from bot_onnx.graph.parameters import is_setting

_PATH = re.compile(r"[A-Za-z_]\w*|\w+(\.\w+)+")
_GENERATED = re.compile(r"val_\d+(_\w+)?|onnx::.*|.*__layer_plus_\d+.*")
_CLONE = re.compile(r"(?P<original>.+?)__use\d+(_\d+)?")


def recover_keys(analysis: Analysis) -> Draft:
    """Find the key of every weight of an analysed graph.

    Returns:
        A draft in which tensors without a certain key are lost.
    """
    graph = analysis.model.graph
    names = _Names(graph)
    draft = Draft({})
    rotary = {name for stack in analysis.structure.stacks if stack.closed_form for name in stack.tensors}
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or not any(True for _ in value.uses()):
            continue
        kept = names.kept(name)
        if tensor.dtype not in FLOATS:
            if kept and "." in name:
                draft.left_out[name] = "a buffer of whole numbers, no parameter"
            continue
        if tensor.size < 2 and not (kept and names.tells_constants(name)):
            continue  # a constant of the computation
        draft.shapes[name] = tuple(tensor.shape.numpy())
        if name in rotary:
            draft.left_out[name] = "a table that follows from the sizes, no parameter"
            continue
        if is_setting(value):
            draft.left_out[name] = "scales of an op, no parameter"
            continue
        claims, why = names.claims(value)
        if claims:
            draft.settle(name, claims)
        else:
            draft.lose(name, why)
    complete_layers(draft, analysis.structure)
    claim_twins(draft, analysis.structure)
    return draft


class _Names:
    """Which initializers have their parameter's name, and what the places of their uses say."""

    def __init__(self, graph: ir.Graph) -> None:
        self._named = named_modules_known(graph)
        self._scoped = any(module_path(node) is not None for node in graph)
        self._shared = {found["original"] for name in graph.initializers if (found := _CLONE.fullmatch(name))}
        self._roots = {name for name in graph.initializers if "." not in name and self._given_at_root(graph, name)}
        self._trusted = self._scopes_agree(graph)

    def kept(self, name: str) -> bool:
        """Whether an initializer's name is its parameter's."""
        if _GENERATED.fullmatch(name) or _CLONE.fullmatch(name) or not _PATH.fullmatch(name):
            return False
        # The newer exporter names what it computed while exporting like a parameter of the outermost module.
        return "." in name or not self._named or name in self._roots

    def tells_constants(self, name: str) -> bool:
        """Whether a number with this name must be a parameter: exporters that keep names give constants others."""
        return "." in name or self._named or self._scoped

    def claims(self, value: ir.Value) -> tuple[tuple[Claim, ...], str]:
        """What an initializer is; empty with a reason where that is not certain."""
        name = value.name or ""
        sites = sites_of(value)
        if any(site.folded for site in sites):
            return (), "the exporter has folded a batch norm into it; export the model in training mode, unfolded"
        if self.kept(name) and name in self._shared and self._trusted:
            # Equal tensors were stored once, under the name of any of them: only its place says whose this use is.
            keys = {_key_of_clone(site, name) or name for site in sites}
            return tuple(Claim(key, name, "name" if key == name else "scope") for key in sorted(keys)), ""
        if self.kept(name):
            aliases = {key for site in sites if (key := self._alias(name, site)) is not None}
            return tuple(
                Claim(key, name, "name" if key == name else "scope") for key in dict.fromkeys([name, *sorted(aliases)])
            ), ""
        if not self._trusted:
            return (), "the exporter lost its name, and no scope of the nodes that use it tells it"
        clone = _CLONE.fullmatch(name)
        if clone is not None and self.kept(clone["original"]):
            placed = {_key_of_clone(site, clone["original"]) for site in sites}
            if len(placed) == 1 and None not in placed:
                return tuple(Claim(key, name, "scope") for key in placed if key is not None), ""
            return (), f"it is shared with {clone['original']!r}, and its place does not tell its name"
        linear = [site for site in sites if site.linear and site.key is not None]
        if sites and len(linear) == len(sites):
            found = {key for site in linear if (key := site.key) is not None}
            return tuple(Claim(key, name, "scope", (1, 0)) for key in sorted(found)), ""
        return (), "the exporter lost its name, and its values may be computed from several parameters"

    def _alias(self, name: str, site: Site) -> str | None:
        """Second key of a tensor that is tied: another module uses it as its own parameter."""
        if not self._trusted or site.key is None or site.path is None:
            return None
        own = owner(name)
        inside = own == site.path or own.startswith(f"{site.path}.") or site.path == ""
        return None if inside else site.key

    def _scopes_agree(self, graph: ir.Graph) -> bool:
        """Whether the scopes, as they are read here, are the owners of those parameters whose names were kept."""
        right = wrong = 0
        for name, value in graph.initializers.items():
            if "." not in name or not self.kept(name):
                continue
            paths = {path for usage in value.uses() if (path := module_path(usage.node)) is not None}
            right += owner(name) in paths
            wrong += bool(paths) and owner(name) not in paths
        return right >= max(1, wrong)

    def _given_at_root(self, graph: ir.Graph, name: str) -> bool:
        """Whether a node's source line names ``name`` as a parameter or buffer of the outermost module."""
        texts = (
            usage.node.metadata_props.get("pkg.torch.onnx.fx_node", "") for usage in graph.initializers[name].uses()
        )
        return any(re.search(rf"%[pb]_{re.escape(name)}\b", text) for text in texts)


def _key_of_clone(site: Site, original: str) -> str | None:
    """Key of a tensor that was shared because its values were equal: its place, and its op or the original's leaf."""
    if site.path is None:
        return None
    return join(site.path, site.leaf or original.rpartition(".")[2])
