"""Keys of a graph's weights from what the exporter left: initializers' names, the scopes of nodes, the layers.

Exporters keep the names of parameters that they write as they are, and lose those of parameters that they compute with
(the transpose of a linear module's weight) or share (equal biases). What is lost is found again where a rule says for
certain what the tensor is; everything else stays lost, with a reason, for a checkpoint or the user to confirm.
"""

from __future__ import annotations

import re

import onnx_ir as ir

from bot_onnx._analysis.passes import Analysis
from bot_onnx._checkpoint.constants import find_shape_constants, idle_zeros
from bot_onnx._checkpoint.layers import complete_layers, follow_twins
from bot_onnx._checkpoint.places import Places, by_key
from bot_onnx._checkpoint.scopes import Scopes, called_again
from bot_onnx._checkpoint.signature import SOURCE_LINE, read_signature
from bot_onnx._checkpoint.signed import find_signed
from bot_onnx._checkpoint.sites import Site, join, module_path, named_modules_known, owner, sites_of
from bot_onnx._checkpoint.types import Array, Candidate, OpenAssignment
from bot_onnx._ops.nodes import FLOATS
from bot_onnx._patterns.closed_forms import is_held
from bot_onnx._patterns.parameters import is_setting

_PATH = re.compile(r"[A-Za-z_]\w*|\w+(\.\w+)+")
_GENERATED = re.compile(r"val_\d+(_\w+)?|onnx::.*|.*__layer_plus_\d+.*")
_CLONE = re.compile(r"(?P<original>.+?)__use\d+(_\d+)?")
_FOLDED = "the exporter has folded a batch norm into it; --like takes it apart, or export it in training mode, unfolded"
_LOST = "the exporter lost its name, and its values may be computed from several parameters"


def recover_keys(analysis: Analysis) -> OpenAssignment:
    """Find the key of every weight of an analysed graph.

    Returns:
        A assignment in which tensors without a certain key are lost.
    """
    graph = analysis.model.graph
    names = _Names(graph)
    assignment = OpenAssignment({})
    computed = {
        name
        for stack in analysis.structure.stacks
        if stack.closed_form and not is_held(stack.closed_form)
        for name in stack.tensors
    }
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or not any(True for _ in value.uses()):
            continue
        kept = names.kept(name)
        if tensor.dtype not in FLOATS:
            if kept and "." in name:
                assignment.left_out[name] = "a buffer of whole numbers, no parameter"
            continue
        if tensor.size < 2 and not (kept and names.tells_constants(name)):
            continue  # a constant of the computation
        assignment.shapes[name] = tuple(tensor.shape.numpy())
        if name in computed:
            assignment.left_out[name] = "a table that follows from the sizes, no parameter"
        elif is_setting(value):
            assignment.left_out[name] = "scales of an op, no parameter"
        elif names.unsaved(name):
            assignment.left_out[name] = "a buffer that the framework does not save"
        else:
            candidates, why = names.candidates(value)
            if candidates:
                assignment.confirm(name, candidates)
            else:
                assignment.lose(name, why)
    _lose_contested(assignment, graph)
    complete_layers(assignment, analysis.structure)
    follow_twins(assignment, analysis.structure)
    find_signed(assignment, graph, names.places)
    complete_layers(assignment, analysis.structure)
    assignment.left_out |= {name: why for name, why in find_shape_constants(assignment, graph).items()}
    for name in assignment.left_out:
        assignment.lost.pop(name, None)
    assignment.idle |= idle_zeros(assignment, graph)
    return assignment


def _held(graph: ir.Graph) -> dict[str, dict[tuple[str, int], Array]]:
    """The floating-point initializers that the nodes of every scope use, by op and input slot; of several the first."""
    held: dict[str, dict[tuple[str, int], Array]] = {}
    for node in graph:
        path = module_path(node)
        for slot, value in enumerate(node.inputs):
            tensor = None if value is None or path is None else value.const_value
            if tensor is not None and tensor.dtype in FLOATS and path is not None:
                held.setdefault(path, {}).setdefault((node.op_type, slot), tensor.numpy())
    return held


def _lose_contested(assignment: OpenAssignment, graph: ir.Graph) -> None:
    """Lose tensors that places give the same key though they differ: the places say too little then."""
    for key, candidates in by_key(assignment.candidates).items():
        placed = [candidate for candidate in candidates if candidate.how == "scope"]
        if len(candidates) < 2 or not placed:
            continue
        first = candidates[0].outward(_read(graph, candidates[0].tensor))
        for candidate in candidates[1:]:
            other = candidate.outward(_read(graph, candidate.tensor))
            if other.shape != first.shape or (other != first).any():
                for each in placed:
                    assignment.lose(each.tensor, f"its place says {key!r}, but so does that of another tensor")
                break


def _read(graph: ir.Graph, name: str) -> Array:
    tensor = graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


