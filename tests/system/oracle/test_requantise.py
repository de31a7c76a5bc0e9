"""A resized model quantised again: in the scheme of its source, close to its own floats, smaller than they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import bot_onnx
from bot_onnx._canonical.decompose import Scheme
from bot_onnx._canonical.normalise import normalise
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._surgery.provenance import read_lineage
from bot_onnx.errors import GraphError
from tests.forms import blocks_4bit, channel_pairs, dynamic_int8, static_int8
from tests.zoo.architectures import base_size
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter


def channels(source: Path, path: Path) -> None:
    dynamic_int8(source, path, per_channel=True, unsigned=True)


def pairs(source: Path, path: Path) -> None:
    blocks_4bit(source, path, pairs=True)


def shifted(source: Path, path: Path) -> None:
    blocks_4bit(source, path, symmetric=False, block=16)


CASES: dict[str, tuple[str, str, Callable[[Path, Path], None], float]] = {
    "dynamic": ("bert", "dynamo18", dynamic_int8, 0.995),
    "channels": ("vit", "torchscript17", channels, 0.995),
    "blocks": ("llama", "torchscript17", shifted, 0.6),
    "pairs": ("bert", "dynamo20", pairs, 0.6),
    "weights": ("llama", "dynamo18", channel_pairs, 0.99),
}


def scheme(path: Path) -> Scheme:
    with open_model(path) as source:
        found = normalise(source.model()).scheme
    assert found is not None
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("case", CASES)
def test_in_the_scheme_of_the_source(case: str, tmp_path: Path) -> None:
    arch, exporter, make, least = CASES[case]
    packed, out, plain = tmp_path / "q.onnx", tmp_path / "out.onnx", tmp_path / "plain.onnx"
    make(cached_export(arch, base_size(arch), exporter), packed)
    spec = {"layers": 6, "hidden": 128}
    bot_onnx.resize(packed, spec, plain)
    result = bot_onnx.resize(packed, spec, out, requantize=True)
    ours, theirs = scheme(out), scheme(packed)
    for name in ("kind", "types", "block", "per_channel", "symmetric"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert {name for name, _ in ours.ops} == {name for name, _ in theirs.ops}
    assert min(entry.cosine for entry in result.report.comparisons if entry.cosine is not None) >= least
    assert result.plan.size_bytes[1] == out.stat().st_size < 0.6 * plain.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.onnx", "plain.onnx", "q.onnx"]
    assert bot_onnx.verify(out, spec=spec).passed
    lineage = read_lineage({entry.key: entry.value for entry in onnx.load(out).metadata_props})
    assert lineage is not None and (lineage.promise.kept, lineage.promise.why) == (None, "quantised again")
    assert result.plan.promise == lineage.promise


def test_calibrated_scales_stay_on_what_stays(tmp_path: Path) -> None:
    """Fewer layers, every size as it was: what is left is rounded as it was calibrated."""
    source, packed, out = cached_export("gpt2", base_size("gpt2"), "dynamo18"), tmp_path / "q.onnx", tmp_path / "o.onnx"
    static_int8(source, packed)
    result = bot_onnx.resize(packed, {"layers": 2}, out, requantize=True)
    assert any("stay as they were calibrated" in note for note in result.plan.notes)
    assert scheme(out).kind == "static"
    with pytest.raises(GraphError, match="is not quantised"):
        bot_onnx.resize(source, {"layers": 2}, tmp_path / "out.onnx", requantize=True)
