"""The oracle: our weights in a natively exported graph must compute what our graph computes.

It proves shapes, constants, scales, layer order and ties at once, for any architecture, with random weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx.graph.analysis import Analysis, analyse
from bot_onnx.graph.inputs import InputSpec, feeds, input_specs, open_sizes
from bot_onnx.graph.parameters import is_parameter
from bot_onnx.runtime import session

Outputs = list[NDArray[np.generic]]


def analysis_of(path: Path) -> Analysis:
    """Analyse a file, weights in memory."""
    return analyse(ir.from_proto(onnx.load(path)))


def weights_in_order(analysis: Analysis) -> list[ir.Value]:
    """Trained tensors in order of use. A transposed copy of an embedding is no tensor of its own."""
    copies = {name for stack in analysis.structure.stacks if stack.twin_of for name in stack.tensors}
    order: dict[str, ir.Value] = {}
    for node in analysis.model.graph:
        for value in node.inputs:
            if value is not None and is_parameter(value) and value.name not in copies:
                order.setdefault(value.name or "", value)
    return list(order.values())


def transplant(ours: Analysis, native: Analysis) -> onnx.ModelProto:
    """The native graph with our weights in it.

    Raises:
        AssertionError: the two do not have the same tensors in the same order.
    """
    mine, theirs = weights_in_order(ours), weights_in_order(native)
    shapes = [[tuple(v.const_value.shape.numpy()) for v in values if v.const_value] for values in (mine, theirs)]
    assert shapes[0] == shapes[1], "tensors differ from the native export's"
    for source, target in zip(mine, theirs, strict=True):
        assert source.const_value is not None
        target.const_value = ir.Tensor(source.const_value.numpy(), name=target.name)
    originals = {stack.id: stack.tensors[0] for stack in native.structure.stacks}
    initializers = native.model.graph.initializers
    for stack in native.structure.stacks:
        if stack.twin_of is not None:
            original = initializers[originals[stack.twin_of]].const_value
            assert original is not None
            copy = np.ascontiguousarray(original.numpy().T)
            initializers[stack.tensors[0]].const_value = ir.Tensor(copy, name=stack.tensors[0])
    return ir.to_proto(native.model)


def run_at_two_sizes(model: onnx.ModelProto | Path) -> list[Outputs]:
    """Outputs at two batch (and sequence) sizes, on inputs that depend on names, types and shapes alone."""
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    graph = (model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)).graph
    specs: list[InputSpec] = input_specs(graph)
    runner = session(content)
    return [runner.run(None, feeds(specs, sizes)) for sizes in next(open_sizes(specs))]


def distance(ours: list[Outputs], theirs: list[Outputs]) -> float:
    """Largest difference over all outputs and runs, relative to each output's largest value."""
    worst = 0.0
    for left, right in zip(ours, theirs, strict=True):
        for a, b in zip(left, right, strict=True):
            assert a.shape == b.shape
            worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    return worst
