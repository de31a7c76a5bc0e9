"""Publish a resized model quantised: the floats lie beside the output for as long as it is made and judged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._analysis.passes import analyse
from bot_onnx._canonical.decompose import Scheme
from bot_onnx._onnxfile.byte_layout import TensorSlot
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import Source, open_model
from bot_onnx._onnxfile.tensor_protos import all_tensors
from bot_onnx._onnxfile.writer import write_model
from bot_onnx._shards import External
from bot_onnx._surgery.calibrated import Calibrated
from bot_onnx._surgery.emit import PROVENANCE
from bot_onnx._surgery.provenance import read_provenance, unpromised
from bot_onnx._surgery.requantise import requantise
from bot_onnx._verify.dequantised import check_quantised
from bot_onnx._verify.model import raise_unless_passed, verify_model
from bot_onnx._verify.types import VerifyReport
from bot_onnx.errors import VerifyError

StrPath = str | os.PathLike[str]


def publish_requantised(
    scheme: Scheme,
    plain: Path,
    out: Path,
    *,
    external: External,
    force: bool,
    sources: Sequence[StrPath],
    calibrated: Calibrated,
    allow_nonfinite: bool = False,
    given: Given | None = None,
) -> tuple[VerifyReport, int]:
    """Quantise ``plain`` and write it to ``out`` once it has been held against ``plain``.

    Args:
        scheme: to quantise in. plain: the resized model in floating point, verified, in a scratch folder. out: the
            output.
        external, force, sources: see :func:`bot_onnx._onnxfile.writer.write_model`.
        calibrated: what of calibrated scales goes on.
        allow_nonfinite: let NaN and infinite weights and outputs pass.
        given: what to run the two on; None: inputs are made up.

    Returns:
        The report of the quantised file, compared with ``plain`` (how much the rounding costs), and its size in bytes.

    Raises:
        GraphError: it cannot be quantised. VerifyError: what came out is another network.
    """
    packed = plain.with_name(f"packed-{plain.name}")
    requantise(scheme, plain, packed, calibrated)
    return publish_packed(
        packed,
        plain,
        out,
        why="quantised again",
        judge=lambda readable: _check_packed(readable, out, plain.parent),
        external=external,
        force=force,
        sources=sources,
        allow_nonfinite=allow_nonfinite,
        given=given,
    )


def publish_packed(
    packed: Path,
    plain: Path,
    out: Path,
    *,
    why: str,
    judge: Callable[[str], None],
    external: External,
    force: bool,
    sources: Sequence[StrPath],
    allow_nonfinite: bool = False,
    given: Given | None = None,
) -> tuple[VerifyReport, int]:
    """Write what a quantiser made to ``out`` once it has passed all checks.

    Args:
        packed: what it made, in a scratch folder. plain: what it made it of. out: the output.
        why: nothing is promised of the outputs any more.
        judge: raises, given a path that opens the finished file, where it is not what was asked for.
        external, force, sources, allow_nonfinite, given: see :func:`publish_requantised`.

    Returns:
        The report of the file, compared with ``plain``, and its size in bytes.

    Raises:
        VerifyError: it failed a check.
    """
    reports: list[VerifyReport] = []

    def check(readable: str) -> None:
        report = verify_model(
            out,
            readable=readable,
            against=plain,
            deep_shapes=False,
            allow_nonfinite=allow_nonfinite,
            given=given,
        )
        raise_unless_passed(report)
        judge(readable)
        reports.append(report)

    with open_model(packed) as source:
        proto, slots = _apart(source, why)
        plan = write_model(
            proto,
            slots,
            _values(source, slots),
            out,
            external=external,
            force=force,
            sources=sources,
            before_publish=check,
        )
    return reports[0], plan.total_bytes


def _check_packed(readable: str, name: Path, folder: Path) -> None:
    """What was packed must be there, and compute what it stands for; its floats lie in ``folder`` meanwhile."""
    with open_model(readable, name=name) as made:
        analysis = analyse(made.model())
        if not check_quantised(analysis, made, folder, readable):
            raise VerifyError("no weight of the result could be quantised as the source's are: leave requantize")


def _apart(source: Source, why: str) -> tuple[onnx.ModelProto, list[TensorSlot]]:
    """The message without its large tensors, and their places; it promises nothing: what rounding costs is open."""
    proto = onnx.ModelProto()
    proto.CopyFrom(source.proto)
    for entry in proto.metadata_props:
        if entry.key == PROVENANCE:
            known = read_provenance({PROVENANCE: entry.value})
            entry.value = json.dumps(unpromised(known, why), sort_keys=True)
    main = {tensor.name for tensor in proto.graph.initializer}
    for (_, tensor), (name, stored) in zip(all_tensors(proto), source.tensors.items(), strict=True):
        if stored.file is not None and name not in main:  # of a node, or in a body: it has no place of its own
            tensor.CopyFrom(ir.to_proto(ir.Tensor(stored.numpy(), dtype=stored.dtype, name=tensor.name)))
    kept = [tensor for tensor in proto.graph.initializer if source.tensors[tensor.name].file is None]
    slots = [
        TensorSlot(tensor.name, stored.dtype, stored.shape)
        for tensor in proto.graph.initializer
        if (stored := source.tensors[tensor.name]).file is not None
    ]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto, slots


def _values(source: Source, slots: list[TensorSlot]) -> Iterator[tuple[str, NDArray[Any]]]:
    for slot in slots:
        yield slot.name, np.asarray(source.tensors[slot.name].numpy())
