"""The oracle: our weights in a natively exported graph must compute what our graph computes.

It proves shapes, constants, scales, layer order and ties at once, for any architecture, with random weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._canonical.control_flow import nested_protos
from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._ops.nodes import FLOATS
from bot_onnx._patterns.parameters import is_parameter
from bot_onnx._runs.baked_lengths import baked_lengths
from bot_onnx._runs.inputs import feeds, input_specs, open_sizes
from bot_onnx._runs.runtime import session

Outputs = list[NDArray[np.generic]]
Feeds = dict[str, np.ndarray[Any, Any]]


class UnlikeNativeError(AssertionError):
    """Our file and the native export do not hold the same tensors in the same order."""


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


def pairs(ours: Analysis, native: Analysis) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Tensors of ours and of the native export that correspond.

    Raises:
        UnlikeNativeError: the two do not have the same tensors in the same order; names the first that differ.
    """
    mine, theirs = weights_in_order(ours), weights_in_order(native)
    if len(mine) != len(theirs):
        raise UnlikeNativeError(f"{len(mine)} tensors, the native export has {len(theirs)}")
    for a, b in zip(mine, theirs, strict=True):
        shapes = _content(a, b).shape, _content(b, b).shape
        if shapes[0] != shapes[1]:
            raise UnlikeNativeError(
                f"tensors differ from the native export's: {a.name} {shapes[0]}, natively {shapes[1]}"
            )
    yield from zip(mine, theirs, strict=True)


def _content(source: ir.Value, target: ir.Value) -> NDArray[np.generic]:
    """The numbers of ``source`` the way round in which ``target`` is stored.

    An exporter folds the transposition of small matrices into them, and leaves it in the graph for large ones.
    """
    assert source.const_value is not None
    values = source.const_value.numpy()
    return values.T if values.ndim == 2 and _is_turned(source) != _is_turned(target) else values


def _is_turned(value: ir.Value) -> bool:
    uses = [(use.node.op_type, use.node.attributes.get_int("transB", 0)) for use in value.uses()]
    return all(kind == "Transpose" or (kind == "Gemm" and turned) for kind, turned in uses)


def _single_elements(analysis: Analysis) -> list[ir.Value]:
    """Floating-point tensors of one element, in order of use: a bias of one channel, but mostly constants."""
    order: dict[str, ir.Value] = {}
    for node in analysis.model.graph:
        for value in node.inputs:
            tensor = value.const_value if value is not None else None
            if value is not None and tensor is not None and tensor.size == 1 and tensor.dtype in FLOATS:
                order.setdefault(value.name or "", value)
    return list(order.values())


