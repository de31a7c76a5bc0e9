"""Attention as one op: heads, head_dim and kv heads are found, its attributes follow, and what it computes is right."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from bot_onnx.errors import BotError
from tests.attention_graphs import ATTENDS, MICROSOFT, NO_GROUPS, ROTARY, Sizes, cached_decoder, decoder
from tests.graphs import GraphBuilder
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant


def source_sizes(kind: str) -> Sizes:
    head_dim = 16 if kind.startswith("grouped") else 6  # the runtime wants multiples of 16 there
    kv_heads = 4 if kind in NO_GROUPS else 2
    return Sizes(hidden=24, heads=4, kv_heads=kv_heads, head_dim=head_dim)


def targets(kind: str) -> list[Sizes]:
    source = source_sizes(kind)
    up = replace(source, layers=4, hidden=36, heads=6, kv_heads=source.kv_heads * 3 // 2)
    down = replace(source, layers=2, hidden=12, heads=2, kv_heads=source.kv_heads // 2)
    return [down, up, replace(source, head_dim=source.head_dim * 2)]


def save(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def spec(sizes: Sizes, kind: str) -> dict[str, int]:
    wanted = asdict(sizes)
    if kind in NO_GROUPS:
        del wanted["kv_heads"]
    return wanted


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ATTENDS)
def test_resized_equals_native(kind: str, tmp_path: Path) -> None:
    source = save(decoder(kind, source_sizes(kind)), tmp_path / "source.onnx")
    for number, sizes in enumerate(targets(kind)):
        out = tmp_path / f"{number}.onnx"
        bot_onnx.resize(source, spec(sizes, kind), out, align="none")
        native = save(decoder(kind, sizes, seed=1), tmp_path / "native.onnx")
        transplanted = transplant(analysis_of(out), analysis_of(native))
        assert distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= 1e-5
        del native


@pytest.mark.parametrize("sizes", [Sizes(12, 2, 1, 16, 2), Sizes(36, 6, 3, 16, 4), Sizes(24, 4, 2, 32)])
def test_caches_follow_their_layers_and_heads(sizes: Sizes, tmp_path: Path) -> None:
    source = save(cached_decoder(Sizes(24, 4, 2, 16)), tmp_path / "source.onnx")
    out = tmp_path / "out.onnx"
    bot_onnx.resize(source, asdict(sizes), out, align="none")
    caches = [value for value in onnx.load(out).graph.input if value.name.startswith("past")]
    assert [cache.name.split(".")[1] for cache in caches[::2]] == [str(layer) for layer in range(sizes.layers)]
    wanted = (sizes.kv_heads, sizes.head_dim)
    assert {tuple(d.dim_value for d in c.type.tensor_type.shape.dim)[1::2] for c in caches} == {wanted}
    native = save(cached_decoder(sizes, seed=1), tmp_path / "native.onnx")
    transplanted = transplant(analysis_of(out), analysis_of(native))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= 1e-5


@pytest.mark.parametrize("kind", [kind for kind in ATTENDS if kind not in ROTARY])
def test_growing_head_dim_keeps_the_function(kind: str, tmp_path: Path) -> None:
    """Queries and keys, and they alone, take up what the op's scale loses; also inside a packed weight."""
    size = source_sizes(kind)
    source = save(decoder(kind, size), tmp_path / "source.onnx")
    bot_onnx.resize(source, {"head_dim": size.head_dim * 2}, tmp_path / "out.onnx")
    before, after = run_at_two_sizes(source), run_at_two_sizes(tmp_path / "out.onnx")
    assert distance(after, before) <= 1e-5


def test_a_scale_that_no_formula_explains_is_asked_for(tmp_path: Path) -> None:
    model = decoder("standard", source_sizes("standard"))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "scale":
                attribute.f = (2 * source_sizes("standard").head_dim) ** -0.5
    source = save(model, tmp_path / "source.onnx")
    with pytest.raises(BotError, match="is no known formula"):
        bot_onnx.resize(source, {"head_dim": 12}, tmp_path / "out.onnx")
    names = [node.name for node in model.graph.node if node.op_type == "Attention"]
    given = {"head_dim": 12, "constants": {name: "1/sqrt(2*head_dim)" for name in names}}
    bot_onnx.resize(source, given, tmp_path / "out.onnx")
    written = {
        attribute.f
        for node in onnx.load(tmp_path / "out.onnx").graph.node
        for attribute in node.attribute
        if attribute.name == "scale"
    }
    assert written == {np.float32(24**-0.5)}


def prefixed(kind: str, sizes: Sizes, seed: int = 0) -> onnx.ModelProto:
    """A network that attends to three learned keys and values in front of its own (prefix tuning)."""
    b = GraphBuilder(seed)
    width, past = sizes.heads * sizes.head_dim, 3
    x = b.op("MatMul", "x", b.weight(5, sizes.hidden))
    for _ in range(sizes.layers):
        operands = [b.op("MatMul", x, b.weight(sizes.hidden, width)) for _ in range(3)]
        prefix = [b.weight(1, sizes.heads, past, sizes.head_dim) for _ in range(2)]
        if kind == "standard":
            heads = {"q_num_heads": sizes.heads, "kv_num_heads": sizes.heads}
            made = b.op("Attention", *operands, "", *prefix, outputs=3, **heads)
        elif kind == "multi_head":
            packed = (*operands, "", "", "", *prefix)
            made = b.op("MultiHeadAttention", *packed, outputs=3, num_heads=sizes.heads, domain=MICROSOFT)
        else:
            lengths = b.constant(np.array([past + 1], np.int32)), b.constant(np.array(past + 2, np.int32))
            heads = {"num_heads": sizes.heads, "kv_num_heads": sizes.heads}
            made = b.op("GroupQueryAttention", *operands, *prefix, *lengths, outputs=3, domain=MICROSOFT, **heads)
        x = b.op("Add", x, b.op("MatMul", made, b.weight(width, sizes.hidden)))
    model = b.model([("x", [1, 2, 5])], [b.op("MatMul", x, b.weight(sizes.hidden, 3))], rank=3, opset=23)
    model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    model.ir_version = 10
    return model


@pytest.mark.parametrize("kind", ["standard", "multi_head", "grouped"])
def test_constant_keys_are_keys(kind: str, tmp_path: Path) -> None:
    source = save(prefixed(kind, Sizes(24, 4, 4, 8, 2)), tmp_path / "source.onnx")
    out = tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"heads": 8, "head_dim": 16}, out)
    assert result.plan.promise.kept
    assert distance(run_at_two_sizes(out), run_at_two_sizes(source)) <= 1e-5
    small = Sizes(12, 2, 2, 8, 1)
    bot_onnx.resize(source, {"hidden": 12, "heads": 2, "layers": 1}, out, force=True)
    native = save(prefixed(kind, small, seed=1), tmp_path / "native.onnx")
    transplanted = transplant(analysis_of(out), analysis_of(native))
    assert distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= 1e-5
