"""Method ``ws`` as its authors' code does it (arXiv:2311.18823): plain indices of whole tensors, a new classifier."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import pytest

import bot_onnx
from tests.graphs import save
from tests.method_runs import concat, leaf, product, run, task
from tests.qkv_graphs import HEADS, LAYERS, SPELLINGS, Spelling, qkv_model, qkv_of

RNG = np.random.default_rng(2)
DIGITS = Path(str(files("bot_onnx") / "demo" / "digits_vit.onnx"))


def test_every_axis_is_taken_by_index_and_heads_interleave() -> None:
    weight = RNG.standard_normal((24, 10))
    heads = product(leaf(4, 2, "heads"), leaf(6, 6, "head_dim"))
    (got,) = run("ws", task("matrix", (heads, leaf(10, 5)), ("out", "in")), [weight], preset="published")
    np.testing.assert_array_equal(got, weight[::2, ::2])  # of each head every second row, not every second head
    (whole,) = run("ws", task("matrix", (heads, leaf(10, 5)), ("out", "in")), [weight])
    np.testing.assert_array_equal(whole, weight.reshape(4, 6, 10)[::2].reshape(12, 10)[:, ::2])


def test_what_is_fused_otherwise_is_taken_part_by_part() -> None:
    weight = RNG.standard_normal((20, 4))
    gates = concat(leaf(10, 4), leaf(10, 4))
    (got,) = run("ws", task("matrix", (gates, leaf(4, 4)), ("out", "in")), [weight], preset="published")
    rows = [0, 3, 6, 9]
    np.testing.assert_array_equal(got, np.concatenate([weight[:10][rows], weight[10:][rows]]))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_fused_projection_is_one_tensor_in_all_spellings(spelling: Spelling, tmp_path: Path) -> None:
    source, target = qkv_model(spelling), tmp_path / "out.onnx"
    spec = {"hidden": 16, "heads": 2, "layers": 3}
    options = {"preset": "published"}
    bot_onnx.resize(save(source, tmp_path), spec, target, method="ws", options=options, against=False)
    got = onnx.load(target)
    for layer in range(3):
        weight, bias = qkv_of(source, spelling, layer, HEADS)
        small, shift = qkv_of(got, spelling, layer, 2)
        np.testing.assert_array_equal(small, weight[::2, ::2])
        np.testing.assert_array_equal(shift, bias[::2])
    assert LAYERS > 3


def test_the_classifier_is_drawn_anew(tmp_path: Path) -> None:
    spec = {"hidden": 32, "heads": 2, "intermediate": 128}
    target, held = tmp_path / "out.onnx", {}
    for preset in ("published", None):
        options = {} if preset is None else {"preset": preset}
        bot_onnx.resize(DIGITS, spec, target, method="ws", options=options, against=False, force=True)
        held[preset] = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer}
    source = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(DIGITS).graph.initializer}
    structure = bot_onnx.open(DIGITS).structure
    heads = [s for s in structure.stacks if any(a and structure.dims[a].role == "out" for a in s.axes)]
    assert {stack.kind for stack in heads} == {"matrix", "bias"}
    for stack in heads:
        (name,) = stack.tensors
        if stack.kind == "bias":
            np.testing.assert_array_equal(held["published"][name], np.zeros_like(source[name]))
            np.testing.assert_array_equal(held[None][name], source[name])
        else:
            assert abs(held["published"][name].std() - 0.02) < 0.003
            assert not np.allclose(held["published"][name], held[None][name], atol=1e-2)
    others = {name for s in structure.stacks for name in s.tensors if s not in heads and s.kind.startswith("norm")}
    for name in others:
        np.testing.assert_array_equal(held["published"][name], source[name][::2])
