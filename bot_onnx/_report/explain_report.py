"""Why something is as it is: what ``inspect --explain`` shows of a dim, a tensor or a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType

from bot_onnx._report.dims import composition, fixed_reason
from bot_onnx._report.layout import cell, facts, table
from bot_onnx._structure import SPEC_ROLES, Dim, Role, Stack, Structure
from bot_onnx._target.messages import suggested, suggestion
from bot_onnx.errors import DimError

_SHOWN = 12  # axes that are listed


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node of the graph: its op, and the names of what it reads."""

    name: str
    op: str
    inputs: tuple[str, ...]


def explanation(structure: Structure, word: str, nodes: Mapping[str, NodeFacts]) -> dict[str, Any]:
    """What is known of a dim (by name or id), a tensor or a node, as a JSON value.

    Args:
        structure: of the model. word: what is asked for. nodes: of the graph, by name.

    Raises:
        DimError: there is nothing of that name.
    """
    by_name = {dim.name: dim for dim in structure.dims.values()} | structure.dims
    if word in by_name:
        return {"dims": [_dim(structure, by_name[word])], "tensors": [], "node": None}
    tensors = {tensor for dim in structure.dims.values() for tensor, _ in dim.occurrences}
    tensors |= {tensor for stack in structure.stacks for tensor in stack.tensors}
    if word in tensors:
        told = _tensor(structure, word)
        return {
            "dims": [_dim(structure, structure.dims[one]) for one in _idents(told)],
            "tensors": [told],
            "node": None,
        }
    if word in nodes:
        node = nodes[word]
        read = [_tensor(structure, name) for name in dict.fromkeys(node.inputs) if name in tensors]
        fixed = [d.id for d in structure.dims.values() if d.frozen is not None and d.frozen.node == word]
        idents = dict.fromkeys([*(one for told in read for one in _idents(told)), *fixed])
        about = {"name": node.name, "op": node.op, "fixes": [structure.dims[one].name for one in fixed]}
        return {"dims": [_dim(structure, structure.dims[one]) for one in idents], "tensors": read, "node": about}
    known = [*by_name, *sorted(tensors), *nodes]
    raise DimError(
        f"no dim, tensor or node is called '{word}'{suggestion(word, known)}",
        dim=word,
        alternatives=suggested(word, known),
    )


def _dim(structure: Structure, dim: Dim) -> dict[str, Any]:
    dims = structure.dims
    other = [
        two if one == dim.id else one for one, two in (*structure.equal_sizes, *structure.dealt) if dim.id in (one, two)
    ]
    reason = fixed_reason(dim, dims)
    return {
        "id": dim.id,
        "name": dim.name,
        "size": dim.size,
        "kind": dim.kind,
        "role": str(dim.role),
        "made_of": composition(dim, dims),
        "part_of": [each.name for each in dims.values() if dim.id in each.parts],
        "same_size_as": [dims[ident].name for ident in other],
        "axes": [[tensor, axis] for tensor, axis in dim.occurrences],
        "stacks": [_carries(stack, dim.id) for stack in structure.stacks if dim.id in stack.axes],
        "outputs": list(dim.outputs),
        "resizable": reason is None,
        "reason": reason,
        "node": None if dim.frozen is None else dim.frozen.node or None,
        "moved_by": [] if reason is not None else _moved_by(dim, dims),
    }


def _carries(stack: Stack, ident: str) -> str:
    """A stack, with how it reads or makes the dim."""
    ways = {"out": "makes it", "in": "sums over it", "index": "is looked up along it", "none": "has it"}
    found = [ways[way] for axis, way in zip(stack.axes, stack.directions, strict=False) if axis == ident]
    layers = "" if stack.chain is None else f" in every layer of {stack.chain}"
    return f"{stack.name} {' and '.join(dict.fromkeys(found))}{layers}"


def _moved_by(dim: Dim, dims: Mapping[str, Dim]) -> list[str]:
    """Options of ``resize`` that change its size."""
    if dim.parts:
        free = [dims[part] for part in dict.fromkeys(dim.parts) if fixed_reason(dims[part], dims) is None]
        return list(dict.fromkeys(option for part in free for option in _moved_by(part, dims)))
    own = [] if dim.role not in SPEC_ROLES else [f"--{dim.role.replace('_', '-')} N"]
    scaled = [] if dim.outputs or dim.role in (Role.VOCAB, Role.POSITIONS) else ["--width F"]
    return [*own, f"--dim {dim.name}=N", *scaled]


def _tensor(structure: Structure, name: str) -> dict[str, Any]:
    axes = {axis: dim.id for dim in structure.dims.values() for tensor, axis in dim.occurrences if tensor == name}
    stack = next((stack for stack in structure.stacks if name in stack.tensors), None)
    return {
        "name": name,
        "axes": [
            [axis, ident, structure.dims[ident].name, structure.dims[ident].size]
            for axis, ident in sorted(axes.items())
        ],
        "stack": None if stack is None else stack.name,
        "kind": None if stack is None else stack.kind,
        "chain": None if stack is None else stack.chain,
        "layer": stack.tensors.index(name)
        if stack is not None and stack.chain is not None and not stack.shared
        else None,
        "closed_form": None if stack is None else stack.closed_form,
    }


def _idents(tensor: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(ident for _, ident, _, _ in tensor["axes"]))


def explain_report(told: Mapping[str, Any]) -> Group:
    """The same, to be read."""
    parts: list[RenderableType] = []
    if (node := told["node"]) is not None:
        fixes = ", ".join(node["fixes"]) or "no dim"
        parts += [facts({"node": node["name"], "op": node["op"], "fixes": fixes}), ""]
    for tensor in told["tensors"]:
        place = None if tensor["chain"] is None else f"{tensor['chain']}, layer {tensor['layer']}"
        shape = " x ".join(f"{name} {size} (axis {axis})" for axis, _, name, size in tensor["axes"])
        about = {"tensor": tensor["name"], "axes": shape, "kind": tensor["kind"], "layers": place}
        parts += [facts(about | {"stack": tensor["stack"], "closed form": tensor["closed_form"]}), ""]
    for dim in told["dims"]:
        parts += [_dim_facts(dim), _axes_table(dim), ""]
    return Group(*parts[:-1])


def _dim_facts(dim: Mapping[str, Any]) -> RenderableType:
    because = "yes" if dim["resizable"] else f"no: {dim['reason']}"
    return facts(
        {
            "dim": f"{dim['name']} ({dim['id']}), size {dim['size']}",
            "role": dim["role"],
            "made of": dim["made_of"] or None,
            "part of": ", ".join(dim["part_of"]) or None,
            "as large as": ", ".join(dim["same_size_as"]) or None,
            "resizable": because,
            "node": dim["node"],
            "outputs": ", ".join(dim["outputs"]) or None,
            "moved by": " or ".join(dim["moved_by"]) or None,
        }
    )


def _axes_table(dim: Mapping[str, Any]) -> RenderableType:
    if not dim["axes"]:
        return cell("No tensor has it: activations alone.")
    made = table(f"Carried by {len(dim['axes'])} axes", ["what"])
    rows = dim["stacks"] or [f"{tensor}, axis {axis}" for tensor, axis in dim["axes"]]
    for row in rows[:_SHOWN]:
        made.add_row(cell(row))
    if len(rows) > _SHOWN:
        made.add_row(f"and {len(rows) - _SHOWN} more (--json has all)")
    return made