def _trained_scalars(
    ours: Analysis, native: Analysis, trained: NDArray[np.float32]
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Pairs of one-element tensors that training changes.

    Raises:
        UnlikeNativeError: there are some, and the files do not have the same number of one-element tensors.
    """
    mine, theirs = _single_elements(ours), _single_elements(native)
    found = [
        place
        for place, value in enumerate(theirs)
        if value.const_value is not None and _among(value.const_value.numpy().astype(np.float64).reshape(-1), trained)
    ]
    if found and len(mine) != len(theirs):
        raise UnlikeNativeError(f"{len(mine)} one-element tensors, the native export has {len(theirs)}")
    for place in found:
        yield mine[place], theirs[place]


def transplant(ours: Analysis, native: Analysis, trained: NDArray[np.float32] | None = None) -> onnx.ModelProto:
    """The native graph with our weights in it.

    Args:
        ours: the resized file.
        native: the native export, changed in place.
        trained: sorted values of all that training changes; without it, tensors of one element are not carried over.

    Raises:
        UnlikeNativeError: the two do not have the same tensors in the same order.
    """
    found = list(pairs(ours, native))
    if trained is not None:
        found += _trained_scalars(ours, native, trained)
    for source, target in found:
        target.const_value = ir.Tensor(np.ascontiguousarray(_content(source, target)), name=target.name)
    for mine, theirs in zip(ours.model.graph, native.model.graph, strict=False):
        if mine.op_type == theirs.op_type and "epsilon" in mine.attributes:  # what was resized may have its own
            theirs.attributes["epsilon"] = mine.attributes["epsilon"]
    originals = {stack.id: stack.tensors[0] for stack in native.structure.stacks}
    initializers = native.model.graph.initializers
    for stack in native.structure.stacks:
        if stack.twin_of is not None:
            original = initializers[originals[stack.twin_of]].const_value
            assert original is not None
            copy = np.ascontiguousarray(original.numpy().T)
            initializers[stack.tensors[0]].const_value = ir.Tensor(copy, name=stack.tensors[0])
    model = ir.to_proto(native.model)
    del model.graph.node[:]
    model.graph.node.extend(nested_protos(native.model.graph))
    return model


def untrained_that_differ(ours: Analysis, native: Analysis, trained: NDArray[np.float32]) -> dict[str, str]:
    """Tensors that no training made (tables, frequencies, masks) and in which the two files differ.

    A transplant would carry such a difference over unseen, so these tensors must be equal by themselves. What an
    exporter computed from weights (a folded batch norm) is found, too: see :func:`differs_between_seeds`.

    Args:
        ours: the resized file.
        native: the native export, before any transplant.
        trained: sorted values of all parameters and trained buffers of the native network.

    Returns:
        Name in the native export -> name in ours.
    """
    found: dict[str, str] = {}
    for source, target in pairs(ours, native):
        mine, theirs = (_content(value, target).astype(np.float64).reshape(-1) for value in (source, target))
        if not _among(theirs, trained) and not np.allclose(mine, theirs, rtol=1e-4, atol=1e-6, equal_nan=True):
            found[target.name or ""] = source.name or ""
    return found


def _among(values: NDArray[np.float64], trained: NDArray[np.float32]) -> bool:
    """Whether all of ``values`` are in the sorted array ``trained``."""
    if not trained.size:
        return False
    wanted = values.astype(np.float32)
    places = np.minimum(np.searchsorted(trained, wanted), trained.size - 1)
    return bool((trained[places] == wanted).all())


def differs_between_seeds(names: set[str], first: Analysis, second: Analysis) -> set[str]:
    """Those of ``names`` whose values depend on the seed of the weights: an exporter computed them from weights."""
    return {
        a.name or ""
        for a, b in pairs(first, second)
        if a.name in names and not np.array_equal(_content(a, a), _content(b, a))
    }


def run_at_two_sizes(model: onnx.ModelProto | Path) -> list[Outputs]:
    """Outputs at two batch (and sequence) sizes, on inputs that depend on names, types and shapes alone.

    Of the sizes that the engine would try, the first that the model accepts are used.
    """
    return [outputs for _, outputs in fed_at_two_sizes(model)]


def fed_at_two_sizes(model: onnx.ModelProto | Path) -> list[tuple[Feeds, Outputs]]:
    """The inputs of :func:`run_at_two_sizes` as well."""
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
    graph = (model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)).graph
    specs: list[InputSpec] = input_specs(graph)
    runner = session(content)
    failure: Exception | None = None
    for guess in open_sizes(specs, baked_lengths(graph)):
        try:
            given = [feeds(specs, sizes) for sizes in guess]
            return [(values, runner.run(None, values)) for values in given]
        except Exception as error:  # onnxruntime's errors have no common base of their own
            failure = failure or error
    assert failure is not None
    raise failure


def unsquashed(path: Path) -> onnx.ModelProto:
    """The model of ``path`` with logits for outputs where it ends in Sigmoid or Softmax.

    A probability near 0 has the relative error that its logit has in absolute terms, which rounding alone may make
    large; logits are compared by their own scale.
    """
    model = onnx.load(path)
    makers = {output: node for node in model.graph.node for output in node.output}
    for output in model.graph.output:
        node = makers.get(output.name)
        if node is not None and node.op_type in ("Sigmoid", "Softmax"):
            output.name = node.input[0]
            output.type.tensor_type.ClearField("shape")
    return model


def distance(ours: list[Outputs], theirs: list[Outputs]) -> float:
    """Largest difference over all outputs and runs, relative to each output's largest value.

    Infinite where one is finite and the other is not, or where nothing is: then nothing was compared.
    """
    worst = 0.0
    for left, right in zip(ours, theirs, strict=True):
        for a, b in zip(left, right, strict=True):
            assert a.shape == b.shape, f"shapes of outputs differ: {a.shape} and {b.shape}"
            worst = max(worst, _distance(a, b))
    return worst


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    mine, theirs = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(mine)
    if not np.array_equal(finite, np.isfinite(theirs)) or (finite.size and not finite.any()):
        return float("inf")
    mine, theirs = mine[finite], theirs[finite]
    if not mine.size:
        return 0.0
    scale = float(np.abs(theirs).max()) or 1.0
    return float(np.abs(mine - theirs).max() / scale)
