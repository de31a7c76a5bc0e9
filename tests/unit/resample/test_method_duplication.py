"""Methods ``bert2bert`` and ``net2net``: one mapping a dim, shares, what keeps the function and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import onnx
import pytest

from bot_onnx._resample import operator
from bot_onnx._stack.types import Axis
from bot_onnx.errors import ResampleError
from tests.method_runs import concat, leaf, product, resized, run, task

RNG = np.random.default_rng(2)
METHODS = [
    ("bert2bert", {"variant": "fpi", "mapping": "random"}),
    ("bert2bert", {"variant": "fpi", "mapping": "cyclic"}),
    ("net2net", {"mapping": "random"}),
    ("net2net", {"mapping": "cyclic"}),
]


def index_of(axis: Axis, method: str, **more: Any) -> np.ndarray:
    (out,) = run(method, task("bias", (axis,), ("out",)), [np.arange(float(axis.source))], **more)
    return out.astype(int)


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("target", [6, 9, 12, 15, 31])
def test_mapping_is_balanced_and_belongs_to_the_dim(method: str, options: dict[str, str], target: int) -> None:
    index = index_of(leaf(6, target, "hidden", "d1"), method, **options)
    np.testing.assert_array_equal(index[:6], np.arange(6))
    counts = np.bincount(index, minlength=6)
    assert set(counts) <= {target // 6, -(-target // 6)}
    again = concat(leaf(6, target, "free", "d1"), leaf(6, target, "free", "d1"))  # another tensor, another stack
    np.testing.assert_array_equal(index_of(again, method, **options), [*index, *(index + 6)])
    if options["mapping"] == "cyclic":
        np.testing.assert_array_equal(index, np.arange(target) % 6)


def test_random_mappings_depend_on_seed_and_dim_alone() -> None:
    axis = leaf(32, 64, "hidden", "d1")
    one = index_of(axis, "net2net", mapping="random")
    assert not np.array_equal(one, np.arange(64) % 32)
    np.testing.assert_array_equal(one, index_of(axis, "bert2bert", variant="fpi", mapping="random"))
    assert not np.array_equal(one, index_of(axis, "net2net", mapping="random", seed=1))
    assert not np.array_equal(one, index_of(leaf(32, 64, "hidden", "d2"), "net2net", mapping="random"))
    positions = leaf(8, 20, "positions", "d3")  # looked up: position p stays, the rest goes round
    np.testing.assert_array_equal(index_of(positions, "net2net", mapping="random"), np.arange(20) % 8)


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize(("n", "m"), [(6, 12), (6, 8), (5, 17)])
def test_linear_maps_with_any_activation_grow_exactly(method: str, options: dict[str, str], n: int, m: int) -> None:
    first, bias, second = RNG.standard_normal((n, 4)), RNG.standard_normal(n), RNG.standard_normal((3, n))
    hidden = leaf(n, m, "intermediate", "d9")
    (up,) = run(method, task("matrix", (hidden, leaf(4, 4)), ("out", "in")), [first], **options)
    (shift,) = run(method, task("bias", (hidden,), ("out",)), [bias], **options)
    (down,) = run(method, task("matrix", (leaf(3, 3), hidden), ("out", "in")), [second], **options)
    x = RNG.standard_normal((7, 4))
    expected = np.tanh(x @ first.T + bias) @ second.T
    np.testing.assert_allclose(np.tanh(x @ up.T + shift) @ down.T, expected, atol=1e-12)


def attention(x: np.ndarray, qkv: np.ndarray, out: np.ndarray, heads: int) -> np.ndarray:
    q, k, v = (part.reshape(len(x), heads, -1).transpose(1, 0, 2) for part in np.split(x @ qkv.T, 3, axis=-1))
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (weights / weights.sum(-1, keepdims=True)) @ v
    return mixed.transpose(1, 0, 2).reshape(len(x), -1) @ out.T


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize(
    ("heads", "head_dim"), [((2, 4), (4, 4)), ((2, 3), (4, 6)), ((2, 2), (4, 8)), ((3, 4), (4, 7))]
)
@pytest.mark.parametrize("halves", [False, True])
def test_attention_grows_exactly_at_any_ratio(
    method: str, options: dict[str, str], heads: tuple[int, int], head_dim: tuple[int, int], halves: bool
) -> None:
    dim = leaf(*head_dim, "head_dim", "d2")
    if halves and head_dim[1] % 2 == 0:
        half = leaf(head_dim[0] // 2, head_dim[1] // 2, "half_head_dim", "d3")
        dim = concat(half, half, role="head_dim")
    inner = product(leaf(*heads, "heads", "d1"), dim)
    scored = product(*inner.parts, score=True, head_dim=head_dim)
    fused = concat(scored, scored, inner)
    qkv, out = RNG.standard_normal((fused.source, 6)), RNG.standard_normal((6, inner.source))
    (large,) = run(method, task("matrix", (fused, leaf(6, 6)), ("out", "in")), [qkv], **options)
    (back,) = run(method, task("matrix", (leaf(6, 6), inner), ("out", "in")), [out], **options)
    x = RNG.standard_normal((5, 6))
    expected = attention(x, qkv, out, heads[0])
    np.testing.assert_allclose(attention(x, large, back, heads[1]), expected, atol=1e-12)


def test_vocabulary_and_the_norm_before_a_tied_head() -> None:
    table = RNG.standard_normal((5, 4))
    hidden = leaf(4, 8, "hidden", "d1")
    work = task("embedding", (leaf(5, 7, "vocab"), hidden), ("index", "out"))
    (grown,) = run("net2net", work, [table], mapping="cyclic")
    np.testing.assert_array_equal(grown[:5], np.tile(table, 2))
    np.testing.assert_allclose(grown[5:], np.tile(table.mean(0), (2, 2)))
    (scale,) = run("net2net", task("norm_scale", (hidden,), ("out",), before_tied_head=True), [np.ones(4)])
    np.testing.assert_array_equal(scale, np.full(8, 0.5))
    (inner,) = run("net2net", task("norm_scale", (hidden,), ("out",)), [np.ones(4)])
    np.testing.assert_array_equal(inner, np.ones(8))


def test_aki_takes_copies_from_the_layer_above() -> None:
    layers = RNG.standard_normal((3, 4, 4))
    hidden = leaf(4, 6, "hidden", "d1")
    work = task("matrix", (hidden, hidden), ("out", "in"), layers=(3, 6))
    options = {"mapping": "cyclic"}
    plain = run("bert2bert", work, layers, variant="fpi", **options)
    mixed = run("bert2bert", work, layers, variant="aki", **options)
    for k in range(6):
        layer = k % 3
        np.testing.assert_array_equal(mixed[k][:4], plain[layer][:4])
        np.testing.assert_array_equal(mixed[k][4:], plain[min(layer + 1, 2)][4:])
    norm = task("norm_scale", (hidden,), ("out",), layers=(3, 3))
    np.testing.assert_array_equal(run("bert2bert", norm, layers[:, 0])[0], run("net2net", norm, layers[:, 0])[0])


def test_net2net_noise_touches_copies_only() -> None:
    weight = RNG.standard_normal((64, 64))
    hidden = leaf(64, 128, "intermediate", "d1")
    work = task("matrix", (hidden, leaf(64, 64)), ("out", "in"))
    plain, noisy = run("net2net", work, [weight])[0], run("net2net", work, [weight], noise=0.1)[0]
    np.testing.assert_array_equal(noisy[:64], plain[:64])
    assert abs((noisy - plain)[64:].std() / (0.1 * plain.std()) - 1) < 0.05


def test_net2net_depth_is_identity_and_bert2bert_depth_stacks() -> None:
    layers = RNG.standard_normal((2, 3, 3))
    axes = (leaf(3, 3), leaf(3, 3))
    writer = task("matrix", axes, ("out", "in"), layers=(2, 4), residual="pre-norm", writes_residual=True)
    out = run("net2net", writer, layers)
    for k, expected in enumerate([layers[0], 0 * layers[0], layers[1], 0 * layers[1]]):
        np.testing.assert_array_equal(out[k], expected)
    stacked = run("bert2bert", writer, layers)
    for k in range(4):
        np.testing.assert_array_equal(stacked[k], layers[k % 2])
    bare = task("matrix", axes, ("out", "in"), layers=(2, 4), residual="none")
    with pytest.raises(ResampleError, match="needs a residual stream"):
        run("net2net", bare, layers)


@pytest.mark.parametrize("method", ["bert2bert", "net2net"])
def test_shrinking_is_refused_by_name(method: str) -> None:
    mixed = task("matrix", (leaf(4, 8, "intermediate"), leaf(4, 2, "hidden")), ("out", "in"))
    with pytest.raises(ResampleError, match=rf"axis 1 \(hidden\) shrinks from 4 to 2, and method '{method}' can only"):
        run(method, mixed, [np.ones((4, 4))])
    with pytest.raises(ResampleError, match="number of layers shrinks from 2 to 1"):
        run(method, task("bias", (leaf(4, 8),), ("out",), layers=(2, 1)), [np.ones(4)] * 2)
    with pytest.raises(ResampleError, match="cannot make 2 indices of 4"):
        operator(method, 4, 2)


def test_operators_share_contractions() -> None:
    out, into = (operator("net2net", 3, 5, direction=way, mapping="cyclic") for way in ("out", "in"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(out, np.eye(3)[[0, 1, 2, 0, 1]])
    np.testing.assert_allclose(into.T @ out, np.eye(3), atol=1e-15)


@pytest.mark.parametrize(
    ("method", "options"), [*METHODS[:1], ("bert2bert", {"variant": "aki"}), ("net2net", {"noise": 0.1})]
)
def test_strict_namespace_gives_the_same(method: str, options: dict[str, Any]) -> None:
    hidden = leaf(4, 6, "hidden", "d1")
    work = task("matrix", (hidden, product(leaf(2, 4), leaf(3, 3))), ("out", "in"), layers=(2, 3), residual="pre-norm")
    layers = RNG.standard_normal((2, 4, 6)).astype(np.float32)
    reference = run(method, work, layers, **options)
    strict = run(method, work, [array_api_strict.asarray(x) for x in layers], xp=array_api_strict, **options)
    for a, b in zip(reference, strict, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(np.asarray(b), a, atol=1e-6)


DOUBLE = {"hidden": 128, "heads": 8, "intermediate": 256}


@pytest.mark.exporter
@pytest.mark.parametrize(
    ("method", "options", "spec"),
    [
        ("bert2bert", {"variant": "fpi"}, DOUBLE),
        ("net2net", {}, {**DOUBLE, "layers": 6}),
        ("net2net", {}, {"hidden": 128, "heads": 4, "head_dim": 32, "intermediate": 200}),
    ],
)
def test_gpt2_doubles_exactly(method: str, options: dict[str, Any], spec: dict[str, Any], tmp_path: Path) -> None:
    before, after, path = resized("gpt2", spec, tmp_path, method, **options)
    np.testing.assert_allclose(after[0], before[0], atol=1e-4)
    shapes = {t.name: tuple(t.dims) for t in onnx.load(path).graph.initializer}
    assert shapes["model.transformer.wte.weight"] == (97, 128)
