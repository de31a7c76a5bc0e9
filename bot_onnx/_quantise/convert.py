"""A model in floating point turned into a quantised one, by onnxruntime's quantisers, in a scratch folder.

``int8`` and ``int4`` are schemes like those that ``--requantize`` writes, and written by the same code
(:mod:`bot_onnx._surgery.requantise`); calibrated scales and half precision have a call of their own here. Integers of 8
bits leave one of them free: without it, sums of products saturate on processors that add them in 16 bits, and the file
would be another network there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.decompose import Scheme
from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._ops import Op, find, records
from bot_onnx._quantise.raised import BY_CHANNEL, raised, save
from bot_onnx._quantise.types import Kind
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._surgery.calibrated import Calibrated
from bot_onnx._surgery.requantise import is_large, quantiser, requantise
from bot_onnx._verify.feeding import Feeds
from bot_onnx._verify.runner import Runner
from bot_onnx.errors import GraphError, MissingRuntimeError

BLOCK: Final = 32  #: numbers that share a scale in 4 bits
BATCH: Final = 16  #: samples that are run at a time
LARGEST_HALF: Final = 65504.0  #: of half precision
OUTPUTS: Final = "OpTypesToExcludeOutputQuantization"
_LOOKED_AT: Final = 8  # batches
_MESSAGE_BYTES: Final = 1 << 31
_FAILED: Final = "onnxruntime's quantiser to {kind} refuses {path}: {{}}"


def convert(kind: Kind, source: Source, target: Path, samples: Samples | None) -> tuple[str, ...]:
    """Write a quantised copy of ``source`` to ``target``, in a scratch folder.

    Args:
        kind: what its weights become.
        source: a model in floating point.
        target: the copy; what quantisers need meanwhile lies beside it.
        samples: to calibrate scales of activations on (``int8``); None: they get theirs as the network runs.

    Returns:
        What is to be known of it, in sentences.

    Raises:
        GraphError: it is too large for this kind, has numbers that half precision does not hold, or the quantiser
            fails.
    """
    _check_floats(kind, source)
    failed = _FAILED.format(kind=kind, path=str(source.path).replace("{", "{{").replace("}", "}}"))
    path = _with_initializers(source, target.parent)
    if kind == "fp16":
        bounded = _check_range(source)
        _check_length(source, kind)
        with quantiser(target.parent, failed):
            _halve(path, target)
        return bounded
    if kind == "int8" and samples is not None:
        _check_length(source, "int8 with calibrated scales")
        with quantiser(target.parent, failed):
            return _calibrate(path, target, samples, _opset(source))
    requantise(_scheme(kind), path, target, Calibrated({}, 0, 0, frozenset()), failed)
    return ()


def _with_initializers(source: Source, folder: Path) -> Path:
    """The file, or a copy in ``folder`` with initializers for weights in Constant nodes, which quantisers pass over."""
    path = source.files[0]
    if not any(map(_holds_weights, source.proto.graph.node)):
        return path
    model = onnx.load(os.fspath(path))
    shown = {port.name for port in model.graph.output}
    held = [node for node in model.graph.node if _holds_weights(node) and node.output[0] not in shown]
    for node in held:
        model.graph.initializer.add().CopyFrom(node.attribute[0].t)
        model.graph.initializer[-1].name = node.output[0]
        model.graph.node.remove(node)
    copy = folder / f"initializers-{path.name}"
    save(model, copy, large=is_large(path))
    return copy


def _holds_weights(node: onnx.NodeProto) -> bool:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return False
    return any(
        given.name == "value" and given.t.data_type == onnx.TensorProto.FLOAT and len(given.t.dims) > 1
        for given in node.attribute
    )


def _opset(source: Source) -> int:
    return max(int(one.version) for one in source.proto.opset_import if one.domain in ("", "ai.onnx"))


def _scheme(kind: Kind) -> Scheme:
    """Of packed weights, with an op for every one that the quantiser may write."""
    if kind == "int4":
        ops = tuple((op.name, 1) for op in records() if _is_scheme(op, "blocks") and _contracts(op))
        return Scheme("blocks", ("4-bit",), ops, False, BLOCK, True, 4)
    made = [op for op in records() if _is_scheme(op, "dynamic", "weights")]
    return Scheme("dynamic", ("INT8",), tuple((op.name, 1) for op in made if not _packs_kernels(op)), True, bits=7)


def _is_scheme(op: Op, *schemes: str) -> bool:
    return op.packing is not None and op.packing.scheme in schemes


def _contracts(op: Op) -> bool:
    return op.packing is not None and op.packing.contracts


def _packs_kernels(op: Op) -> bool:
    """Whether an op stands for convolutions: onnxruntime has none of int8 whose scales are found at run time."""
    packs = () if op.packing is None else op.packing.packs
    return any((known := find(name)) is not None and _is_kernel(known) for name in packs)


def _is_kernel(op: Op) -> bool:
    return op.linear is not None and op.linear.form == "kernel"


def _check_floats(kind: Kind, source: Source) -> None:
    """Refuse a model without a matrix of 32 bits, before a quantiser meets it."""
    matrices = [stored.dtype for stored in source.tensors.values() if len(stored.shape) > 1]
    if ir.DataType.FLOAT not in matrices:
        found = ", ".join(sorted({dtype.name for dtype in matrices})) or "none"
        raise GraphError(
            f"{source.path} has nothing to quantise to {kind}: it needs weights in float32, of two axes and more, and "
            f"has: {found}"
        )


def _check_length(source: Source, what: str) -> None:
    if source.size_bytes >= _MESSAGE_BYTES:
        raise GraphError(
            f"{source.path} has {source.size_bytes / 1e9:.1f} GB, and onnxruntime writes {what} up to 2 GiB: quantise "
            "to int8 without calibration, or to int4"
        )


def _calibrate(path: Path, target: Path, samples: Samples, opset: int) -> tuple[str, ...]:
    """Pairs of QuantizeLinear and DequantizeLinear around products and convolutions with a weight. Gives notes."""
    if opset >= BY_CHANNEL:
        _pairs(path, target, samples, per_channel=True)
        return ()
    copy, why = raised(path, target.parent, samples, BATCH)
    _pairs(copy or path, target, samples, per_channel=copy is not None)
    if copy is None:
        return (f"Every weight has one scale: opset {opset} has none by channel, and {BY_CHANNEL} is no way: {why}.",)
    return (f"Opset {opset} became {BY_CHANNEL}, the first with a scale for every channel of a weight.",)


def _pairs(path: Path, target: Path, samples: Samples, *, per_channel: bool) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.registry import QDQRegistry

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = samples.batches(BATCH)

        def get_next(self) -> Any:
            return next(self._batches, None)

    linear = {op.name for op in records() if op.linear is not None and op.domain == ""}
    # What follows a product is a bias or a sum: rounding before it as well gains nothing, and costs.
    products = [op.name for op in records() if op.linear is not None and op.linear.form == "product"]
    quantize_static(
        path,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=sorted(linear & set(QDQRegistry)),
        per_channel=per_channel,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        use_external_data_format=is_large(path),
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT, "MatMulConstBOnly": True, OUTPUTS: products},
    )


def _halve(path: Path, target: Path) -> None:
    """All floats in half precision but those of ops that have none; inputs and outputs keep their type."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(os.fspath(path)), keep_io_types=True)
    save(model, target, large=is_large(path))


