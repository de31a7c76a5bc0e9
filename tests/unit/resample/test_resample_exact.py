"""Growing in convention ``value`` keeps the function: small networks evaluated in float64 before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bot_onnx._resample import get_method, make_options
from bot_onnx._stack.types import Axis, StackTask

RNG = np.random.default_rng(11)
EPS = 1e-5


def leaf(source: int, target: int, role: str = "free") -> Axis:
    return Axis("leaf", source, target, role)


def product(*parts: Axis, **more: Any) -> Axis:
    return Axis(
        "product", int(np.prod([p.source for p in parts])), int(np.prod([p.target for p in parts])), parts=parts, **more
    )


def resize(kind: str, weight: np.ndarray, axes: tuple[Axis, ...], directions: tuple[str, ...], **more: Any) -> Any:
    """One tensor, or a list of layers where ``layers`` is given."""
    options = make_options("bot", **more.pop("options", {}))
    stacked = "layers" in more
    work = StackTask("s0", "w", kind, axes, directions, **more)  # type: ignore[arg-type]
    source = [lambda layer=layer: layer for layer in (weight if stacked else [weight])]
    out = list(get_method("bot").resample(work, source, options, xp=np, seed=0))
    return np.stack(out) if stacked else out[0]


def norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS) * scale + bias


def mlp_with_tied_head(p: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    x = p["embedding"][tokens]
    x = x + np.tanh(norm(x, p["g1"], p["c1"]) @ p["w1"].T + p["b1"]) @ p["w2"].T + p["b2"]
    return norm(x, p["g2"], p["c2"]) @ p["embedding"].T


@pytest.mark.parametrize("ratio", [(2, 2), (4, 2), (1, 8), (2, 1)])
def test_width_of_an_mlp_with_tied_head_grows_exactly(ratio: tuple[int, int]) -> None:
    h, f, vocab = 6, 10, 17
    hidden, inner = leaf(h, h * ratio[0], "hidden"), leaf(f, f * ratio[1], "intermediate")
    draw = RNG.standard_normal
    small = {
        "embedding": draw((vocab, h)), "w1": draw((f, h)), "b1": draw(f), "w2": draw((h, f)), "b2": draw(h),
        "g1": draw(h), "c1": draw(h), "g2": draw(h), "c2": draw(h),
    }  # fmt: skip
    large = {
        "embedding": resize("embedding", small["embedding"], (leaf(vocab, vocab, "vocab"), hidden), ("index", "out")),
        "w1": resize("matrix", small["w1"], (inner, hidden), ("out", "in")),
        "b1": resize("bias", small["b1"], (inner,), ("out",)),
        "w2": resize("matrix", small["w2"], (hidden, inner), ("out", "in"), writes_residual=True),
        "b2": resize("bias", small["b2"], (hidden,), ("out",), writes_residual=True),
        "g1": resize("norm_scale", small["g1"], (hidden,), ("out",)),
        "c1": resize("norm_bias", small["c1"], (hidden,), ("out",)),
        "g2": resize("norm_scale", small["g2"], (hidden,), ("out",), before_tied_head=True),
        "c2": resize("norm_bias", small["c2"], (hidden,), ("out",), before_tied_head=True),
    }
    tokens = np.arange(vocab)
    np.testing.assert_allclose(mlp_with_tied_head(large, tokens), mlp_with_tied_head(small, tokens), atol=1e-12)
    off = {"tie_correction": False}
    large["g2"] = resize("norm_scale", small["g2"], (hidden,), ("out",), before_tied_head=True, options=off)
    large["c2"] = resize("norm_bias", small["c2"], (hidden,), ("out",), before_tied_head=True, options=off)
    np.testing.assert_allclose(
        mlp_with_tied_head(large, tokens), mlp_with_tied_head(small, tokens) * ratio[0], atol=1e-11
    )


@pytest.mark.parametrize("wavelet", ["db4", "sym5", "coif2", "bior4.4", "rbio3.5"])
@pytest.mark.parametrize(("n", "m"), [(8, 16), (8, 32), (8, 11), (8, 13), (12, 18)])
def test_linear_maps_grow_exactly_with_any_filter(wavelet: str, n: int, m: int) -> None:
    first, second = RNG.standard_normal((n, 5)), RNG.standard_normal((3, n))
    options = {"wavelet": wavelet}
    up = resize("matrix", first, (leaf(n, m), leaf(5, 5)), ("out", "in"), options=options)
    down = resize("matrix", second, (leaf(3, 3), leaf(n, m)), ("out", "in"), options=options)
    np.testing.assert_allclose(down @ up, second @ first, atol=1e-8)


def attention(x: np.ndarray, qkv: np.ndarray, bias: np.ndarray, out: np.ndarray, heads: int) -> np.ndarray:
    steps = x.shape[0]
    q, k, v = np.split(x @ qkv.T + bias, 3, axis=-1)
    split = (steps, heads, -1)
    q, k, v = (part.reshape(split).transpose(1, 0, 2) for part in (q, k, v))
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (weights / weights.sum(-1, keepdims=True)) @ v
    return mixed.transpose(1, 0, 2).reshape(steps, -1) @ out.T


@pytest.mark.parametrize(("heads", "head_dim"), [((2, 4), (4, 4)), ((2, 2), (4, 8)), ((3, 6), (2, 8))])
@pytest.mark.parametrize("correct", [True, False])
def test_attention_grows_exactly(heads: tuple[int, int], head_dim: tuple[int, int], correct: bool) -> None:
    hidden = leaf(6, 12, "hidden")
    inner = product(leaf(*heads, "heads"), leaf(*head_dim, "head_dim"))
    scored = product(*inner.parts, score=True, head_dim=head_dim)
    fused = Axis("concat", 3 * inner.source, 3 * inner.target, parts=(scored, scored, inner))
    qkv, bias = RNG.standard_normal((fused.source, 6)), RNG.standard_normal(fused.source)
    out, x = RNG.standard_normal((6, inner.source)), RNG.standard_normal((5, 6))
    options = {"head_dim_correction": correct}
    expected = attention(x, qkv, bias, out, heads[0])
    got = attention(
        np.repeat(x, 2, axis=-1),
        resize("matrix", qkv, (fused, hidden), ("out", "in"), options=options),
        resize("bias", bias, (fused,), ("out",), options=options),
        resize("matrix", out, (hidden, inner), ("out", "in"), options=options),
        heads[1],
    )
    if correct or head_dim[0] == head_dim[1]:
        np.testing.assert_allclose(got, np.repeat(expected, 2, axis=-1), atol=1e-12)
    else:
        assert np.abs(got - np.repeat(expected, 2, axis=-1)).max() > 1e-3


LAYER_TENSORS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "w1": ("matrix", (7, 4), {}),
    "w2": ("matrix", (4, 7), {"writes_residual": True}),
    "b2": ("bias", (4,), {"writes_residual": True}),
    "g1": ("norm_scale", (4,), {"norm_position": "inner"}),
    "c1": ("norm_bias", (4,), {"norm_position": "inner"}),
    "g2": ("norm_scale", (4,), {"norm_position": "last"}),
    "c2": ("norm_bias", (4,), {"norm_position": "last"}),
}


def run_layers(p: dict[str, np.ndarray], x: np.ndarray, residual: str) -> np.ndarray:
    for w1, w2, b2, g1, c1, g2, c2 in zip(*(p[key] for key in LAYER_TENSORS), strict=True):
        if residual == "pre-norm":
            x = x + np.tanh(norm(x, g1, c1) @ w1.T) @ w2.T + b2
        else:
            x = norm(x + np.tanh(x @ w1.T) @ w2.T + b2, g1, c1)
            x = norm(x + np.sin(x @ w1.T) @ w2.T + b2, g2, c2)
    return x


@pytest.mark.parametrize(("residual", "tolerance"), [("pre-norm", 1e-13), ("post-norm", 1e-3)])
@pytest.mark.parametrize("target", [4, 5, 6, 9])
def test_identity_depth_keeps_the_function(residual: str, tolerance: float, target: int) -> None:
    small = {key: RNG.standard_normal((3, *shape)) for key, (_, shape, _) in LAYER_TENSORS.items()}
    large = {
        key: resize(
            kind, small[key], tuple(leaf(n, n) for n in shape), ("out", "in")[: len(shape)],
            layers=(3, target), total_layers=(3, target), residual=residual, options={"layer_axis": "identity"}, **more,
        )
        for key, (kind, shape, more) in LAYER_TENSORS.items()
    }  # fmt: skip
    assert large["w1"].shape[0] == target
    x = RNG.standard_normal((8, 4))
    # post-norm: the norms' epsilon is applied again in every added layer
    np.testing.assert_allclose(run_layers(large, x, residual), run_layers(small, x, residual), atol=tolerance)
    assert np.count_nonzero(np.abs(large["w2"]).sum((1, 2)) == 0) == target - 3
