"""Quantise a resized model again, in the scheme its source was quantised in.

onnxruntime's own quantisers do it. Schemes without activation scales can be had again from the weights alone. Scales of
activations were calibrated on data at the source's sizes: those that hold at others stay
(:mod:`bot_onnx._surgery.calibrated`), as pairs of QuantizeLinear and DequantizeLinear, which runtimes fuse.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.decompose import Scheme
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._ops import Packing, Slot, linear_of, records, slot_of
from bot_onnx._runs.runtime import onnxruntime
from bot_onnx._surgery.calibrated import Calibrated
from bot_onnx._surgery.static_pairs import put_roundings
from bot_onnx.errors import BotError, GraphError

#: Length of a model, data files included, from which copies of it have their weights in a file of their own.
LARGE_BYTES: Final = 1 << 30


def check_requantisable(scheme: Scheme | None, path: str) -> None:
    """Refuse, before any work, what cannot be quantised again.

    Args:
        scheme: of the source; None: it is not quantised. path: of the source, for messages.

    Raises:
        GraphError: the source is not quantised.
    """
    if scheme is None:
        raise GraphError(f"{path} is not quantised, so there is no scheme to quantise the result in: leave requantize")


def requantise(
    scheme: Scheme,
    source: Path,
    target: Path,
    calibrated: Calibrated,
    failed: str = "the result cannot be quantised again: {}; resize without requantize",
) -> None:
    """Write a quantised copy of a floating-point model; weights of large models go to ``<target>.data``.

    Args:
        scheme: to quantise in. source: the model. target: the copy; what the quantisers need meanwhile lies beside it.
        calibrated: what of calibrated scales goes on.
        failed: what is said of a quantiser's failure, whose words go where the braces are.

    Raises:
        GraphError: the quantiser fails.
    """
    writers: dict[str, Callable[[Scheme, Path, Path], None]] = {
        "dynamic": _dynamic,
        "blocks": _blocks,
        "weights": _weights,
        "static": partial(_static, calibrated=calibrated),
    }
    with quantiser(target.parent, failed):
        writers[scheme.kind](scheme, source, target)


@contextmanager
def quantiser(folder: Path, failed: str) -> Iterator[None]:
    """Run one of onnxruntime's quantisers: quiet, its own files in ``folder``, its failure in one line.

    Raises:
        GraphError: it fails; ``failed`` with its words in place of the braces.
    """
    try:
        with _quiet(), _temporary_files_in(folder), _scripts_found():
            yield
    except BotError:
        raise
    except Exception as error:  # quantisers raise whatever they meet
        raise GraphError(failed.format(one_line(error))) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantisers log advice for people who call them, and set the process' log up when they are imported."""
    root = logging.root
    disabled, level, handlers = root.manager.disable, root.level, list(root.handlers)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """The quantisers write copies of the model wherever ``tempfile`` says: where they are removed with the rest."""
    before, tempfile.tempdir = tempfile.tempdir, os.fspath(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def _scripts_found() -> Iterator[None]:
    """The scripts of onnxruntime find one another by their folder in ``sys.path``, where they put it themselves, once.

    It is there for as long as they work, whoever imported them first, and leaves again: it would take modules of other
    people who have the same names.
    """
    before = list(sys.path)
    sys.path.append(os.fspath(Path(onnxruntime().__file__).parent / "transformers"))
    try:
        yield
    finally:
        sys.path[:] = before


def _packings(name: str) -> list[Packing]:
    """What ops of a name have to do with quantised numbers."""
    return [op.packing for op in records() if op.name == name and op.packing is not None]


def _takes_packed(node: ir.Node, slot: int) -> bool:
    """Whether an input is a weight that is packed along rows: of a product, a convolution, a lookup."""
    known, purpose = linear_of(node), slot_of(node, slot)
    rows = known is not None and (known.form == "product" or (known.form == "kernel" and known.contracted == 1))
    return purpose is Slot.TABLE or (purpose is Slot.WEIGHT and rows)


def _dynamic(scheme: Scheme, source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    present = [name for name, _ in scheme.ops]
    chosen = [op for name in present for known in _packings(name) for op in known.packs]
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=chosen or None,
        per_channel=scheme.per_channel,
        reduce_range=scheme.bits == 7,
        weight_type=QuantType.QUInt8 if "UINT8" in scheme.types and "INT8" not in scheme.types else QuantType.QInt8,
        use_external_data_format=is_large(source),
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # behind ops that ONNX cannot infer through
    )


def _blocks(scheme: Scheme, source: Path, target: Path) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    blocks = (known for name, _ in scheme.ops for known in _packings(name) if known.scheme == "blocks")
    tables = any(known.weight == 0 for known in blocks)
    quantiser = MatMulNBitsQuantizer(
        onnx.load(source),
        bits=scheme.bits,
        block_size=scheme.block,
        is_symmetric=scheme.symmetric,
        accuracy_level=scheme.accuracy or None,
        op_types_to_quantize=("MatMul", "Gather") if tables else ("MatMul",),
    )
    quantiser.process()
    quantiser.model.save_model_to_file(str(target), is_large(source))


def is_large(source: Path) -> bool:
    """Whether the weights of a copy go to a file of their own: a message holds 2 GiB at most."""
    files = [source, *named_files(source)]
    return sum(path.stat().st_size for path in files) > LARGE_BYTES


def _weights(scheme: Scheme, source: Path, target: Path) -> None:
    """DequantizeLinear behind every weight of a product, a convolution or an embedding."""
    model = ir.load(source)
    _pack(model, scheme, None)
    ir.save(model, target, external_data=f"{target.name}.data" if is_large(source) else None)


def _static(scheme: Scheme, source: Path, target: Path, calibrated: Calibrated) -> None:
    """The weights that were quantised, and roundings of the activations whose scales hold."""
    model = ir.load(source)
    _pack(model, scheme, calibrated.weights)
    put_roundings(model.graph, calibrated.grids)
    if any(grid.domain for grid in calibrated.grids.values()):
        model.opset_imports.setdefault("com.microsoft", 1)
    ir.save(model, target, external_data=f"{target.name}.data" if is_large(source) else None)


def _pack(model: ir.Model, scheme: Scheme, names: Collection[str] | None) -> None:
    """Pack the weights called ``names`` (None: all) that only products, convolutions and look-ups read."""
    graph = model.graph
    for needed, what in ((21 if scheme.block else 0, "in blocks"), (13 if scheme.per_channel else 10, "of weights")):
        if model.opset_imports.get("", 0) < needed:
            raise GraphError(f"DequantizeLinear {what} needs opset {needed}; resize without requantize")
    for value in list(graph.initializers.values()):
        uses = tuple(value.uses())
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2 or not uses:
            continue
        if not all(_takes_packed(usage.node, usage.idx) for usage in uses):
            continue
        if names is not None and value.name not in names:
            continue
        axis = _channels(uses[0].node)
        stored, scale, zero = _packed(np.asarray(tensor.numpy()), scheme, axis)
        _put_behind(graph, value, stored, scale, zero, axis % len(tensor.shape), scheme.block)


def _channels(node: ir.Node) -> int:
    """Axis of a weight that has a scale for each index, where channels have their own."""
    known = linear_of(node)
    if known is None or known.form != "product":
        return 0
    return 0 if known.flips is not None and node.attributes.get_int(known.flips[1], 0) != 0 else -1


def _packed(
    array: NDArray[Any], scheme: Scheme, axis: int
) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[Any] | None]:
    """Values, scales and zero points (None: 0) of an array; in blocks along the first axis if the scheme has them."""
    dtype = np.dtype(ir.DataType[_type(scheme)].numpy())
    bits = 4 if "4" in dtype.name else 8
    unsigned = dtype.name.startswith("u")
    low, high = (0, (1 << bits) - 1) if unsigned else (-(1 << (bits - 1)) + 1, (1 << (bits - 1)) - 1)
    if scheme.block:
        rows = -(-array.shape[0] // scheme.block)
        rest = np.zeros((rows * scheme.block - array.shape[0], *array.shape[1:]), array.dtype)
        spread = np.concatenate([array, rest]).reshape(rows, scheme.block, *array.shape[1:])
        least, most = (np.minimum(spread.min(axis=1), 0), np.maximum(spread.max(axis=1), 0))
    elif scheme.per_channel:
        others = tuple(index for index in range(array.ndim) if index != axis % array.ndim)
        least, most = np.minimum(array.min(axis=others), 0), np.maximum(array.max(axis=others), 0)
    else:
        least, most = np.minimum(array.min(), 0), np.maximum(array.max(), 0)
    if not unsigned:
        most = np.maximum(most, -least)
        least = np.zeros_like(most)
        scale = np.where(most > 0, most, 1) / high
        zero = np.zeros_like(scale)
    else:
        scale = np.where(most > least, most - least, 1) / high
        zero = np.rint(-least / scale)
    wide, shift = (_spread(part, array.shape, axis, scheme) for part in (scale, zero))
    stored = np.clip(np.rint(array / wide) + shift, low, high).astype(dtype)
    return stored, np.asarray(scale, np.float32), np.asarray(zero).astype(dtype) if unsigned else None


def _type(scheme: Scheme) -> str:
    return next((name for name in scheme.types if name in ("INT8", "UINT8", "INT4", "UINT4")), "INT8")


def _spread(part: NDArray[Any], shape: tuple[int, ...], axis: int, scheme: Scheme) -> NDArray[Any]:
    if scheme.block:
        return np.repeat(part, scheme.block, axis=0)[: shape[0]]
    if part.ndim == 0:
        return part
    return part.reshape([-1 if index == axis % len(shape) else 1 for index in range(len(shape))])


def _put_behind(
    graph: ir.Graph,
    value: ir.Value,
    stored: NDArray[Any],
    scale: NDArray[np.float32],
    zero: NDArray[Any] | None,
    axis: int,
    block: int,
) -> None:
    parts: list[ir.Value | None] = []
    for label, array in (("quantized", stored), ("scale", scale), ("zero_point", zero)):
        if array is None:
            continue
        name = f"{value.name}_{label}"
        tensor = ir.Tensor(array, name=name)
        graph.initializers[name] = ir.Value(
            name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        parts.append(graph.initializers[name])
    attributes = {"axis": 0, "block_size": block} if block else {"axis": axis} if scale.ndim else {}
    node = ir.node("DequantizeLinear", parts, attributes, name=f"{value.name}_DequantizeLinear")
    node.outputs[0].name = f"{value.name}_dequantized"
    graph.insert_before(graph[0], node)
    for usage in tuple(value.uses()):
        usage.node.replace_input_with(usage.idx, node.outputs[0])
    del graph.initializers[value.name or ""]
