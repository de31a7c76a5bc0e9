"""Which module a scope stands for, learned from the parameters whose names were kept."""

from __future__ import annotations

import pytest

from bot_onnx.checkpoint.scopes import Scopes


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
