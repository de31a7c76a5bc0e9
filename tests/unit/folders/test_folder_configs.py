"""Configs beside a model at the sizes of a plan: right values, everything else as it was, nothing that is not so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bot_onnx._folders import config, timm_config
from bot_onnx._folders.card import licence_lines
from bot_onnx._folders.jsontext import rewritten
from bot_onnx._folders.sizes import Sizes
from bot_onnx._target import huggingface
from bot_onnx.errors import SpecError


def sizes(*chains: tuple[int, int], **roles: tuple[int, int] | list[tuple[int, int]]) -> Sizes:
    moves = {role: frozenset([move] if isinstance(move, tuple) else move) for role, move in roles.items()}
    return Sizes(moves, chains)


BERT = {
    "model_type": "bert", "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 24, "type_vocab_size": 2, "vocab_size": 24,
}  # fmt: skip


def test_each_size_is_that_of_its_role_where_numbers_are_equal() -> None:
    """24 is hidden, positions and vocabulary at once."""
    plan = sizes((3, 2), hidden=(24, 12), heads=(4, 2), head_dim=(6, 6), intermediate=(96, 50), vocab=(24, 48),
                 positions=(24, 20))  # fmt: skip
    made = config.resized(BERT, plan, "config.json")
    assert made.data == {
        "model_type": "bert", "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 50, "max_position_embeddings": 20, "type_vocab_size": 2, "vocab_size": 48,
    }  # fmt: skip
    assert made.notes == []
    spec = huggingface.convert(made.data, "config.json")
    assert (spec["layers"], spec["hidden"], spec["head_dim"]) == (2, 12, 6)


@pytest.mark.parametrize(
    ("family", "told", "head_dim"), [("bert", {"num_attention_heads": None}, None), ("llama", {"head_dim": 10}, 10)]
)
def test_a_head_dim_that_the_config_would_derive_wrongly(family: str, told: dict[str, Any], head_dim: Any) -> None:
    plan = sizes((3, 3), hidden=(24, 24), heads=(4, 4), head_dim=(6, 10))
    made = config.resized({**BERT, "model_type": family}, plan, "config.json")
    assert {**made.data, **told} == made.data and len(made.notes) == (head_dim is None)
    assert huggingface.convert(made.data, "config.json").get("head_dim") == head_dim


def test_an_intermediate_that_the_config_would_derive_wrongly() -> None:
    source = {"model_type": "gpt2", "n_embd": 24, "n_layer": 3, "n_head": 4, "vocab_size": 11, "n_ctx": 8}
    plan = sizes((3, 3), hidden=(24, 12), heads=(4, 2), head_dim=(6, 6), intermediate=(96, 50), positions=(8, 6))
    assert config.resized(source, plan, "c").data == {
        "model_type": "gpt2", "n_embd": 12, "n_layer": 3, "n_head": 2, "vocab_size": 11, "n_ctx": 6, "n_inner": 50,
    }  # fmt: skip
    assert config.resized({**source, "n_inner": None}, plan, "c").data["n_inner"] == 50
    kept = sizes((3, 3), hidden=(24, 12), heads=(4, 2), head_dim=(6, 6), intermediate=(96, 48))
    assert config.resized({**source, "n_inner": None}, kept, "c").data["n_inner"] is None
    ratio = {"model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 3, "mlp_ratio": 4}
    assert config.resized(ratio, kept, "c").data["mlp_ratio"] == 4
    assert config.resized(ratio, plan, "c").data["mlp_ratio"] == 50 / 12
    with pytest.raises(SpecError, match="would say intermediate 48 where the plan has 50"):
        config.resized({**source, "model_type": "bloom"}, plan, "c")


def test_depths_by_chain() -> None:
    bart = {"model_type": "bart", "d_model": 8, "encoder_layers": 6, "decoder_layers": 6, "num_hidden_layers": 6}
    made = config.resized(bart, sizes((6, 3), (6, 2), hidden=(8, 8)), "c").data
    assert (made["encoder_layers"], made["decoder_layers"], made["num_hidden_layers"]) == (3, 2, 3)
    other = config.resized(BERT, sizes((3, 2), (3, 1), hidden=(24, 24)), "config.json")
    assert other.data == {**BERT, "num_hidden_layers": None}
    assert other.notes == [
        "config.json: 'num_hidden_layers' was 3 and cannot say what becomes of it (layers: 3 to 2, 3 to 1): it is "
        "null, and the sizes are those of the model alone."
    ]
    swin = {"model_type": "swin", "embed_dim": 8, "depths": [2, 2, 6]}
    assert config.resized(swin, sizes((2, 1), (2, 2), (6, 3), hidden=(8, 8)), "c").data["depths"] == [1, 2, 3]
    assert config.resized(swin, sizes((6, 3), hidden=(8, 8)), "c").data["depths"] is None


def test_kinds_of_layers_are_listed_for_each() -> None:
    kinds = ["local", "local", "global"] * 2
    plan = sizes((6, 3), hidden=(24, 24))
    made = config.resized({**BERT, "num_hidden_layers": 6, "layer_types": kinds}, plan, "c")
    assert made.data["layer_types"] == ["local", "local", "global"] and not made.notes
    odd = config.resized({**BERT, "num_hidden_layers": 6, "layer_types": [*"abcdef"]}, plan, "c")
    assert odd.data["layer_types"] is None and "'layer_types'" in odd.notes[0]


def test_groups_of_queries() -> None:
    source = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    plan = sizes(hidden=(32, 16), heads=(4, 2), kv_heads=(2, 1), head_dim=(8, 8))
    assert config.resized(source, plan, "c").data["num_key_value_heads"] == 1
    every = sizes(hidden=(32, 16), heads=(4, 2), head_dim=(8, 8))  # the graph has no dim of its own for them
    assert config.resized({**source, "num_key_value_heads": 4}, every, "c").data["num_key_value_heads"] == 2
    assert config.resized({**source, "num_key_value_heads": 1}, every, "c").data["num_key_value_heads"] == 1


def test_towers_and_keys_beside_the_table() -> None:
    clip = {
        "model_type": "clip", "projection_dim": 7, "text_config": {"hidden_size": 24, "num_hidden_layers": 3},
        "vision_config": {"hidden_size": 32, "num_hidden_layers": 3, "image_size": 32},
    }  # fmt: skip
    made = config.resized(clip, sizes((3, 2), (3, 2), hidden=[(24, 12), (32, 16)], out=(7, 7)), "c").data
    assert made["text_config"] == {"hidden_size": 12, "num_hidden_layers": 2}
    assert made["vision_config"] == {"hidden_size": 16, "num_hidden_layers": 2, "image_size": 32}
    opt = config.resized({**BERT, "word_embed_proj_dim": 24, "strange_dim": 24}, sizes(hidden=(24, 12)), "c")
    assert opt.data["word_embed_proj_dim"] == 12 and opt.data["strange_dim"] == 24
    assert ["'strange_dim' is 24" in note for note in opt.notes] == [True]
    unknown = config.resized({"model_type": "own"}, sizes(hidden=(24, 12)), "c")
    assert unknown.data == {"model_type": "own"} and unknown.notes == [
        "c has no size that is known here: it is kept as it is."
    ]


def test_positions_behind_padding() -> None:
    source = {"model_type": "opt", "hidden_size": 24, "max_position_embeddings": 22}
    made = config.resized(source, sizes(hidden=(24, 24), positions=(24, 12)), "c")
    assert made.data["max_position_embeddings"] == 10


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '{ "a" :1 ,"b":[1,\t2.50e1, {"a": "x, }]"}],\r\n "c": {} }\n',
        '\n{"é": "\\u00e9\\"", "a": 1, "b": -0.0}',
        '{"b": [], "c": {"a": null, "d": [[1], [true]]}, "a": 1}',
    ],
)  # fmt: skip
def test_only_what_changes_is_written(text: str) -> None:
    before = json.loads(text)
    assert rewritten(text, before, before) == text
    after = json.loads(text)
    after["a"] = 123
    assert json.loads(rewritten(text, before, after)) == after
    if "a" in before:
        assert len(rewritten(text, before, after)) == len(text) + 2
    after["new"] = {"x": 1}
    after.get("c", {})["y"] = None
    assert json.loads(rewritten(text, before, after)) == after
    assert list(json.loads(rewritten(text, before, after))) == list(after)


def test_entries_are_added_as_the_others_stand() -> None:
    text = '{\n  "a": 1,\n  "b": {}\n}\n'
    assert rewritten(text, json.loads(text), {"a": 1, "b": {"c": 2}, "d": 3}) == (
        '{\n  "a": 1,\n  "b": {"c": 2},\n  "d": 3\n}\n'
    )


VIT = {"architecture": "vit_tiny_patch16_224", "num_classes": 5, "num_features": 32, "pretrained_cfg": {}}


def test_timm_builds_a_vision_transformer_from_its_arguments() -> None:
    plan = sizes((12, 6), hidden=(32, 16), heads=(4, 2), head_dim=(8, 8), intermediate=(128, 64))
    made = timm_config.resized(VIT, plan, "config.json")
    assert made.data == {**VIT, "num_features": 16, "model_args": {"embed_dim": 16, "depth": 6, "num_heads": 2}}
    assert not made.notes
    wide = sizes((12, 6), hidden=(32, 16), heads=(4, 2), head_dim=(8, 8), intermediate=(128, 40))
    assert timm_config.resized(VIT, wide, "c").data["model_args"]["mlp_ratio"] == 2.5


def test_timm_is_not_told_what_its_constructor_does_not_take() -> None:
    thin = sizes((12, 6), hidden=(32, 32), heads=(4, 4), head_dim=(8, 4), intermediate=(128, 64))
    for source, plan in [(VIT, thin), ({**VIT, "architecture": "resnet18"}, sizes(free=(32, 16)))]:
        made = timm_config.resized(source, plan, "config.json")
        assert "model_args" not in made.data and "its constructor is not told" in made.notes[0]
    several = timm_config.resized({**VIT, "architecture": "resnet18"}, sizes(free=[(32, 16), (32, 8)]), "c")
    assert several.data["num_features"] is None and "'num_features' was 32" in several.notes[0]
    assert timm_config.resized(VIT, sizes((12, 12), hidden=(32, 32)), "c").data == VIT


def test_lines_of_a_licence() -> None:
    front = ["---", "tags: [x]", "license:", "- mit", "- other", "language: en", "license_link: LICENSE", "---"]
    text = "\r\n".join([*front, "license: no", ""])
    assert licence_lines(text) == ["license:", "- mit", "- other", "license_link: LICENSE"]
    assert licence_lines("license: mit\n") == licence_lines("") == []
