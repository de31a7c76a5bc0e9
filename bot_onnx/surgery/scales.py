"""Bring scalar factors to new sizes: the scales of attention scores, and what the spec gives a formula for."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose

import numpy as np
import onnx_ir as ir

from bot_onnx.errors import DimError, SpecError
from bot_onnx.graph.analysis import Analysis, Scale
from bot_onnx.graph.closed_forms import SCALES
from bot_onnx.graph.normalise import FLOATS
from bot_onnx.spec import evaluate, size_names
from bot_onnx.surgery.sizes import add_constant
from bot_onnx.surgery.types import ConstantPatch


def patch_scales(analysis: Analysis, sizes: Mapping[str, int], given: Mapping[str, str | float]) -> list[ConstantPatch]:
    """Update scale factors, in place.

    Args:
        analysis: of the graph; its model is changed.
        sizes: new size per dim id.
        given: formulas (or numbers) by node name, from the spec.

    Raises:
        DimError: head_dim changes and no formula explains a factor of attention scores.
        SpecError: a formula is given for a node that has no scalar factor.
    """
    patches = [_given(analysis, sizes, name, formula) for name, formula in given.items()]
    for scale in analysis.scales:
        if (scale.scalar.node.name or "") in given:
            continue
        number = _follow(analysis, scale, sizes)
        if number is not None:
            name = analysis.structure.dims[analysis.ids[scale.dim]].name if scale.dim in analysis.ids else "head_dim"
            reason = (scale.formula or "").replace("n", name)
            patches.append(_write(analysis, scale.scalar.node, scale.scalar.slot, number, reason))
    return patches


def _follow(analysis: Analysis, scale: Scale, sizes: Mapping[str, int]) -> float | None:
    """New value of a factor, or None where it stays."""
    old = analysis.context.table.size(scale.dim)[0]
    new = analysis.new_size(scale.dim, dict(sizes))[0]
    if old == new:
        return None
    if scale.formula is None:
        node = scale.scalar.node
        raise DimError(
            f"head_dim goes from {old} to {new}, and the factor {scale.scalar.value:g} of attention scores in "
            f"{node.op_type} (node {node.name!r}) is no known formula of it; say how it follows in the spec: "
            f'"constants": {{"{node.name}": "1/sqrt(head_dim)"}}'
        )
    number = SCALES[scale.formula](new)
    return None if isclose(number, scale.scalar.value, rel_tol=1e-9) else number


def _given(analysis: Analysis, sizes: Mapping[str, int], name: str, formula: str | float) -> ConstantPatch:
    node = next((node for node in analysis.model.graph if node.name == name), None)
    if node is None:
        raise SpecError(f"constants: the graph has no node {name!r}; use a name that an error or a viewer shows")
    slots: list[int | str] = [
        slot
        for slot, value in enumerate(node.inputs)
        if value is not None
        and (tensor := value.const_value) is not None
        and tensor.size == 1
        and tensor.dtype in FLOATS
    ]
    slots += [name for name in ("scale", "alpha") if node.attributes.get_float(name, 0.0)]
    if len(slots) != 1:
        raise SpecError(f"constants: {node.op_type} (node {name!r}) has {len(slots)} scalar inputs, not one")
    number = evaluate(formula, size_names(analysis.structure, sizes))
    return _write(analysis, node, slots[0], number, f"{formula} (given)")


def _write(analysis: Analysis, node: ir.Node, slot: int | str, number: float, reason: str) -> ConstantPatch:
    if isinstance(slot, str):
        was = node.attributes[slot].as_float()
        node.attributes[slot] = ir.AttrFloat32(slot, number)
        return ConstantPatch(f"{node.name}.{slot}", was, number, reason)
    value = node.inputs[slot]
    assert value is not None and value.const_value is not None
    tensor = value.const_value
    old = float(tensor.numpy().reshape(-1)[0])
    array = np.full(tensor.shape.numpy(), number).astype(tensor.dtype.numpy())
    node.replace_input_with(slot, add_constant(analysis.model.graph, f"{value.name}__scaled", array))
    return ConstantPatch(f"{node.op_type} {node.name}", old, number, reason)
