"""What two spellings of one network must have in common."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bot_onnx._align.stream_walk import find_stream
from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._structure import Structure

Facts = dict[str, object]


def understood(model: onnx.ModelProto) -> Analysis:
    """The analysis of a copy of ``model``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return analyse(ir.from_proto(copy))


def facts(analysis: Analysis, *, shapes: bool = True) -> Facts:
    """Dims, roles, chains, stacks and what can be rotated, by the names of the weights, without ids.

    Args:
        analysis: of the model.
        shapes: also say shapes and directions of axes, which another layout of a weight changes.
    """
    structure = analysis.structure
    held = {name for stack in structure.stacks for name in stack.tensors if stack.dtype == "FLOAT"}
    stacks = sorted((s for s in structure.stacks if s.dtype == "FLOAT"), key=lambda stack: stack.tensors)
    labels: dict[str, str] = {}
    for stack in stacks:
        for dim in stack.axes if shapes else sorted(filter(None, stack.axes), key=lambda d: structure.dims[d].size):
            _label(structure, dim, labels)
    found: Facts = {}
    for stack in stacks:
        axes = [labels.get(dim or "") for dim in stack.axes]
        found["stack " + ",".join(stack.tensors)] = (
            stack.kind,
            stack.writes_residual,
            stack.score_parts,
            stack.positive,
            stack.norm_position,
            stack.closed_form,
            stack.offset,
            (stack.shape, axes, stack.directions) if shapes else tuple(sorted(filter(None, axes))),
        )
    for ident, label in labels.items():
        dim = structure.dims[ident]
        parts = tuple(labels[part] for part in dim.parts)
        found[f"dim {label}"] = (dim.size, dim.kind, parts, dim.role, dim.frozen is None, dim.outputs)
    found["chains"] = [(c.count, c.leading, c.resizable is None, c.residual) for c in structure.chains]
    found["residual"] = structure.residual
    stream = find_stream(analysis)
    found["rotated"] = (stream.obstacle is None, sorted(stream.writers), [_norm(norm) for norm in stream.norms])
    found["scales"] = sorted(
        {(scale.formula is None, structure.dims[analysis.ids[scale.dim]].role) for scale in analysis.scales}
    )
    found["names"] = sorted(held)
    return found


def _norm(norm: object) -> tuple[object, ...]:
    readers = [(reader.weight, reader.bias) for reader in norm.readers]  # type: ignore[attr-defined]
    return (norm.scale, norm.bias, norm.centred, readers)  # type: ignore[attr-defined]


def _label(structure: Structure, dim: str | None, labels: dict[str, str]) -> None:
    if dim is None or dim in labels:
        return
    for part in structure.dims[dim].parts:
        _label(structure, part, labels)
    labels[dim] = f"{len(labels)}"


def difference(first: Facts, second: Facts) -> list[str]:
    """What the second says differently, a line each."""
    keys = dict.fromkeys([*first, *second])
    return [f"{key}: {first.get(key)} / {second.get(key)}" for key in keys if first.get(key) != second.get(key)]
