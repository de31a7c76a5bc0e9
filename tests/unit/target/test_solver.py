"""The solver on hand-made structures of the common families."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bot_onnx._reasons import Why
from bot_onnx._structure import Dim, Structure, TensorKind
from bot_onnx._target import Solution, TargetSpec, solve
from bot_onnx.errors import DimError, GraphError, SpecError
from tests.spec_structures import bert, gpt2, llama, structure, tied, vit


def sizes(source: Structure, **keys: Any) -> dict[str, int]:
    """Solve and return the new sizes by dim name."""
    solution = solve(source, TargetSpec(**keys))
    return {dim.name: solution.sizes[dim.id] for dim in source.dims.values()}


def notes(solution: Solution) -> str:
    return "\n".join(solution.notes)


@pytest.mark.parametrize("source", [bert(), gpt2(), llama(), llama(nested=False), vit(), tied()])
def test_an_empty_spec_keeps_everything(source: Structure) -> None:
    solution = solve(source, TargetSpec())
    assert solution.sizes == {ident: dim.size for ident, dim in source.dims.items()}
    assert solution.layers == {chain.name: 12 for chain in source.chains}
    assert solution.notes == ()


def test_bert_hidden_alone_derives_the_rest() -> None:
    solution = solve(bert(), TargetSpec(hidden=384))
    found = {dim.name: solution.sizes[dim.id] for dim in bert().dims.values()}
    assert found == {
        "vocab": 30522,
        "hidden": 384,
        "positions": 512,
        "heads": 6,
        "head_dim": 64,
        "attention": 384,
        "v_head_dim": 64,
        "values": 384,
        "intermediate": 1536,
        "pooled": 384,
        "labels": 3,
    }
    assert "pooled (d9): 768 -> 384, follows hidden" in notes(solution)
    assert "keeps its ratio 4 to hidden" in notes(solution)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"heads": 6}, {"heads": 6, "head_dim": 64, "attention": 384, "hidden": 768, "intermediate": 3072}),
        ({"head_dim": 32}, {"heads": 12, "head_dim": 32, "v_head_dim": 32, "attention": 384, "hidden": 768}),
        ({"hidden": 384, "head_dim": 32}, {"heads": 12, "attention": 384, "values": 384}),
        ({"hidden": 384, "heads": 5}, {"heads": 5, "attention": 320, "hidden": 384}),
        ({"hidden": 384, "heads": 5, "head_dim": 32}, {"attention": 160, "hidden": 384}),
        ({"hidden": 384, "intermediate": 1000}, {"intermediate": 1000}),
        ({"hidden": 448, "round_to": 256}, {"intermediate": 1792, "heads": 7}),
        ({"hidden": 384, "round_to": 1000}, {"intermediate": 2000}),
        ({"hidden": 384, "dims": {"pooled": 100, "d10": 5}}, {"pooled": 100, "labels": 5}),
        ({"dims": {"attention": 384}}, {"heads": 6, "values": 384, "hidden": 768}),
        ({"dims": {"hidden": 384}}, {"hidden": 384, "heads": 6, "intermediate": 1536, "pooled": 384}),
        ({"hidden": 384, "dims": {"hidden": 384}}, {"hidden": 384, "heads": 6}),
        ({"vocab": 1000, "positions": 128}, {"vocab": 1000, "positions": 128, "hidden": 768}),
        ({"width": 0.5}, {"hidden": 384, "heads": 6, "intermediate": 1536, "vocab": 30522, "labels": 3, "pooled": 384}),
        ({"width": 0.5, "hidden": 192}, {"hidden": 192, "heads": 3, "intermediate": 768, "pooled": 384}),
        ({"width": 2, "intermediate": 99}, {"hidden": 1536, "heads": 24, "intermediate": 99}),
        ({"width": 0.01, "round_to": 8}, {"hidden": 8, "heads": 1, "intermediate": 32}),
    ],
)
def test_bert_rules(keys: dict[str, Any], expected: dict[str, int]) -> None:
    found = sizes(bert(), **keys)
    assert {name: found[name] for name in expected} == expected


def test_gpt2_fused_projection_by_its_composite() -> None:
    assert sizes(gpt2(), hidden=384)["qkv"] == 1152
    found = sizes(gpt2(), dims={"qkv": 1152})
    assert (found["attention"], found["heads"], found["hidden"]) == (384, 6, 768)
    with pytest.raises(
        DimError, match=r"'qkv' \(d8, size 2304, first at tensor 'w.qkv' axis 0\).*1150.*would do: 960 or 1152"
    ):
        sizes(gpt2(), dims={"qkv": 1150})


@pytest.mark.parametrize("nested", [True, False])
def test_llama_grouped_queries(nested: bool) -> None:
    source = llama(nested=nested)
    found = sizes(source, hidden=1024)
    assert (found["kv_heads"], found["group"], found["queries"], found["keys"]) == (4, 4, 1024, 256)
    assert (found["half"], found["intermediate"]) == (32, 2816)
    found = sizes(source, hidden=1024, head_dim=128)
    assert (found["half"], found["kv_heads"], found["queries"]) == (64, 2, 1024)
    found = sizes(source, heads=16)
    assert (found["kv_heads"], found["queries"], found["hidden"]) == (4, 1024, 2048)
    found = sizes(source, kv_heads=4)
    assert (found["group"], found["queries"], found["keys"]) == (8, 2048, 256)
    found = sizes(source, heads=6, kv_heads=2)
    assert (found["group"], found["queries"]) == (3, 384)
    found = sizes(source, width=0.5)
    assert (found["kv_heads"], found["group"], found["hidden"]) == (4, 4, 1024)


def test_llama_refusals_say_what_would_do() -> None:
    with pytest.raises(DimError, match=r"heads.* cannot become 6: .*multiple of 4.*4 or 8.*another group"):
        sizes(llama(), heads=6)
    with pytest.raises(DimError, match=r"'head_dim' .*cannot become 33.*multiple of 2.*32 or 34"):
        sizes(llama(), head_dim=33)
    with pytest.raises(DimError, match=r"whole groups of 4.*'hidden' that would do: 1024 or 1280"):
        sizes(llama(), hidden=1088)
    with pytest.raises(DimError, match=r"heads.* cannot become 8.*multiple of 3.*6 or 9"):
        sizes(llama(), heads=8, kv_heads=3)


def test_a_single_kv_head_stays_single() -> None:
    source = llama(kv_heads=1, group=32)
    found = sizes(source, hidden=1024)
    assert (found["kv_heads"], found["group"], found["heads"]) == (1, 16, 16)
    found = sizes(source, width=0.5)
    assert (found["kv_heads"], found["group"]) == (1, 16)


def test_separate_kv_heads_keep_their_ratio() -> None:
    source = structure(
        [("hidden", "hidden", 512), ("heads", "heads", 8), ("kv_heads", "kv_heads", 4), ("head_dim", "head_dim", 64)],
        [("layers", ["hidden", "heads"]), ("layers", ["hidden", "kv_heads"])],
    )
    assert sizes(source, hidden=256)["kv_heads"] == 2
    with pytest.raises(DimError, match=r"'kv_heads'.*1\.5 heads.*2 or 4"):
        sizes(source, heads=3)
    with pytest.raises(DimError, match=r"heads 6 is no multiple.*4 or 8"):
        sizes(source, heads=6, kv_heads=4)


def test_attention_wider_than_hidden_keeps_its_ratio() -> None:
    source = structure(
        [
            ("hidden", "hidden", 1024),
            ("heads", "heads", 16),
            ("head_dim", "head_dim", 128),
            ("attention", "free", "product", ["heads", "head_dim"]),
        ],
        [("layers", ["hidden", "attention"])],
    )
    assert sizes(source, hidden=512) == {"hidden": 512, "heads": 8, "head_dim": 128, "attention": 1024}


def test_vit_counts_and_outputs_never_change() -> None:
    found = sizes(vit(), hidden=384, heads=6, layers=6)
    assert found["qkv"] == 3 * 6 * 64
    assert (found["three"], found["patch"], found["classes"], found["positions"]) == (3, 16, 1000, 197)
    with pytest.raises(DimError, match=r"dims\.three.*frozen: a number of equal parts"):
        sizes(vit(), dims={"three": 4})
    assert sizes(vit(), dims={"three": 3}) == sizes(vit())


def test_a_count_is_refused_even_where_it_is_not_frozen() -> None:
    source = structure([("three", "count", 3), ("hidden", "hidden", 8)])
    with pytest.raises(DimError, match="counts things"):
        sizes(source, dims={"three": 2})
    assert sizes(source, width=2) == {"three": 3, "hidden": 16}


def test_tied_hidden_is_heads_times_head_dim() -> None:
    assert sizes(tied(), hidden=384) == {"heads": 6, "head_dim": 64, "hidden": 384, "intermediate": 1536}
    assert sizes(tied(), hidden=384, heads=12)["head_dim"] == 32
    assert sizes(tied(), heads=6)["hidden"] == 384
    assert sizes(tied(), heads=6)["intermediate"] == 1536
    assert sizes(tied(), head_dim=32)["hidden"] == 384
    with pytest.raises(DimError, match=r"400.*multiple of 64.*384 or 448, or ask for another head_dim"):
        sizes(tied(), hidden=400)
    with pytest.raises(DimError, match=r"320 .*384 .*make heads, head_dim, hidden agree"):
        sizes(tied(), hidden=384, heads=5, head_dim=64)


def test_a_tied_hidden_of_rotary_heads_points_to_head_dim() -> None:
    source = structure(
        [
            ("half", "half_head_dim", 32),
            ("head_dim", "head_dim", "concat", ["half", "half"]),
            ("heads", "heads", 4),
            ("hidden", "hidden", "product", ["heads", "head_dim"]),
        ]
    )
    assert sizes(source, hidden=128)["heads"] == 2
    with pytest.raises(DimError, match=r"192 or 256, or ask for another head_dim"):
        sizes(source, hidden=200)


def test_values_tied_to_hidden_carry_head_dim_along() -> None:
    source = structure(
        [
            ("heads", "heads", 4),
            ("v_head_dim", "v_head_dim", 16),
            ("hidden", "hidden", "product", ["heads", "v_head_dim"]),
            ("head_dim", "head_dim", 16),
        ]
    )
    assert sizes(source, hidden=32, heads=4)["head_dim"] == 8
    assert sizes(source, dims={"v_head_dim": 8})["head_dim"] == 16


def test_the_rest_of_head_dim_stays_when_a_part_is_asked_for() -> None:
    source = structure(
        [("rope", "free", 64), ("plain", "free", 128), ("head_dim", "head_dim", "concat", ["plain", "rope"])]
    )
    assert sizes(source, dims={"rope": 32}) == {"rope": 32, "plain": 128, "head_dim": 160}
    assert sizes(source, head_dim=96) == {"rope": 32, "plain": 64, "head_dim": 96}


def test_underived_heads_name_hidden_sizes_that_would_do() -> None:
    with pytest.raises(DimError, match=r"6\.25 heads.*'hidden' that would do: 384 or 448; or give 'heads'"):
        sizes(bert(), hidden=400)


def test_several_dims_of_one_role() -> None:
    source = structure(
        [("hidden", "hidden", 64), ("hidden_2", "hidden", 128), ("hidden_3", "hidden", 64), ("hidden_4", "hidden", 96)]
    )
    assert list(sizes(source, hidden=32).values()) == [32, 64, 32, 48]
    assert list(sizes(source, hidden=32, dims={"hidden_2": 7}).values()) == [32, 7, 32, 48]
    with pytest.raises(
        DimError, match=r"hidden 64 -> 31 would make dim 'hidden_4' .*46\.5.*30 or 32.*under 'dims' as 'hidden_4'"
    ):
        sizes(source, hidden=31)


def test_a_key_that_dims_leaves_nothing_to() -> None:
    twins = structure([("hidden", "hidden", 64), ("hidden_2", "hidden", 64), ("hidden_3", "hidden", 128)])
    assert list(sizes(twins, hidden=32, dims={"hidden": 16}).values()) == [16, 32, 64]
    assert list(sizes(twins, hidden=32, dims={"hidden": 16, "d1": 32}).values()) == [16, 32, 64]
    with pytest.raises(
        DimError, match=r"key 'hidden' gives 'hidden' .* the size 32, and 'dims\.hidden' 16, 'dims\.d1' 8"
    ):
        sizes(twins, hidden=32, dims={"hidden": 16, "d1": 8})
    for name in ("hidden", "d1"):
        with pytest.raises(DimError, match=rf"'dims\.{name}' 384: drop 'hidden', or what is under 'dims'") as refused:
            sizes(bert(), hidden=640, dims={name: 384})
        assert refused.value.dim == "hidden" and refused.value.alternatives == (640, 384)
    tables = structure([("token_types", "vocab", 2), ("vocab", "vocab", 1000)])
    assert list(sizes(tables, vocab=500, dims={"token_types": 3}).values()) == [3, 500]
    with pytest.raises(DimError, match=r"'dims\.vocab' 400"):
        sizes(tables, vocab=500, dims={"vocab": 400})


def test_a_key_of_a_chain_that_dims_leaves_nothing_to() -> None:
    source = structure(
        [("hidden", "hidden", 64), ("hidden_2", "hidden", 64)], [("text", ["hidden"]), ("image", ["hidden_2"])]
    )
    with pytest.raises(DimError, match=r"key 'hidden\.image' .* 'dims\.hidden_2' 16: drop"):
        sizes(source, hidden={"image": 32}, dims={"hidden_2": 16})
    assert list(sizes(source, hidden={"image": 32}, dims={"hidden": 16}).values()) == [16, 32]


def test_a_soft_key_gives_way_to_dims() -> None:
    solution = solve(bert(), TargetSpec(vocab=99, soft=("vocab",), dims={"vocab": 100}))
    assert solution.sizes["d0"] == 100
    assert "'vocab' 99 is skipped: 'dims.vocab' 100 is given for vocab." in notes(solution)


def test_a_second_vocabulary_stays() -> None:
    source = structure([("token_types", "vocab", 2), ("vocab", "vocab", 1000)])
    solution = solve(source, TargetSpec(vocab=500))
    assert solution.sizes == {"d0": 2, "d1": 500}
    assert "token_types (d0) stays at 2" in notes(solution)


def test_each_stream_leads_its_own_followers() -> None:
    source = structure(
        [
            ("hidden", "hidden", 64),
            ("hidden_2", "hidden", 32),
            ("intermediate", "intermediate", 256),
            ("intermediate_2", "intermediate", 64),
            ("heads", "heads", 4),
            ("heads_2", "heads", 2),
            ("head_dim", "head_dim", 16),
        ],
        [
            ("text", ["hidden", "intermediate"]),
            ("text", ["hidden", "heads"]),
            ("image", ["hidden_2", "intermediate_2"]),
            ("image", ["hidden_2", "heads_2"]),
        ],
    )
    found = sizes(source, dims={"hidden_2": 16})
    assert list(found.values()) == [64, 16, 256, 32, 4, 1, 16]


def test_free_leaves_follow_only_inside_the_layers() -> None:
    source = structure(
        [("hidden", "hidden", 64), ("bottleneck", "free", 16), ("embedding", "free", 8), ("labels", "out", 10)],
        [("layers", ["hidden", "bottleneck"]), (None, ["embedding", "hidden"]), (None, ["hidden", "labels"])],
    )
    solution = solve(source, TargetSpec(hidden=32))
    assert list(solution.sizes.values()) == [32, 8, 8, 10]
    assert "keep their ratio to the residual stream: bottleneck (d1) 16 -> 8." in notes(solution)
    assert "stay: embedding (d2) 8;" in notes(solution)


def test_frozen_dims_never_change() -> None:
    frozen = structure(
        [("hidden", "hidden", 64), ("intermediate", "intermediate", 256), ("pooled", "free", 64), ("x", "free", 8)],
        [("layers", ["hidden", "intermediate"]), ("layers", ["hidden", "x"])],
        frozen={"intermediate": Why.ITERATIONS, "pooled": Why.KERNEL, "x": Why.UNKNOWN_SHAPE},
    )
    assert list(sizes(frozen, hidden=32).values()) == [32, 256, 64, 8]
    assert list(sizes(frozen, width=2).values()) == [128, 256, 64, 8]
    with pytest.raises(
        DimError, match=r"'intermediate'.*first at tensor 'w.intermediate' axis 0.*number of iterations"
    ):
        sizes(frozen, intermediate=128)


def test_a_frozen_composite_holds_its_parts() -> None:
    source = structure(
        [("a", "free", 4), ("hidden", "hidden", 6), ("both", "free", "concat", ["a", "hidden"])],
        frozen={"both": Why.INPUT},
    )
    with pytest.raises(DimError, match="an axis of a graph input"):
        sizes(source, hidden=3)
    with pytest.raises(SpecError, match="key 'width'"):
        sizes(
            structure([("hidden", "hidden", 6)], frozen={"hidden": Why.INPUT}),
            width=0.5,
        )


def test_concat_parts_keep_their_ratio() -> None:
    source = structure([("a", "free", 32), ("b", "free", 64), ("all", "free", "concat", ["a", "b", "a"])])
    assert sizes(source, dims={"all": 64}) == {"a": 16, "b": 32, "all": 64}
    assert sizes(source, dims={"all": 64, "a": 10}) == {"a": 10, "b": 44, "all": 64}
    with pytest.raises(DimError, match=r"'all'.*64 or 68"):
        sizes(source, dims={"all": 66})
    with pytest.raises(DimError, match=r"would do: 65"):
        sizes(source, dims={"all": 60, "a": 32})


def test_only_one_part_of_a_product_scales() -> None:
    source = structure([("groups", "free", 4), ("each", "free", 16), ("all", "free", "product", ["groups", "each"])])
    assert sizes(source, width=0.5) == {"groups": 4, "each": 8, "all": 32}
    assert sizes(source, dims={"all": 128}) == {"groups": 4, "each": 32, "all": 128}
    squared = structure([("side", "free", 14), ("area", "positions", "product", ["side", "side"])])
    assert sizes(squared, positions=49) == {"side": 7, "area": 49}
    with pytest.raises(DimError, match="49 or 64"):
        sizes(squared, positions=50)


def test_only_one_part_of_a_product_follows_hidden() -> None:
    source = structure(
        [("hidden", "hidden", 64), ("a", "free", 64), ("b", "free", 128), ("all", "free", "product", ["a", "b"])],
        [("layers", ["hidden", "all"])],
    )
    assert sizes(source, hidden=32) == {"hidden": 32, "a": 64, "b": 64, "all": 4096}


def test_unknown_names_and_roles_are_refused() -> None:
    with pytest.raises(DimError, match="did you mean 'pooled'"):
        sizes(bert(), dims={"pooler": 3})
    with pytest.raises(DimError, match="two sizes"):
        sizes(bert(), dims={"pooled": 3, "d9": 4})
    with pytest.raises(SpecError, match=r"key 'kv_heads': no dim.*heads \(12\)"):
        sizes(bert(), kv_heads=4)
    assert sizes(bert(), heads=6, kv_heads=6)["heads"] == 6


def test_key_heads_that_are_not_known_to_be_the_query_heads_are_refused() -> None:
    shared = replace(bert(), own_kv_heads=False)
    for kv_heads in (12, 6, 1):
        with pytest.raises(SpecError, match="how the query heads share key and value heads is not understood"):
            sizes(shared, kv_heads=kv_heads)


def test_soft_keys_are_skipped_with_a_note() -> None:
    solution = solve(tied(), TargetSpec(hidden=384, vocab=10, positions=7, soft=("vocab", "positions")))
    assert "'vocab' 10 is skipped" in notes(solution)
    with pytest.raises(SpecError, match="key 'vocab'"):
        solve(tied(), TargetSpec(vocab=10))
    fixed = structure([("positions", "positions", 9)], frozen={"positions": Why.INPUT})
    assert solve(fixed, TargetSpec(positions=7, soft=("positions",))).sizes == {"d0": 9}
    with pytest.raises(DimError, match="an axis of a graph input"):
        solve(fixed, TargetSpec(positions=7))


def test_an_inconsistent_structure_is_refused() -> None:
    wrong = Structure({"d0": Dim("d0", "x", 5, "concat", ("d1",), "free", None, ())}, (), ())
    with pytest.raises(GraphError, match="unknown part"):
        solve(wrong, TargetSpec())
    loop = Structure({"d0": Dim("d0", "x", 5, "concat", ("d0",), "free", None, ())}, (), ())
    with pytest.raises(GraphError, match="made of itself"):
        solve(loop, TargetSpec())
    leaf = Dim("d1", "y", 4, "leaf", (), "free", None, ())
    unequal = Structure({"d0": Dim("d0", "x", 5, "concat", ("d1",), "free", None, ()), "d1": leaf}, (), ())
    with pytest.raises(GraphError, match="its parts make 4"):
        solve(unequal, TargetSpec())


def speech(reader: str) -> Structure:
    """A convolution of hidden's width in front of the stream, which another convolution or a matrix writes."""
    source = structure(
        [("mels", "io", 80), ("front", "free", 64), ("hidden", "hidden", 64), ("labels", "out", 64)],
        [(None, ["mels", "front"]), (None, ["front", "hidden"]), (None, ["hidden", "labels"])],
    )
    first, second, *rest = source.stacks
    kinds: tuple[TensorKind, ...] = ("kernel", "kernel" if reader == "kernel" else "matrix")
    stacks = tuple(replace(stack, kind=kind) for stack, kind in zip((first, second), kinds, strict=True))
    return replace(source, stacks=(*stacks, *rest))


def test_only_what_belongs_to_the_stream_follows_hidden() -> None:
    assert list(sizes(speech("kernel"), hidden=32).values()) == [80, 32, 32, 64]
    assert list(sizes(speech("matrix"), hidden=32).values()) == [80, 64, 32, 64]
