"""Tables that are no trained weights, with the formulas that give their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.facts import AxisFacts
from bot_onnx._canonical.constants import is_literal
from bot_onnx._onnxfile.peeking import peeked
from bot_onnx._ops import FORM, Calc, Move, Slot, carries, computes, slot_of
from bot_onnx._ops.walk import forward
from bot_onnx._patterns.alibi import SLOPES, recognise_slopes
from bot_onnx._patterns.closed_forms import REPEATED, UNIFORM, recognise, recognise_cache
from bot_onnx._patterns.constant_tables import feeds_rotary, repeated_rows
from bot_onnx._patterns.decays import is_decay
from bot_onnx._patterns.fixed_vectors import is_fixed_vector, is_uniform_vector
from bot_onnx._patterns.parameters import Parameter
from bot_onnx._patterns.sinusoid_grids import recognise_sinusoid_grid
from bot_onnx._patterns.sinusoids import recognise_sinusoids
from bot_onnx._patterns.uniform import is_uniform, recognise_uniform
from bot_onnx._reasons import Reason, Why

#: What a norm without weights of its own has for them, where its op asks for some.
_UNTRAINED: dict[str, int] = {"norm_scale": 1, "norm_bias": 0}

_FAR = 32  #: forms of a table on the way to what reads it, at most

#: What weights are for that are never a table: networks learn them.
_TRAINED = frozenset({"matrix", "kernel"})

#: What weights are for that a table of slopes is not.
_NEVER_SLOPES = frozenset({"matrix", "kernel", "embedding", "norm_scale", "norm_bias"})


def find_tables(
    graph: ir.Graph, context: AxisFacts, parameters: Mapping[str, Parameter], learned: Collection[str] = ()
) -> dict[str, str | None]:
    """Closed form per table that is no trained weight: rotary frequencies, and integer buffers on resizable dims.

    A table without a known formula keeps its dims as they are. ``learned``: names of tensors that are weights, though
    they hold one number everywhere.
    """
    tables: dict[str, str | None] = {}
    weight_leaves = {
        leaf
        for p in parameters.values()
        for dim in context.axes_of(p.value)
        if dim
        for leaf in context.table.leaves(dim)
    }
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.size < 2 or tensor.dtype == ir.DataType.STRING:
            continue
        if _is_rotary_cache(value):
            tables[name] = recognise_cache(tensor.numpy())
            if tables[name] is None:
                context.table.freeze(context.axes_of(value)[-1], Reason.of(Why.NO_FORMULA, name))
            continue
        if name in parameters:
            if not feeds_rotary(value) or _scales_channels(context, value):
                tables |= _of_parameter(context, parameters[name], tensor, name in learned)
                continue
        elif not any(
            leaf in weight_leaves
            for dim in context.axes_of(value)
            if dim is not None
            for leaf in context.table.leaves(dim)
        ):
            continue
        form = recognise(tensor.numpy(), rotary=name in parameters)
        if form is None and name in parameters and len(tensor.shape) > 1 and min(tensor.shape.numpy()) > 1:
            continue  # a weight that happens to run into a sine
        tables[name] = form
        if form is None:
            _keep(context, value)
    return tables


def _of_parameter(
    context: AxisFacts, parameter: Parameter, tensor: ir.TensorProtocol, learned: bool
) -> dict[str, str | None]:
    """The entry of a parameter that is a table; none, of weights. What follows no formula keeps its dims."""
    formula = _formula(parameter, tensor, learned)
    if formula is None and not _has_no_formula(parameter, tensor):
        return {}
    if formula is None or formula.startswith(SLOPES):
        _keep(context, parameter.value, -1 if formula is None else int(formula.rpartition(":")[2]))
    return {parameter.name: formula}


def _keep(context: AxisFacts, value: ir.Value, but: int = -1) -> None:
    """The dims of a table without a known formula stay as they are, but for one axis that has one."""
    for axis, dim in enumerate(context.axes_of(value)):
        if axis != but:
            context.table.freeze(dim, Reason.of(Why.NO_FORMULA, value.name))


def _formula(parameter: Parameter, tensor: ir.TensorProtocol, learned: bool) -> str | None:
    """Closed form of a table that looks like a weight: slopes of a bias by distance, sines and cosines of positions.

    Or the ones and zeros of a norm that has no weights of its own, a kernel that is one block for every group, a mean,
    one number along channels.
    """
    if (rows := repeated_rows(parameter)) is not None:
        return f"{REPEATED}:{rows}"
    if parameter.kind in _TRAINED:
        return recognise_uniform(parameter) if is_uniform(parameter) else None
    if not learned and is_uniform_vector(parameter):
        return UNIFORM
    untrained = _UNTRAINED.get(parameter.kind) if is_literal(parameter.value) else None
    if untrained is not None and np.all(tensor.numpy() == untrained):
        return f"constant:{untrained}"
    slopes = None if parameter.kind in _NEVER_SLOPES else recognise_slopes(peeked(tensor))
    return slopes or recognise_sinusoids(peeked(tensor)) or recognise_sinusoid_grid(peeked(tensor))


def _has_no_formula(parameter: Parameter, tensor: ir.TensorProtocol) -> bool:
    """Whether what looks like a weight is a table of numbers that no formula known here gives."""
    if parameter.kind in _TRAINED:
        return is_uniform(parameter)
    return is_decay(peeked(tensor)) or is_fixed_vector(parameter)


def _is_rotary_cache(value: ir.Value) -> bool:
    """Whether an op that turns queries and keys reads the value as its table of sines or cosines."""
    forms = forward(value, lambda node, slot: carries(node, slot, FORM | Move.PICKED), most=_FAR)
    return any(slot_of(node, slot) is Slot.ROTATION for form in forms for node, slot in form.uses())


def _scales_channels(context: AxisFacts, value: ir.Value) -> bool:
    """Whether activations are multiplied with a value channel by channel; frequencies have an axis of their own."""
    own = {context.table.find(dim) for dim in context.axes_of(value) if dim is not None}
    others = [
        other
        for usage in value.uses()
        if computes(usage.node, Calc.PRODUCT)
        for other in usage.node.inputs
        if other is not None and other is not value and other.const_value is None
    ]
    return any(dim is not None and context.table.find(dim) in own for other in others for dim in context.axes_of(other))
