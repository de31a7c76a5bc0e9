"""Which module a scope stands for, learned from the parameters whose names were kept."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx._checkpoint.scopes import Scopes, called_again


def learned(*seen: tuple[str, str], also: tuple[str, ...] = ()) -> Scopes:
    return Scopes(seen, [path for path, _ in seen] + list(also), [owner for _, owner in seen])


@pytest.mark.parametrize(
    ("seen", "scope", "module"),
    [
        ([("decoder.0.fc", "model.decoder.0.fc")], "decoder.0.attn.q", "model.decoder.0.attn.q"),
        ([("decoder.0.fc", "model.decoder.0.fc")], "head", "head"),
        ([("net.decoder.norm", "net.model.decoder.norm")], "net.decoder.proj", "net.model.decoder.proj"),
        ([("net.decoder.norm", "net.model.decoder.norm")], "net.head", "net.head"),
        ([("a.b.norm", "a.x.b.norm"), ("a.c.norm", "a.c.norm")], "a.c.proj", "a.c.proj"),
        ([("a.b.norm", "a.x.b.norm"), ("a.b.norm", "a.y.b.norm")], "a.b.proj", None),
        ([("attn.q", "attn.q"), ("attn.q_1", "attn.q")], "attn.q_1", "attn.q"),
        ([("attn.q", "attn.q"), ("attn.q_1", "attn.q_1")], "attn.q_1", "attn.q_1"),
        ([("attn", "attn.qkv"), ("norm", "norm")], "attn", "attn"),
    ],
)  # fmt: skip
def test_scopes_stand_for_modules(seen: list[tuple[str, str]], scope: str, module: str | None) -> None:
    assert learned(*seen).module(scope) == module


def test_names_that_have_nothing_to_do_with_scopes_are_not_trusted() -> None:
    assert learned(("a.b", "a.b"), ("a.c", "a.c")).trusted
    assert learned(("decoder.norm", "model.decoder.norm")).trusted
    assert not learned(("a.b", "x.y"), ("a.c", "x.z")).trusted
    assert not learned().trusted


def test_a_module_with_others_inside_is_not_the_innermost() -> None:
    scopes = learned(("attn.proj", "attn.proj"), ("mlp", "mlp.gate"), also=("attn", "norm"))
    assert [scopes.innermost(path) for path in ("attn", "attn.proj", "norm", "mlp")] == [False, True, True, False]


def test_equal_matrices_prove_that_a_module_is_called_again_and_equal_vectors_follow() -> None:
    matrix, other = np.arange(6.0).reshape(2, 3), np.arange(1.0, 7).reshape(2, 3)
    ones = {("LayerNormalization", 1): np.ones(3)}
    norms = {"norm": ones, "norm_1": ones}
    assert called_again({"q": {("MatMul", 1): matrix}, "q_1": {("MatMul", 1): matrix}, **norms}) == {"q_1", "norm_1"}
    assert called_again({"q": {("MatMul", 1): matrix}, "q_1": {("MatMul", 1): other}, **norms}) == set()
    assert called_again(norms) == set()  # two modules that were never trained look the same
