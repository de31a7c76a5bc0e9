"""Weights in other types, behind views, flattened, in a file of their own: resized as they are, stored as they were.

The oracle is the native export of the target size, brought into the same form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.forms import external_data, half_precision, stored_as
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.zoo.architectures import base_size, half
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter

#: Form -> (architecture, exporter, how it is made, how far growing may move the outputs).
CASES: dict[str, tuple[str, str, Callable[[Path, Path], None], float]] = {
    "half": ("bert", "torchscript17", half_precision, 2e-2),
    "float16": ("gpt2", "torchscript17", partial(stored_as, how="float16"), 2e-2),
    "bfloat16": ("llama", "dynamo18", partial(stored_as, how="bfloat16"), 1e-1),
    "transposed": ("bert", "torchscript17", partial(stored_as, how="transposed"), 1e-4),
    "flattened": ("llama", "dynamo18", partial(stored_as, how="flattened"), 1e-4),
    "external": ("gpt2", "torchscript17", external_data, 1e-4),
}


def types_of(path: Path) -> Counter[int]:
    """How many weights of two axes there are of each type."""
    tensors = onnx.load(path, load_external_data=False).graph.initializer
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
    return Counter(tensor.data_type for tensor in tensors if len(tensor.dims) == 2 and tensor.data_type in floats)


@pytest.mark.parametrize("case", CASES)
def test_forms_of_storage(case: str, tmp_path: Path) -> None:
    arch, exporter, make, drift = CASES[case]
    base, small = base_size(arch), half(base_size(arch))
    source, native, out = tmp_path / "source.onnx", tmp_path / "native.onnx", tmp_path / "out.onnx"
    make(cached_export(arch, base, exporter), source)
    make(cached_export(arch, small, exporter), native)
    bot_onnx.resize(source, {"layers": small.layers, "hidden": small.hidden, "heads": small.heads}, out)
    transplanted = transplant(analysis_of(out), analysis_of(native))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= 1e-5
    if case != "flattened":  # which get their axes back
        assert types_of(out) == types_of(native)
    assert len(list(tmp_path.glob("out.onnx.*.data"))) == (case == "external")
    wide = tmp_path / "wide.onnx"
    bot_onnx.resize(source, {"layers": base.layers + 1, "hidden": 2 * base.hidden}, wide)
    for before, after in zip(run_at_two_sizes(source), run_at_two_sizes(wide), strict=True):
        for a, b in zip(before, after, strict=True):
            wanted = np.repeat(a, b.shape[-1] // a.shape[-1], axis=-1)
            assert np.abs(wanted.astype(np.float32) - b).max() <= drift * np.abs(a).max()