def check_between(source: Source, batches: Sequence[Feeds]) -> tuple[str, ...]:
    """Refuse values between that half precision does not hold; on a CPU they would pass, which computes in 32 bits.

    Args:
        source: the floats. batches: inputs; the first few are run.

    Raises:
        GraphError: a value is finite and beyond 65,504, and does not stand for infinity.
    """
    shown = [name for node in source.proto.graph.node for name in node.output if name]
    try:
        runner = Runner(source, str(source.files[0]), mapped=True, show=shown)
    except MissingRuntimeError:
        raise
    except Exception as error:  # weights that cannot be fed; onnxruntime's errors have no public base class
        return (f"Whether values between go beyond 65,504 was not looked at: {one_line(error)}",)
    try:
        for feeds in batches[:_LOOKED_AT]:
            for name, values in runner.run(feeds).items():
                if isinstance(values, np.ndarray) and values.dtype == np.float32 and (most := _beyond(values)[1]):
                    raise GraphError(
                        f"value {name!r} of {source.path} comes to {most:.6g}, beyond 65,504, the largest number of "
                        "half precision: quantise to int8, or leave fp16"
                    )
    finally:
        runner.close()
    return ()


def _beyond(array: NDArray[Any]) -> tuple[int, float, bool]:
    """How many finite values half precision does not hold, the largest, and whether there are bounds of floats.

    The largest float, in masks and as the bound of a Clip, stands for infinity; the largest half will do.
    """
    values = np.abs(array.astype(np.float32, copy=False))
    whole = np.isfinite(values) & (values > LARGEST_HALF)
    bounds = values >= np.finfo(np.float32).max * 0.999
    beyond = values[whole & ~bounds]
    return len(beyond), float(beyond.max(initial=0.0)), bool((whole & bounds).any())


def _check_range(source: Source) -> tuple[str, ...]:
    """Refuse finite weights that half precision does not hold; bounds that stand for infinity become its own.

    Raises:
        GraphError: a tensor has finite values beyond 65,504 that are not the largest float.
    """
    bounded = []
    for name, stored in source.tensors.items():
        if stored.dtype != ir.DataType.FLOAT:
            continue
        count, most, bounds = _beyond(stored.numpy())
        if count:
            raise GraphError(
                f"tensor {name!r} of {source.path} has {count} values beyond 65,504 (up to {most:.6g}), the largest "
                "number of half precision: quantise to int8, or leave fp16"
            )
        if bounds:
            bounded.append(name)
    if not bounded:
        return ()
    told = ", ".join(bounded[:3]) + (f" and {len(bounded) - 3} more" if len(bounded) > 3 else "")
    return (f"The largest float, which stands for infinity in {told}, became the largest of half precision.",)
