"""Details ``shares``: copies that share what reads them unequally (LEMON), against the formula written out."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest

import bot_onnx
from bot_onnx._resample import make_options
from bot_onnx._resample.shares import unequal_shares
from bot_onnx.errors import ResampleError
from tests.graphs import residual_mlp_model, save
from tests.method_runs import leaf, product, run, task

RNG = np.random.default_rng(12)
SHARES: dict[str, Any] = {"details": "shares"}
DIGITS = Path(str(files("bot_onnx") / "demo" / "digits_vit.onnx"))


@pytest.mark.parametrize(("n", "m"), [(5, 10), (4, 6), (3, 12), (4, 18)])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_shares_sum_to_one_and_none_are_equal(n: int, m: int, scale: float) -> None:
    shares = unequal_shares(n, m, np.random.default_rng(0), scale)
    for copies in (shares[np.arange(m) * n // m == index] for index in range(n)):
        assert copies.sum() == pytest.approx(1.0, abs=1e-12)
        assert len(copies) == 1 or np.diff(np.sort(copies)).min() > 0.02


@pytest.mark.parametrize(("n", "m"), [(6, 12), (6, 9), (4, 12)])
def test_weights_are_the_sources_times_a_share_a_copy(n: int, m: int) -> None:
    weight = RNG.standard_normal((5, n))
    (got,) = run("bot", task("matrix", (leaf(5, 5), leaf(n, m)), ("out", "in")), [weight], **SHARES)
    copied = np.arange(m) * n // m
    alpha = got / weight[:, copied]  # W'[i, t] = α_t W[i, g(t)], whatever row
    np.testing.assert_allclose(alpha, np.broadcast_to(alpha[:1], alpha.shape), atol=1e-12)
    np.testing.assert_allclose(np.bincount(copied, alpha[0]), 1.0, atol=1e-12)
    assert len(set(np.round(alpha[0][np.bincount(copied)[copied] > 1], 6))) == (np.bincount(copied)[copied] > 1).sum()


def test_heads_are_shared_whole_and_what_makes_copies_is_copied() -> None:
    heads, dim = leaf(2, 4, "heads"), leaf(3, 3, "head_dim")
    weight = RNG.standard_normal((5, 6))
    (got,) = run("bot", task("matrix", (leaf(5, 5), product(heads, dim)), ("out", "in")), [weight], **SHARES)
    alpha = got.reshape(5, 4, 3) / weight.reshape(5, 2, 3)[:, [0, 0, 1, 1]]
    np.testing.assert_allclose(alpha, np.broadcast_to(alpha[:1, :, :1], alpha.shape), atol=1e-12)
    (made,) = run("bot", task("matrix", (leaf(5, 10), leaf(6, 6)), ("out", "in")), [weight], **SHARES)
    np.testing.assert_array_equal(made, weight[np.arange(10) // 2])


def test_copies_get_other_gradients_at_once() -> None:
    """A two-layer network grown twice: the function stays; the copies' gradients are those of equal shares no more."""
    x, up, down = RNG.standard_normal((7, 4)), RNG.standard_normal((6, 4)), RNG.standard_normal((3, 6))
    wide = task("matrix", (leaf(6, 12, "intermediate"), leaf(4, 4)), ("out", "in"))
    narrow = task("matrix", (leaf(3, 3), leaf(6, 12, "intermediate")), ("out", "in"))
    target = RNG.standard_normal((7, 3))

    def gradient(details: str) -> np.ndarray:
        first, second = (run("bot", work, [w], details=details)[0] for work, w in ((wide, up), (narrow, down)))
        hidden = np.tanh(x @ first.T)
        result = hidden @ second.T
        np.testing.assert_allclose(result, np.tanh(x @ up.T) @ down.T, atol=1e-12)
        moved: np.ndarray = ((result - target) @ second * (1 - hidden**2)).T @ x  # dL/dW1 of ½|result - target|²
        return moved

    equal, unequal = (gradient(details).reshape(6, 2, 4) for details in ("zero", "shares"))
    np.testing.assert_allclose(equal[:, 0], equal[:, 1], atol=1e-12)
    norms = np.linalg.norm(unequal, axis=-1)
    assert (np.abs(norms[:, 0] / norms[:, 1] - 1) > 0.2).all()
    np.testing.assert_allclose(unequal.sum(1), equal.sum(1), atol=1e-12)  # together they are moved as before


@pytest.mark.parametrize("spec", [{"hidden": 16}, {"hidden": 12, "intermediate": 24}, {"hidden": 16, "layers": 5}])
def test_a_network_that_grows_keeps_its_function(spec: dict[str, int], tmp_path: Path) -> None:
    source = save(residual_mlp_model(), tmp_path)
    result = bot_onnx.resize(source, spec, tmp_path / "out.onnx", options=SHARES)
    assert result.plan.promise.kept is True and result.report.passed


def test_attention_keeps_its_function(tmp_path: Path) -> None:
    spec = {"hidden": 128, "heads": 8, "intermediate": 512, "layers": 8}
    result = bot_onnx.resize(DIGITS, spec, tmp_path / "out.onnx", options={**SHARES, "fresh_readers": 0.12})
    assert result.plan.promise.kept is True and result.report.passed


def test_new_channels_beside_the_old_ones_are_read_by_noise() -> None:
    axis = replace(leaf(6, 9, "hidden"), law="means")
    weight = RNG.standard_normal((5, 6))
    (got,) = run("bot", task("matrix", (leaf(5, 5), axis), ("out", "in")), [weight], **SHARES)
    np.testing.assert_allclose(got, run("bot", task("matrix", (leaf(5, 5), axis), ("out", "in")), [weight])[0])


def test_writers_of_added_layers_hold_noise() -> None:
    """Zero shared unequally is zero, and copies that nothing reads stay copies."""
    layers = RNG.standard_normal((2, 6, 8))
    more = {"layers": (2, 4), "residual": "pre-norm", "writes_residual": True}
    out = run("bot", task("matrix", (leaf(6, 12, "hidden"), leaf(8, 16)), ("out", "in"), **more), layers, **SHARES)
    assert np.abs(out[1]).std() > 0.1
    np.testing.assert_allclose(out[1].reshape(12, 8, 2).sum(-1), 0, atol=1e-12)


def test_another_seed_shares_otherwise_and_a_namespace_does_not() -> None:
    weight = RNG.standard_normal((5, 6)).astype(np.float32)
    work = task("matrix", (leaf(5, 5), leaf(6, 12)), ("out", "in"))
    (a,), (b,) = run("bot", work, [weight], **SHARES), run("bot", work, [weight], seed=1, **SHARES)
    assert not np.allclose(a, b)
    (strict,) = run("bot", work, [array_api_strict.asarray(weight)], xp=array_api_strict, **SHARES)
    np.testing.assert_allclose(np.asarray(strict), a, atol=1e-6)


@pytest.mark.parametrize("options", [{"preset": "paper"}, {"wavelet": "db2"}, {"convention": "ortho"}, {"level": 1}])
def test_what_makes_no_copies_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ResampleError, match="details 'shares' are of copies that keep the function"):
        make_options("bot", **SHARES, **options)
