"""Quantised files resize as the floats that their weights stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import bot_onnx
from bot_onnx._canonical.normalise import normalise
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._ops import records
from bot_onnx.errors import GraphError
from tests.forms import blocks_4bit, dynamic_int8, eager_bert, ops_of, optimised_by_tool, static_int8
from tests.system.oracle.compare import distance, run_at_two_sizes
from tests.zoo.architectures import base_size
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter

QUANTISED_OPS = {op.name for op in records() if op.packing is not None}


def weight_only(source: Path, path: Path) -> None:
    blocks_4bit(source, path)


def weight_only_asymmetric(source: Path, path: Path) -> None:
    blocks_4bit(source, path, symmetric=False, block=16)


def weight_pairs(source: Path, path: Path) -> None:
    blocks_4bit(source, path, pairs=True)


def dynamic_channels(source: Path, path: Path) -> None:
    dynamic_int8(source, path, per_channel=True, unsigned=True)


def operators(source: Path, path: Path) -> None:
    static_int8(source, path, operators=True, everything=True)


#: Form -> (architecture, how it is made, an op it has, kind of scheme, least cosine of outputs with the floats').
CASES: dict[str, tuple[str, Callable[[Path, Path], None], str, str, float]] = {
    "dynamic": ("bert", dynamic_int8, "MatMulInteger", "dynamic", 0.999),
    "dynamic_conv": ("vit", dynamic_channels, "ConvInteger", "dynamic", 0.999),
    "pairs": ("bert", static_int8, "QuantizeLinear", "static", 0.98),
    "operators": ("vit", operators, "QLinearMatMul", "static", 0.98),
    "operators_gemm": ("gpt2", operators, "QGemm", "static", 0.98),
    "blocks": ("llama", weight_only, "MatMulNBits", "blocks", 0.99999),
    "blocks_asymmetric": ("bert", weight_only_asymmetric, "MatMulNBits", "blocks", 0.99999),
    "blocks_pairs": ("bert", weight_pairs, "DequantizeLinear", "weights", 0.99999),
}


def float_form(path: Path, out: Path) -> str:
    """Write the file as floats, as the analysis sees it; returns the kind of its scheme."""
    with open_model(path) as source:
        model = source.model()
        scheme = normalise(model).scheme
        assert scheme is not None
        ir.save(model, out, external_data=f"{out.name}.data")
    return scheme.kind


def cosine(left: Path, right: Path) -> float:
    pairs = zip(run_at_two_sizes(left), run_at_two_sizes(right), strict=True)
    both = [(a.ravel(), b.ravel()) for xs, ys in pairs for a, b in zip(xs, ys, strict=True)]
    return min(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in both)


@pytest.mark.parametrize("case", CASES)
def test_quantised_files(case: str, tmp_path: Path) -> None:
    arch, make, op, kind, least = CASES[case]
    exporter = "torchscript17" if arch in ("vit", "llama") else "dynamo18"
    source, packed, plain = cached_export(arch, base_size(arch), exporter), tmp_path / "q.onnx", tmp_path / "f.onnx"
    make(source, packed)
    assert op in ops_of(packed)
    assert float_form(packed, plain) == kind
    assert not ops_of(plain) & QUANTISED_OPS
    assert cosine(packed, plain) >= least
    _close_to_the_unquantised(source, plain, bits=4 if kind in ("blocks", "weights") else 8)
    spec = {"layers": 2, "hidden": 32}
    bot_onnx.resize(packed, spec, tmp_path / "small_q.onnx")
    bot_onnx.resize(plain, spec, tmp_path / "small_f.onnx")
    assert not ops_of(tmp_path / "small_q.onnx") & QUANTISED_OPS
    assert distance(run_at_two_sizes(tmp_path / "small_q.onnx"), run_at_two_sizes(tmp_path / "small_f.onnx")) == 0
    notes = bot_onnx.inspect(packed).structure.notes
    assert any(note.startswith("Quantised: ") and op in note for note in notes)


def _close_to_the_unquantised(source: Path, plain: Path, bits: int) -> None:
    """Every weight that kept its name is within a step of what was quantised."""
    with open_model(source) as first, open_model(plain) as second:
        ours = {name: stored.numpy() for name, stored in second.tensors.items()}
        shared = 0
        for name, stored in first.tensors.items():
            array = stored.numpy()
            if (
                len(stored.shape) == 2
                and array.dtype == np.float32
                and name in ours
                and ours[name].shape == array.shape
            ):
                shared += 1
                step = (array.max() - array.min()) / ((1 << bits) - 1)
                turned = [ours[name], ours[name].T] if array.shape[0] == array.shape[1] else [ours[name]]
                assert min(np.abs(array - mine).max() for mine in turned) <= 1.1 * step  # a Gemm's may be turned
    assert shared


def test_quantised_fused_layers(tmp_path: Path) -> None:
    """Fused attention and embeddings with their weights in 8 bits, as a quantiser makes them of an optimised file."""
    fused, packed, plain = (tmp_path / name for name in ("fused.onnx", "q.onnx", "f.onnx"))
    optimised_by_tool(eager_bert(base_size("bert")), fused, "bert", base_size("bert"))
    dynamic_int8(fused, packed, per_channel=True)
    assert {"QAttention", "QEmbedLayerNormalization", "MatMulInteger"} <= ops_of(packed)
    float_form(packed, plain)
    assert not ops_of(plain) & QUANTISED_OPS
    least = CASES["dynamic"][-1]  # activations are rounded as well, by kernels that differ between runtimes
    assert cosine(packed, plain) >= least
    result = bot_onnx.resize(packed, {"layers": 6, "hidden": 128}, tmp_path / "out.onnx", requantize=True)
    assert {"QAttention", "MatMulInteger", "DequantizeLinear"} <= ops_of(tmp_path / "out.onnx")
    assert min(entry.cosine for entry in result.report.comparisons if entry.cosine is not None) >= least


@pytest.mark.thorough
def test_a_file_that_its_floats_do_not_explain_is_told_or_refused(tmp_path: Path) -> None:
    """Static scales that cut everything off: a warning on inputs that are made up, a refusal on real ones."""
    packed = tmp_path / "q.onnx"
    static_int8(cached_export("llama", base_size("llama"), "torchscript17"), packed, everything=True)
    notes = bot_onnx.resize(packed, {"layers": 2}, tmp_path / "told.onnx").plan.notes
    assert any(note.startswith("WARNING: that is less than 0.9") for note in notes)
    given = {"input_ids": np.arange(10).reshape(2, 5) % 97}
    with pytest.raises(GraphError, match="cosine similarity"):
        bot_onnx.resize(packed, {"layers": 2}, tmp_path / "out.onnx", inputs=given)
    assert not (tmp_path / "out.onnx").exists()
    bot_onnx.resize(packed, {"layers": 2}, tmp_path / "out.onnx", against=False)
