"""Weights that are one and the same: tensors with several uses, and heads that an exporter copied from an embedding."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bot_onnx._axes.facts import AxisFacts
from bot_onnx._patterns.parameters import Parameter


def find_twins(parameters: Mapping[str, Parameter], context: AxisFacts) -> dict[str, str]:
    """Matrices that are the transpose of an embedding, by name.

    Constant folding turns ``hidden @ embedding.T`` into a second, transposed tensor. Shapes only propose a pair; the
    values decide. The dims of a pair are merged.
    """
    embeddings = [p for p in parameters.values() if p.kind == "embedding" and len(_shape(p)) == 2]
    twins: dict[str, str] = {}
    for matrix in parameters.values():
        if matrix.kind != "matrix" or len(_shape(matrix)) != 2:
            continue
        for embedding in embeddings:
            if _shape(matrix) == _shape(embedding)[::-1] and _is_transpose(matrix.value, embedding.value):
                rows, columns = context.axes_of(embedding.value)
                context.table.unify(context.axes_of(matrix.value)[0], columns)
                context.table.unify(context.axes_of(matrix.value)[1], rows)
                twins[matrix.name] = embedding.name
                break
    return twins


def tied_places(parameters: Mapping[str, Parameter], twins: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Groups of places that share one set of numbers, in words: ``tensor <- node``."""
    groups: list[tuple[str, ...]] = []
    copies = {original: name for name, original in twins.items()}
    for parameter in parameters.values():
        places = [f"{parameter.name} <- {node.op_type} {node.name}" for node, _ in parameter.uses]
        copy = copies.get(parameter.name)
        if copy is not None:
            places += [f"{copy} (transposed copy) <- {node.op_type} {node.name}" for node, _ in parameters[copy].uses]
        if len(places) > 1:
            groups.append(tuple(places))
    return tuple(groups)


def _shape(parameter: Parameter) -> tuple[int, ...]:
    tensor = parameter.value.const_value
    assert tensor is not None
    return tuple(tensor.shape.numpy())


def _is_transpose(matrix: ir.Value, embedding: ir.Value) -> bool:
    assert matrix.const_value is not None and embedding.const_value is not None
    left, right = matrix.const_value.numpy(), embedding.const_value.numpy().T
    probe = np.linspace(0, left.shape[1] - 1, 8).astype(int)  # a few columns tell most strangers apart
    return bool(np.array_equal(left[:, probe], right[:, probe])) and bool(np.array_equal(left, right))
