"""One network in the forms that files come in: optimised graphs, other data types, quantised weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.coverage.exporting import quiet
from bot_onnx._runs.inputs import feeds, input_specs, open_sizes


def optimised_by_runtime(source: Path, path: Path) -> None:
    """What onnxruntime's own optimiser makes of a file at its extended level."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def optimised_by_tool(source: Path, path: Path, kind: str, heads: int, hidden: int) -> None:
    """What ``onnxruntime.transformers.optimizer`` makes of a file; ``kind`` is its model type."""
    with quiet():
        from onnxruntime.transformers import optimizer

        model = optimizer.optimize_model(str(source), model_type=kind, num_heads=heads, hidden_size=hidden, opt_level=0)
        model.save_model_to_file(str(path))


# -- quantised -------------------------------------------------------------------------------------------------


def dynamic_int8(source: Path, path: Path, *, per_channel: bool = False, unsigned: bool = False) -> None:
    """Weights in 8 bits, activations quantised at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            source,
            path,
            weight_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            per_channel=per_channel,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


class _Calibration:
    """A few random inputs for static quantisation."""

    def __init__(self, source: Path, batches: int = 4) -> None:
        graph = onnx.load(source).graph
        specs = input_specs(graph)
        sizes = next(open_sizes(specs))
        fed = [feeds(specs, sizes[seed % 2], seed) for seed in range(batches)]
        self._feeds = iter(fed)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def static_int8(
    source: Path, path: Path, *, operators: bool = False, per_channel: bool = False, everything: bool = False
) -> None:
    """Weights and activations in 8 bits, scales calibrated: QDQ pairs, or quantised operators.

    Args:
        everything: also sums and what else the quantiser knows; sums with a mask of -3e38 then lose all else.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with quiet():
        quantize_static(
            source,
            path,
            _Calibration(source),
            quant_format=QuantFormat.QOperator if operators else QuantFormat.QDQ,
            op_types_to_quantize=None if everything else ["MatMul", "Gemm", "Conv", "Gather"],
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )


def blocks_4bit(source: Path, path: Path, *, pairs: bool = False, symmetric: bool = True, block: int = 32) -> None:
    """Weights of products in 4 bits: MatMulNBits, or DequantizeLinear in blocks."""
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        quantizer = MatMulNBitsQuantizer(
            onnx.load(source),
            bits=4,
            block_size=block,
            is_symmetric=symmetric,
            quant_format=QuantFormat.QDQ if pairs else QuantFormat.QOperator,
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(path))


# -- storage ---------------------------------------------------------------------------------------------------


def half_precision(source: Path, path: Path) -> None:
    """Everything in float16, inputs and outputs too."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():
        onnx.save(convert_float_to_float16(onnx.load(source)), path)


def stored_as(source: Path, path: Path, how: str) -> None:
    """Float weights of two axes behind a node that brings them into the form in which they are used.

    Args:
        how: ``float16`` or ``bfloat16`` (a Cast), ``transposed`` or ``flattened`` (Transpose, Reshape).
    """
    model = onnx.load(source)
    views: list[onnx.NodeProto] = []
    shapes: list[onnx.TensorProto] = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
            continue
        array, name = numpy_helper.to_array(tensor), tensor.name
        stored, inputs = f"{name}.stored", [f"{name}.stored"]
        if how == "transposed":
            kept, view = np.ascontiguousarray(array.T), helper.make_node("Transpose", inputs, [name], perm=[1, 0])
        elif how == "flattened":
            shapes.append(numpy_helper.from_array(np.array(array.shape), f"{name}.shape"))
            kept, view = array.reshape(-1), helper.make_node("Reshape", [*inputs, f"{name}.shape"], [name])
        else:
            kept = array.astype(np.float16 if how == "float16" else ml_dtypes.bfloat16)
            view = helper.make_node("Cast", inputs, [name], to=onnx.TensorProto.FLOAT)
        view.name = f"{name}.view"
        views.append(view)
        tensor.CopyFrom(numpy_helper.from_array(kept, stored))
    nodes = [*views, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(shapes)
    onnx.save(model, path)


def external_data(source: Path, path: Path) -> None:
    """Weights in a file beside the model."""
    onnx.save(onnx.load(source), path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)


def channel_pairs(source: Path, path: Path) -> None:
    """Weights of products in 8 bits, a scale for each column: DequantizeLinear alone."""
    model = onnx.load(source)
    views: list[onnx.NodeProto] = []
    readers = {name: node for node in model.graph.node for name in node.input if node.op_type == "MatMul"}
    for tensor in list(model.graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2 or tensor.name not in readers:
            continue
        array, name = numpy_helper.to_array(tensor), tensor.name
        scale = (np.abs(array).max(axis=0) / 127).astype(np.float32)
        views.append(helper.make_node("DequantizeLinear", [f"{name}_quantized", f"{name}_scale"], [name], axis=1))
        views[-1].name = f"{name}_DequantizeLinear"
        tensor.CopyFrom(numpy_helper.from_array(np.rint(array / scale).astype(np.int8), f"{name}_quantized"))
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    nodes = [*views, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)


FORMS: dict[str, Callable[[Path, Path], None]] = {
    "optimised by onnxruntime": optimised_by_runtime,
    "float16": half_precision,
    "float16 weights": partial(stored_as, how="float16"),
    "bfloat16 weights": partial(stored_as, how="bfloat16"),
    "transposed weights": partial(stored_as, how="transposed"),
    "flattened weights": partial(stored_as, how="flattened"),
    "dynamic int8": dynamic_int8,
    "dynamic uint8 per channel": partial(dynamic_int8, per_channel=True, unsigned=True),
    "int8 weights": channel_pairs,
    "4 bits (MatMulNBits)": blocks_4bit,
    "4 bits, zero points": partial(blocks_4bit, symmetric=False, block=16),
    "static int8 (QDQ)": static_int8,
    "static int8 (QOperator)": partial(static_int8, operators=True),
}
"""Forms by name: each reads a file and writes another."""
