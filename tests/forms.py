"""One network in the forms that files come in: optimised graphs, other data types, quantised weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bot_onnx.graph.inputs import feeds, input_specs, open_sizes
from tests.zoo.architectures import Built, Size
from tests.zoo.export import cached, quiet


def optimised_by_runtime(source: Path, path: Path) -> None:
    """What onnxruntime's own optimiser makes of a file at its extended level."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def optimised_by_tool(source: Path, path: Path, kind: str, size: Size) -> None:
    """What ``onnxruntime.transformers.optimizer`` makes of a file; ``kind`` is its model type."""
    with quiet():
        from onnxruntime.transformers import optimizer

        model = optimizer.optimize_model(
            str(source), model_type=kind, num_heads=size.heads, hidden_size=size.hidden, opt_level=0
        )
        model.save_model_to_file(str(path))


def ops_of(path: Path) -> set[str]:
    """Names of a file's ops."""
    return {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}


def eager_bert(size: Size, opset: int = 14) -> Path:
    """A BERT whose attention is written out, as the optimiser's patterns want it; cached."""

    def write(path: Path) -> None:
        with quiet():
            built = _build_eager_bert(size)
        _export_old(built, opset, path)

    return cached(f"eager_bert_{opset}", repr((size, opset)), write)


def _build_eager_bert(size: Size) -> Built:
    import torch

    from tests.zoo import networks

    networks.mend_torchvision()
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        vocab_size=size.vocab,
        max_position_embeddings=size.positions,
        attn_implementation="eager",
    )
    module = BertModel(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    example = torch.ones(2, 9, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask", "token_type_ids")}
    wrapped = networks.Encoder(module, ("last_hidden_state",))
    return Built(wrapped, (example,) * 3, tuple(axes), ("last_hidden_state",), axes)


def _export_old(built: Built, opset: int, path: Path) -> None:
    import torch

    with quiet():
        torch.onnx.export(
            built.module,
            built.inputs,
            str(path),
            input_names=list(built.input_names),
            output_names=list(built.output_names),
            opset_version=opset,
            dynamo=False,
            dynamic_axes=built.dynamic_axes,
        )


# -- quantised -------------------------------------------------------------------------------------------------


def dynamic_int8(source: Path, path: Path, *, per_channel: bool = False, unsigned: bool = False) -> None:
    """Weights in 8 bits, activations quantised at run time."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            source, path, weight_type=QuantType.QUInt8 if unsigned else QuantType.QInt8, per_channel=per_channel
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


def static_int8(source: Path, path: Path, *, operators: bool = False, per_channel: bool = False) -> None:
    """Weights and activations in 8 bits, scales calibrated: QDQ pairs, or quantised operators."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with quiet():
        quantize_static(
            source,
            path,
            _Calibration(source),
            quant_format=QuantFormat.QOperator if operators else QuantFormat.QDQ,
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
