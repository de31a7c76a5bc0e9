"""Key and value heads that grow from one: a network whose query heads share one head is read as one of two heads.

An axis of size 1 has no dim, so nothing could grow along it. The graph is therefore given two key and value heads and
twice the query heads (:mod:`bot_onnx._surgery.head_walk`), and analysed anew: now the key and value heads have a dim,
and the query heads are that dim times a group. Then the dim is said to have the size 1 in the source, whose tensors
are the ones that are resampled. From there on it grows like any other, proof included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

import bot_onnx._surgery.head_products
import bot_onnx._surgery.head_rules  # noqa: F401  # both register rules
from bot_onnx._analysis.passes import Analysis, understand
from bot_onnx._axes.dims import Pair
from bot_onnx._patterns.closed_forms import recompute
from bot_onnx._patterns.shared_heads import Share, SharedHead, shared_heads
from bot_onnx._resample.mapping import Selection, duplicate
from bot_onnx._structure import Role, Structure
from bot_onnx._surgery.apply import apply
from bot_onnx._surgery.head_walk import COPIES, Doubled, HeadWalk, Misfit
from bot_onnx._surgery.sizes import size_edits
from bot_onnx._surgery.tasks import build_task
from bot_onnx._target import TargetSpec
from bot_onnx._target.composition import combine
from bot_onnx.errors import GraphError, said

_ROLE = Role.KV_HEADS


def with_key_heads(analysis: Analysis, spec: TargetSpec) -> Analysis:
    """The analysis itself, or where the spec asks for more heads than the one that all share, one that has their dim.

    Args:
        analysis: of the source; its graph is changed where another analysis is made.
        spec: the target.

    Raises:
        GraphError: the graph is spelled in a way that takes no second head; names the node.
    """
    asked = spec.kv_heads
    sizes = [asked] if isinstance(asked, int) else [*(asked or {}).values()]
    sizes += [size for name, size in spec.dims.items() if name == _ROLE]
    if not analysis.structure.single_kv_head or max(sizes, default=1) < COPIES:
        return analysis
    shared = shared_heads(analysis.context, analysis.attentions)
    try:
        return _with_dim(analysis, shared)
    except Misfit as misfit:
        raise GraphError(
            f"kv_heads cannot grow from 1: {misfit}; keep kv_heads at 1, or export the model with more key and value "
            "heads"
        ) from None


def _with_dim(analysis: Analysis, shared: list[SharedHead]) -> Analysis:
    source = analysis.structure
    graph = analysis.model.graph
    stored = {name: value.const_value for name, value in graph.initializers.items() if value.const_value is not None}
    sizes = _more_query_heads(analysis, shared)
    seeds = {share.weight: _doubled(analysis, share, sizes) for one in shared for share in one.shares}

    def shape(value: ir.Value) -> tuple[Pair, ...]:
        return tuple(
            (1, 1) if dim is None else analysis.new_size(dim, sizes) for dim in analysis.context.axes_of(value)
        )

    _fit_ports(analysis, sizes)
    walk = HeadWalk(graph, shape, partial(_integers, analysis), seeds)
    walk.run()
    for value, label in walk.labels.items():
        if value.const_value is not None:
            _hold(value, partial(_twice, value.const_value, label), _grown(value, label))
        elif value.is_graph_input() or value.is_graph_output():
            value.shape = ir.Shape(_grown(value, label)) if value.shape is not None else None
    found = understand(analysis.model, analysis.form)
    names = {name for stack in source.stacks for name in stack.tensors}
    return replace(
        found,
        stored={name: stored[name] for name in names if name in stored},
        structure=_with_one_head(found, source, len(shared)),
        repairs=analysis.repairs,
    )


def _more_query_heads(analysis: Analysis, shared: list[SharedHead]) -> dict[str, int]:
    """Double the query heads that share a head, in the graph; returns the size of every dim then."""
    structure, table = analysis.structure, analysis.context.table
    heads = {table.find(one.heads) for one in shared}
    idents = {analysis.ids[dim] for dim in heads if dim in analysis.ids}
    for ident in idents:
        frozen = structure.dims[ident].frozen
        if frozen is not None:
            raise Misfit(f"the query heads ({structure.dims[ident].name}) are frozen: {said(frozen)}")
    sizes: dict[str, int] = {}

    def size(ident: str) -> int:
        dim = structure.dims[ident]
        if ident not in sizes:
            whole = dim.size * (COPIES if ident in idents else 1)
            sizes[ident] = combine(dim, {part: size(part) for part in dim.parts}) if dim.parts else whole
        return sizes[ident]

    for ident in structure.dims:
        size(ident)
    apply(analysis, size_edits(analysis, sizes))
    layers = {chain.name: chain.count for chain in structure.chains}
    for stack in structure.stacks:
        task = build_task(structure, stack, sizes, layers)
        if task.source_shape == task.target_shape:
            continue
        chosen = Selection(task, partial(duplicate, mapping="cyclic", seed=0), split=False)
        for name in stack.tensors:
            value = analysis.model.graph.initializers.get(name)
            tensor = None if value is None else value.const_value
            if value is None or tensor is None:
                continue
            if stack.closed_form is not None:
                table_of = partial(recompute, stack.closed_form, task.target_shape, tensor.dtype.numpy(), tensor.numpy)
            else:
                table_of = partial(_chosen, chosen, tensor)
            _hold(value, table_of, task.target_shape)
    return sizes


def _chosen(chosen: Selection, tensor: ir.TensorProtocol) -> NDArray[np.generic]:
    return np.asarray(chosen.apply(np.asarray(tensor.numpy()), np))


def _twice(tensor: ir.TensorProtocol, label: Doubled) -> NDArray[np.generic]:
    """A tensor with its blocks twice in a row."""
    array = np.asarray(tensor.numpy())
    order: list[int] = []
    start = 0
    for first, length in label.blocks:
        block = list(range(first, first + length))
        order += [*range(start, first), *block, *block]
        start = first + length
    order += range(start, array.shape[label.axis])
    return np.take(array, order, axis=label.axis)


def _grown(value: ir.Value, label: Doubled) -> list[int | ir.SymbolicDim]:
    """The declared shape of a value with two heads."""
    shape = list(value.shape or ())
    old = shape[label.axis] if label.axis < len(shape) else None
    if isinstance(old, int):
        shape[label.axis] = old + label.more
    return shape


def _hold(value: ir.Value, make: object, shape: object) -> None:
    """Let an initializer have another content, which is made when it is asked for: few are."""
    assert value.const_value is not None and callable(make)
    dtype, sizes = value.const_value.dtype, ir.Shape(list(shape))  # type: ignore[call-overload]
    value.const_value = ir.LazyTensor(lambda: ir.Tensor(make(), dtype=dtype), dtype, sizes, name=value.name)
    value.shape = sizes


def _doubled(analysis: Analysis, share: Share, sizes: Mapping[str, int]) -> Doubled:
    """The blocks of a weight that are the one key or value head, at new sizes."""
    start, blocks = 0, []
    for dim, single in share.dims:
        size = analysis.new_size(dim, dict(sizes))[0]
        blocks += [(start, size)] if single else []
        start += size
    return Doubled(share.axis, tuple(blocks))


def _integers(analysis: Analysis, value: ir.Value) -> list[int] | None:
    """What an integer constant holds; None for what is computed."""
    both = analysis.context.numbers(value) if value.const_value is not None else None
    return None if both is None else list(both[0])


def _fit_ports(analysis: Analysis, sizes: Mapping[str, int]) -> None:
    """Bring the declared shapes of inputs and outputs to new sizes."""
    graph = analysis.model.graph
    for value in (*graph.inputs, *graph.outputs):
        dims = analysis.context.axes_of(value)
        if value.shape is None or len(value.shape) != len(dims):
            continue
        new = [
            analysis.new_size(dim, dict(sizes))[0] if isinstance(old, int) and dim is not None else old
            for old, dim in zip(value.shape, dims, strict=True)
        ]
        value.shape = ir.Shape(new)


def _with_one_head(found: Analysis, source: Structure, count: int) -> Structure:
    """The structure in which the key and value heads that were given a second one have the size 1."""
    table = found.context.table
    single: set[str] = set()
    for attention in found.attentions:
        parts = table.leaves(attention.heads) if attention.heads is not None else []
        idents = [found.ids.get(part, "") for part in parts]
        if len(parts) == COPIES and table.size(parts[0]) == (COPIES, COPIES):
            single |= {i for i in idents[:1] if i and found.structure.dims[i].role == _ROLE}
            count -= 1
    if not single or count > 0:
        raise Misfit("the graph with two heads is not understood as such")
    dims = dict(found.structure.dims)

    def settle(ident: str) -> int:
        dim = dims[ident]
        size = 1 if ident in single else dim.size
        if dim.parts:
            size = combine(dim, {part: settle(part) for part in dim.parts})
        dims[ident] = replace(dim, size=size)
        return size

    for ident in list(dims):
        if not dims[ident].parts:
            settle(ident)
    for ident in list(dims):
        settle(ident)
    stacks = tuple(
        replace(
            stack,
            shape=tuple(
                n if ident is None else dims[ident].size for n, ident in zip(stack.shape, stack.axes, strict=True)
            ),
        )
        for stack in found.structure.stacks
    )
    parameters = sum(prod(stack.shape) * len(stack.tensors) for stack in stacks if stack.dtype.find("INT") < 0)
    return replace(found.structure, dims=dims, stacks=stacks, parameters=parameters, notes=source.notes)