class _Names:
    """Which initializers have their parameter's name, and what the places of their uses say."""

    def __init__(self, graph: ir.Graph) -> None:
        self._named = named_modules_known(graph)
        self._scoped = any(module_path(node) is not None for node in graph)
        self._signature = read_signature(graph)
        self._shared = {found["original"] for name in graph.initializers if (found := _CLONE.fullmatch(name))}
        self._roots = {name for name in graph.initializers if "." not in name and self._given_at_root(graph, name)}
        dotted = {name: value for name, value in graph.initializers.items() if "." in name and self.kept(name)}
        seen = [
            (path, owner(name))
            for name, value in dotted.items()
            for usage in value.uses()
            if (path := module_path(usage.node)) is not None
        ]
        paths = {path for node in graph if (path := module_path(node))}
        again = set() if self._named else called_again(_held(graph))
        scopes = Scopes(seen, paths, {owner(name) for name in dotted}, again)
        types = {value.const_value.dtype for value in dotted.values() if value.const_value is not None}
        self.places = Places(scopes, self._signature, self.kept, frozenset(types & FLOATS))
        self._trusted = scopes.trusted

    def kept(self, name: str) -> bool:
        """Whether an initializer's name is its parameter's."""
        if _GENERATED.fullmatch(name) or _CLONE.fullmatch(name) or not _PATH.fullmatch(name):
            return False
        # The newer exporter names what it computed while exporting like a parameter of the outermost module.
        return "." in name or not self._named or name in self._roots

    def unsaved(self, name: str) -> bool:
        """Whether the exporter says that a tensor is a buffer that stays out of state dicts."""
        return self._signature is not None and name in self._signature.unsaved

    def tells_constants(self, name: str) -> bool:
        """Whether a number with this name must be a parameter: exporters that keep names give constants others."""
        return "." in name or self._named or self._scoped

    def candidates(self, value: ir.Value) -> tuple[tuple[Candidate, ...], str]:
        """What an initializer is; empty with a reason where that is not certain."""
        name = value.name or ""
        sites = sites_of(value)
        if any(site.folded for site in sites):
            return (
                (),
                _FOLDED,
            )
        if self.kept(name):
            return self._of_kept(name, sites), ""
        if not self._trusted:
            return (), "the exporter lost its name, and no scope of the nodes that use it tells it"
        clone = _CLONE.fullmatch(name)
        if clone is not None and self.kept(clone["original"]):
            placed = {self._key_of_clone(site, clone["original"]) for site in sites}
            if len(placed) == 1 and None not in placed:
                return tuple(Candidate(key, name, "scope") for key in placed if key is not None), ""
            return (), f"it is shared with {clone['original']!r}, and its place does not tell its name"
        return self._of_place(value, sites)

    def _of_kept(self, name: str, sites: list[Site]) -> tuple[Candidate, ...]:
        if name in self._shared and self._trusted:
            # Equal tensors were stored once, under the name of any of them: only its place says whose this use is.
            keys = {self._key_of_clone(site, name) or name for site in sites}
            return tuple(Candidate(key, name, "name" if key == name else "scope") for key in sorted(keys))
        aliases = {key for site in sites if (key := self._alias(name, site)) is not None}
        keys_in_order = dict.fromkeys([name, *sorted(aliases)])
        return tuple(Candidate(key, name, "name" if key == name else "scope") for key in keys_in_order)

    def _of_place(self, value: ir.Value, sites: list[Site]) -> tuple[tuple[Candidate, ...], str]:
        name = value.name or ""
        if sites and all(site.linear and site.leaf is not None for site in sites):
            found = [self.places.linear(site, name) for site in sites]
        elif sites:
            found = [norm for site in sites if (norm := self.places.norm(site, value)) is not None]
            if len(found) < len(sites):
                return (), _LOST
        else:
            return (), _LOST
        reason = next((each for each in found if isinstance(each, str)), None)
        if reason is not None:
            return (), reason
        candidates = {candidate.key: candidate for candidate in found if isinstance(candidate, Candidate)}
        return tuple(candidates[key] for key in sorted(candidates)), ""

    def _alias(self, name: str, site: Site) -> str | None:
        """Second key of a tensor that is tied: another module uses it as its own parameter."""
        if not self._trusted or site.leaf is None or site.path is None:
            return None
        module, own = self.places.scopes.module(site.path), owner(name)
        if module is None or not self.places.scopes.innermost(site.path):
            return None
        inside = own == module or own.startswith(f"{module}.") or module == ""
        return None if inside else join(module, site.leaf)

    def _key_of_clone(self, site: Site, original: str) -> str | None:
        """Key of a tensor that was shared because its values were equal: its place, and its op or the original's."""
        module = None if site.path is None else self.places.scopes.module(site.path)
        key = None if module is None else join(module, site.leaf or original.rpartition(".")[2])
        if self._signature is None or key in self._signature.keys.values():
            return key
        given = [key for key in self._signature.given(site.node) if key is not None]
        fitting = [key for key in given if key.rpartition(".")[2] == site.leaf] or given
        return fitting[0] if len(fitting) == 1 else None

    def _given_at_root(self, graph: ir.Graph, name: str) -> bool:
        """Whether a node's source line names ``name`` as a parameter or buffer of the outermost module."""
        texts = (usage.node.metadata_props.get(SOURCE_LINE, "") for usage in graph.initializers[name].uses())
        return any(re.search(rf"%[pb]_{re.escape(name)}\b", text) for text in texts)
