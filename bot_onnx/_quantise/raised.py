"""A copy of a file in the opset from which scales go by channel, held against the file on samples."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Final

import onnx
from onnx import version_converter

from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._quantise.measure import closeness, open_file
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._surgery.requantise import is_large

BY_CHANNEL: Final = 13  #: opset from which DequantizeLinear knows an axis
CLOSE: Final = 1e-5  #: of an output's scale: another opset means other kernels at most
_RUN: Final = 2  # batches


def save(model: onnx.ModelProto, path: Path, *, large: bool) -> None:
    """Write a model, where it is large with its weights in a file beside it."""
    onnx.save(model, os.fspath(path), save_as_external_data=large, location=f"{path.name}.data" if large else None)


def raised(path: Path, folder: Path, samples: Samples, batch: int) -> tuple[Path | None, str]:
    """A copy of opset 13 in ``folder``, made by onnx's converter, that computes the same.

    Args:
        path: of a model in floating point of an older opset, below 2 GiB.
        folder: of the copy.
        samples: that both are run on, ``batch`` at a time.

    Returns:
        The copy, or None and why there is none.
    """
    copy = folder / f"opset-{BY_CHANNEL}-{path.name}"
    try:
        save(version_converter.convert_version(onnx.load(os.fspath(path)), BY_CHANNEL), copy, large=is_large(path))
        found = closeness(open_file(path), open_file(copy), islice(samples.batches(batch), _RUN), "another opset")
    except Exception as error:  # the converter's, onnxruntime's and ours have no common base class
        return None, one_line(error)
    for one in found:
        if one.max_difference is None or one.max_difference > CLOSE * one.scale:
            return None, f"its output {one.output!r} would be another one"
    return copy, ""
