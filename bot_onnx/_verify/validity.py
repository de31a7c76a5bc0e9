"""Is the file valid ONNX? The checker, strict shape inference, and a search for NaN, none of which loads the weights.

The first two see the message without the values of its large tensors: they need small ones only (shapes, axes), and
the reader has held every tensor's length against its shape already.
"""

from __future__ import annotations

import onnx

from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.tensor_protos import all_tensors, one_line
from bot_onnx._verify.types import Check

#: Shape by output: sizes where they are static, else None.
Shapes = dict[str, tuple[int | None, ...]]


def check_validity(source: Source, *, deep_shapes: bool) -> tuple[list[Check], Shapes]:
    """Run onnx.checker and, if ``deep_shapes``, strict shape inference with data propagation.

    Returns:
        The checks, and the shapes of the graph's outputs as inferred (as declared, where inference failed or is off).
    """
    skeleton = weightless(source)
    checks = [_checker(skeleton, source.repairs)]
    if not deep_shapes:
        return checks, _output_shapes(skeleton.graph)
    try:
        inferred = onnx.shape_inference.infer_shapes(skeleton, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # the errors of onnx's C++ side have several types
        return [*checks, Check("shapes", "fail", one_line(error))], _output_shapes(skeleton.graph)
    known = sum(bool(value.type.tensor_type.HasField("shape")) for value in inferred.graph.value_info)
    checks.append(Check("shapes", "pass", f"strict inference agrees with every declared shape ({known} inferred)"))
    return checks, _output_shapes(inferred.graph)


def weightless(source: Source) -> onnx.ModelProto:
    """Copy the message so that onnx looks for no weights.

    A location that starts with ``#`` means "in memory" to the checker (see ``onnx.model_container``).
    """
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(source.proto)
    for _, tensor in all_tensors(skeleton):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "#"
    return skeleton


def check_weights(source: Source) -> Check:
    """Read all weights once and look for NaN and infinity."""
    found = source.find_nonfinite()
    if found is not None:
        return Check("weights", "fail", f"tensor {found.name!r} has {found.count} NaN or infinite values")
    return Check("weights", "pass", f"{len(source.tensors)} tensors hold no NaN and no infinity")


def _checker(skeleton: onnx.ModelProto, repairs: tuple[str, ...]) -> Check:
    try:
        onnx.checker.check_model(skeleton, full_check=True)
    except Exception as error:
        return Check("checker", "fail", one_line(error))
    opsets = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in skeleton.opset_import)
    told = " ".join([f"onnx {onnx.__version__} accepts it, opset {opsets}", *(f"({repair})" for repair in repairs)])
    return Check("checker", "pass", told)


def _output_shapes(graph: onnx.GraphProto) -> Shapes:
    return {
        value.name: tuple(
            int(dim.dim_value) if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim
        )
        for value in graph.output
        if value.type.tensor_type.HasField("shape")
    }
