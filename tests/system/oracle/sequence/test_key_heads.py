"""Key and value heads grow: from one that all query heads share, however that is spelled, and from groups."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from rich.console import Console

import bot_onnx
from bot_onnx._report.inspect_report import inspect_report
from bot_onnx.errors import BotError, GraphError, SpecError
from tests.attention_graphs import Sizes, cached_decoder
from tests.attention_graphs import decoder as one_op
from tests.graphs import save
from tests.system.oracle.compare import analysis_of, distance, run_at_two_sizes, transplant
from tests.system.oracle.sequence.graphs import multi_query
from tests.system.oracle.sequence.key_heads import SPELLINGS, decoder, grouped_queries, queries_in_a_row

CLOSE = 1e-5


def grown(source: Path, spec: dict[str, Any], out: Path, **more: Any) -> bot_onnx.Result:
    """Resize, with the function kept and proven."""
    result = bot_onnx.resize(source, spec, out, **more)
    assert result.plan.promise.kept is True, result.plan.promise.why
    assert result.plan.proof.status == "proven"
    assert all(one.max_difference <= CLOSE * max(one.scale, 1.0) for one in result.report.comparisons)
    return result


def equals_native(out: Path, native: onnx.ModelProto, folder: Path) -> bool:
    transplanted = transplant(analysis_of(out), analysis_of(save(native, folder, "native.onnx")))
    return distance(run_at_two_sizes(out), run_at_two_sizes(transplanted)) <= CLOSE


def sizes_of(path: Path, role: str) -> set[int]:
    return {dim.size for dim in bot_onnx.inspect(path).structure.dims.values() if dim.role == role}


@pytest.mark.thorough
@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_head_becomes_several(spelling: str, kv_heads: int, tmp_path: Path) -> None:
    """Caches, norms and turns of keys on the way; the whole grows with it, and shrinks in another resize."""
    source, out = save(decoder(spelling, cached=True, normed=True), tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.inspect(source).structure.single_kv_head
    result = grown(source, {"kv_heads": kv_heads}, out)
    assert {(d.source, d.target) for d in result.plan.dims if d.role == "kv_heads"} == {(1, kv_heads)}
    ports = {v.name: v for v in (*onnx.load(out).graph.input, *onnx.load(out).graph.output)}
    caches = [ports[f"{side}.{n}.{part}"] for side in ("past", "present") for n in (0, 1) for part in ("key", "value")]
    assert {cache.type.tensor_type.shape.dim[1].dim_value for cache in caches} == {kv_heads}
    assert sizes_of(out, "kv_heads") == ({kv_heads} if kv_heads < 4 else set())
    assert sizes_of(out, "heads") == {4}
    assert equals_native(out, decoder(spelling, kv_heads=kv_heads, cached=True, normed=True), tmp_path)
    assert bot_onnx.verify(out, against=source).passed


@pytest.mark.thorough
@pytest.mark.parametrize("spelling", ["broadcast", "computed"])
@pytest.mark.parametrize(
    ("spec", "native"),
    [
        ({"kv_heads": 2, "heads": 8, "hidden": 64, "layers": 3}, {"kv_heads": 2, "heads": 8, "layers": 3}),
        ({"kv_heads": 2, "heads": 2, "hidden": 16, "layers": 1}, {"kv_heads": 2, "heads": 2, "layers": 1}),
        ({"kv_heads": 3, "heads": 6, "hidden": 48}, {"kv_heads": 3, "heads": 6}),
    ],
)
def test_beside_other_sizes(spelling: str, spec: dict[str, int], native: dict[str, int], tmp_path: Path) -> None:
    source, out = save(decoder(spelling), tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, spec, out).report.passed
    assert equals_native(out, decoder(spelling, **native), tmp_path)


@pytest.mark.parametrize("heads", [2, 3, 5])
def test_a_head_for_every_query_head(heads: int, tmp_path: Path) -> None:
    """Also where their number has no divisor."""
    source, out = save(decoder("broadcast", heads=heads, cached=True), tmp_path), tmp_path / "out.onnx"
    grown(source, {"kv_heads": heads}, out)
    assert sizes_of(out, "heads") == {heads}
    assert equals_native(out, decoder("repeated", heads=heads, kv_heads=heads, cached=True), tmp_path)


@pytest.mark.parametrize("from_end", [True, False])
def test_from_a_matrix_for_queries_keys_and_values(from_end: bool, tmp_path: Path) -> None:
    source, out = save(multi_query(layers=2, from_end=from_end), tmp_path), tmp_path / "out.onnx"
    for kv_heads in (2, 4):
        grown(source, {"kv_heads": kv_heads}, out, force=True)
        held = {tuple(tensor.dims) for tensor in onnx.load(out).graph.initializer}
        assert (32, (4 + 2 * kv_heads) * 8) in held
    spec = {"kv_heads": 2, "heads": 8, "hidden": 64, "layers": 3}
    grown(source, spec, out, force=True)
    assert sizes_of(out, "kv_heads") == {2}


@pytest.mark.thorough
@pytest.mark.parametrize("kv_heads", [2, 4])
@pytest.mark.parametrize("kind", ["standard", "standard_rotary", "grouped", "grouped_packed"])
def test_ops_that_are_a_whole_attention(kind: str, kv_heads: int, tmp_path: Path) -> None:
    sizes = Sizes(hidden=24, heads=4, kv_heads=1, head_dim=16, layers=2)
    source, out = save(one_op(kind, sizes), tmp_path), tmp_path / "out.onnx"
    grown(source, {"kv_heads": kv_heads}, out)
    told = {a.i for node in onnx.load(out).graph.node for a in node.attribute if a.name == "kv_num_heads"}
    assert told == {kv_heads}
    assert equals_native(out, one_op(kind, replace(sizes, kv_heads=kv_heads), seed=1), tmp_path)


def test_caches_of_an_op(tmp_path: Path) -> None:
    sizes = Sizes(24, 4, 1, 16, 2)
    source, out = save(cached_decoder(sizes), tmp_path), tmp_path / "out.onnx"
    wanted = replace(sizes, kv_heads=2, layers=3)
    grown(source, asdict(wanted), out)
    assert equals_native(out, cached_decoder(wanted, seed=1), tmp_path)


@pytest.mark.parametrize(("method", "options"), [("net2net", {}), ("bert2bert", {"variant": "fpi"})])
def test_by_other_methods(method: str, options: dict[str, Any], tmp_path: Path) -> None:
    source, out = save(decoder("repeated", heads=6, cached=True), tmp_path), tmp_path / "out.onnx"
    spec = {"kv_heads": 3, "heads": 12, "hidden": 96}
    grown(source, spec, out, method=method, options=options)


@pytest.mark.parametrize("method", ["bot", "net2net"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "spec"),
    [
        (8, 2, {"kv_heads": 4}),
        (8, 2, {"kv_heads": 8}),
        (8, 2, {"kv_heads": 6, "heads": 12, "head_dim": 8}),
        (12, 2, {"kv_heads": 4, "heads": 24, "hidden": 192}),
    ],
)
def test_groups_hand_heads_over(method: str, heads: int, kv_heads: int, spec: dict[str, int], tmp_path: Path) -> None:
    """More key heads for the same query heads: each takes over a part of its group."""
    source, out = (
        save(decoder("repeated", heads=heads, kv_heads=kv_heads, cached=True), tmp_path),
        tmp_path / "out.onnx",
    )
    grown(source, spec, out, method=method)


@pytest.mark.parametrize(
    ("spec", "native"),
    [
        ({"kv_heads": 4}, {"kv_heads": 4}),
        ({"kv_heads": 1}, {"kv_heads": 1}),
        ({"kv_heads": 4, "heads": 8, "hidden": 64, "layers": 3}, {"kv_heads": 4, "heads": 8, "layers": 3}),
    ],
)
@pytest.mark.parametrize(("spelling", "plain"), [("gathered", "repeated"), ("gathered_in_turn", "tiled")])
def test_heads_repeated_by_indices(
    spelling: str, plain: str, spec: dict[str, int], native: dict[str, int], tmp_path: Path
) -> None:
    """The indices follow the heads: what is written is what the spelling by sizes gives, and the native network."""
    outs = []
    for way in (spelling, plain):
        source, out = save(decoder(way, kv_heads=2, cached=True), tmp_path), tmp_path / f"{way}.out.onnx"
        assert bot_onnx.resize(source, spec, out).report.passed
        outs.append(out)
    assert distance(run_at_two_sizes(outs[0]), run_at_two_sizes(outs[1])) <= CLOSE
    assert equals_native(outs[0], decoder(spelling, **native, cached=True), tmp_path)


def test_heads_repeated_in_a_way_that_is_not_understood_are_refused(tmp_path: Path) -> None:
    """Not noted as heads that every query head has of its own."""
    model = decoder("gathered", kv_heads=2)
    uneven = onnx.numpy_helper.from_array(np.array([0, 0, 0, 1]))
    picks = {node.input[1] for node in model.graph.node if node.op_type == "Gather"}
    for tensor in model.graph.initializer:
        if tensor.name in picks:
            tensor.raw_data = uneven.raw_data
    source = save(model, tmp_path)
    for kv_heads in (1, 2, 4):
        with pytest.raises(SpecError, match=r"'kv_heads'.*not understood.*Drop the key, or export"):
            bot_onnx.plan(source, {"kv_heads": kv_heads})
    own = bot_onnx.plan(save(decoder("gathered", kv_heads=4), tmp_path), {"kv_heads": 4})
    assert any("every query head has its key and value head" in note for note in own.notes)


@pytest.mark.parametrize(
    ("spec", "kept"),
    [
        ({"heads": 4, "kv_heads": 2}, False),
        ({"heads": 16}, True),
        ({"heads": 8, "kv_heads": 8}, True),
        ({"hidden": 16}, False),
    ],
)
@pytest.mark.parametrize("spelling", ["matmul", "einsum", "einsum_apart"])
def test_query_heads_in_groups(spelling: str, spec: dict[str, int], kept: bool, tmp_path: Path) -> None:
    """Their number is that of the key heads times the group, on whatever axes these are."""
    source, out = save(grouped_queries(spelling), tmp_path), tmp_path / "out.onnx"
    found = bot_onnx.inspect(source).structure
    assert {dim.size for dim in found.dims.values() if dim.role in ("kv_heads", "group")} == {4, 2}
    assert not found.single_kv_head and not found.own_kv_heads
    plan = bot_onnx.resize(source, spec, out).plan
    assert plan.promise.kept is kept or spelling == "einsum_apart"
    halved = {"heads": 4, "kv_heads": 2} if "hidden" in spec else {}
    native = {"kv_heads": spec.get("heads", 8) // 2, **spec, **halved}
    assert equals_native(out, grouped_queries(spelling, **native), tmp_path)


def test_where_nothing_is_dealt_out_the_plan_says_so(tmp_path: Path) -> None:
    source, out = save(decoder("repeated", heads=12, kv_heads=2), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"kv_heads": 3}, out)
    assert result.plan.promise.kept is False
    assert "shrinks" in result.plan.promise.why


def test_one_head_stays_one(tmp_path: Path) -> None:
    """Unless it is asked for: ``kv_heads`` 1 is what there is."""
    source, out = save(decoder("broadcast"), tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"kv_heads": 1, "heads": 8, "hidden": 64}, out)
    assert result.plan.promise.kept
    assert any("one key and value head" in note for note in result.plan.notes)
    assert bot_onnx.inspect(out).structure.single_kv_head
    wide = bot_onnx.plan(source, {"width": 2, "kv_heads": 2})
    assert {d.target for d in wide.dims if d.role == "heads"} == {8}


def test_a_number_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BotError, match="it is kv_heads x group, so it must be a multiple of 3"):
        bot_onnx.plan(save(decoder("broadcast"), tmp_path), {"kv_heads": 3})


def test_several_heads_are_not_one(tmp_path: Path) -> None:
    for kv_heads in (2, 4):
        path = save(decoder("repeated", kv_heads=kv_heads), tmp_path)
        assert not bot_onnx.inspect(path).structure.single_kv_head


def test_a_way_that_is_not_known_is_refused(tmp_path: Path) -> None:
    """Keys that are summed up over the sequence by an op without a rule for heads; and queries without an axis."""
    model = decoder("broadcast")
    keys = next(n for n in model.graph.node if n.op_type == "Transpose" and list(n.attribute[0].ints) == [0, 1, 3, 2])
    axis = onnx.numpy_helper.from_array(np.array(2), "along")
    model.graph.initializer.append(axis)
    made = onnx.helper.make_node("CumSum", [keys.input[0], "along"], ["summed"], name="summing")
    model.graph.node.insert(list(model.graph.node).index(keys), made)
    keys.input[0] = "summed"
    out = tmp_path / "out.onnx"
    with pytest.raises(GraphError, match=r"CumSum \(node 'summing'\) is not known to take a second head"):
        bot_onnx.resize(save(model, tmp_path), {"kv_heads": 2}, out)
    with pytest.raises(BotError, match="kv_heads"):
        bot_onnx.resize(save(queries_in_a_row(), tmp_path), {"kv_heads": 2}, out)
    assert not out.exists()


def test_inspect_shows_the_one_head(tmp_path: Path) -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(inspect_report(bot_onnx.inspect(save(decoder("broadcast"), tmp_path))))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["-", "kv_heads", "1", "kv_heads", "all", "query", "heads", "yes"] in rows
