"""Details ``in-band``: the function stays, no two neurons are equal, and the noise has its level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bot_onnx._resample import make_options, operator
from bot_onnx.errors import ResampleError
from tests.method_runs import concat, leaf, product, resized, run, task

RNG = np.random.default_rng(6)
IN_BAND: dict[str, Any] = {"details": "in-band"}


def distinct(rows: np.ndarray) -> bool:
    """No two rows are equal, not even nearly."""
    flat = rows.reshape(len(rows), -1)
    gaps = np.abs(flat[:, None] - flat[None]).max(-1)
    return bool((gaps + np.eye(len(flat)) > 1e-3 * np.abs(flat).max()).all())


@pytest.mark.parametrize("ratio", [2, 4])
def test_noise_is_what_haar_growth_cannot_reach(ratio: int) -> None:
    weight = RNG.standard_normal((40, 30)) * 0.3
    work = task("matrix", (leaf(40, 40 * ratio), leaf(30, 30 * ratio)), ("out", "in"))
    plain, noisy = run("bot", work, [weight], details="zero")[0], run("bot", work, [weight], **IN_BAND)[0]
    noise = noisy - plain
    synthesis = np.repeat(np.eye(30), ratio, axis=0) / np.sqrt(ratio)  # U_i, orthonormal
    np.testing.assert_allclose(noise @ synthesis, 0, atol=1e-12)
    level = np.sqrt(1 / ratio)  # what rounding leaves between copies is amplified no more than by the weights
    assert abs(noise.std() / (level * weight.std() * np.sqrt(1 - 1 / ratio)) - 1) < 0.05
    assert distinct(noisy) and distinct(noisy.T)
    assert not distinct(plain) and not distinct(plain.T)
    louder = run("bot", work, [weight], noise_scale=2.0, **IN_BAND)[0]
    np.testing.assert_allclose(louder - plain, 2 * noise, atol=1e-12)


@pytest.mark.parametrize("wavelet", ["haar", "db3", "bior4.4", "rbio2.2"])
@pytest.mark.parametrize(("n", "m"), [(8, 16), (8, 12), (6, 24)])
@pytest.mark.parametrize("mode", ["periodization", "symmetric"])
def test_grown_signals_are_read_as_before_with_any_filter(wavelet: str, n: int, m: int, mode: str) -> None:
    first, second = RNG.standard_normal((n, 5)), RNG.standard_normal((3, n))
    options = {"wavelet": wavelet, "mode": mode, **IN_BAND}
    (up,) = run("bot", task("matrix", (leaf(n, m), leaf(5, 5)), ("out", "in")), [first], **options)
    (down,) = run("bot", task("matrix", (leaf(3, 3), leaf(n, m)), ("out", "in")), [second], **options)
    np.testing.assert_allclose(down @ up, second @ first, atol=1e-8)
    (plain,) = run(
        "bot",
        task("matrix", (leaf(3, 3), leaf(n, m)), ("out", "in")),
        [second],
        wavelet=wavelet,
        mode=mode,
        details="zero",
    )
    assert np.abs(down - plain).std() > 0.1
    if wavelet == "haar":
        matrix = operator("bot", n, m, wavelet=wavelet, mode=mode)  # value: copies
        np.testing.assert_allclose((down - plain) @ matrix, 0, atol=1e-12)


def test_whole_heads_on_the_attention_axis_and_shrinking_parts() -> None:
    heads, dim = leaf(3, 6, "heads"), leaf(4, 4, "head_dim")
    weight = RNG.standard_normal((5, 12))
    work = task("matrix", (leaf(5, 5), product(heads, dim)), ("out", "in"))
    noise = run("bot", work, [weight], **IN_BAND)[0] - run("bot", work, [weight], details="zero")[0]
    pairs = noise.reshape(5, 3, 2, 4)
    np.testing.assert_allclose(pairs.sum(2), 0, atol=1e-12)  # equal heads cancel
    assert np.abs(noise.reshape(5, 6, 4).sum(-1)).min() > 1e-3  # not within a head
    mixed = concat(product(leaf(4, 2, "heads"), leaf(4, 8, "head_dim")), leaf(6, 3))
    weight = RNG.standard_normal((5, mixed.source))
    work = task("matrix", (leaf(5, 5), mixed), ("out", "in"))
    noise = run("bot", work, [weight], **IN_BAND)[0] - run("bot", work, [weight], details="zero")[0]
    np.testing.assert_allclose(noise[:, :16].reshape(5, 2, 4, 2).sum(-1), 0, atol=1e-12)
    np.testing.assert_allclose(noise[:, 16:], 0, atol=1e-12)  # the part that shrinks is seen whole
    # A shrinking factor is seen whole, too, even where its filter has no exact inverse (odd size, long filter).
    odd = product(leaf(7, 4, "heads"), leaf(4, 8, "head_dim"))
    work, weight = task("matrix", (leaf(5, 5), odd), ("out", "in")), RNG.standard_normal((5, 28))
    noise = (
        run("bot", work, [weight], wavelet="db3", **IN_BAND)[0]
        - run("bot", work, [weight], wavelet="db3", details="zero")[0]
    )
    assert noise.std() > 0.1
    grown = operator("bot", 4, 8, wavelet="db3", convention="value")
    np.testing.assert_allclose(noise.reshape(5, 4, 8) @ grown, 0, atol=1e-12)


@pytest.mark.parametrize("kind", ["embedding", "bias", "norm_scale", "norm_bias", "table"])
def test_all_but_contractions_are_duplicated(kind: str) -> None:
    values = RNG.standard_normal(6)
    (got,) = run("bot", task(kind, (leaf(6, 12, "hidden"),), ("out",)), [values], **IN_BAND)
    np.testing.assert_array_equal(got, np.repeat(values, 2))


def test_added_layers_write_noise_only_and_sigma_is_the_stacks() -> None:
    layers = RNG.standard_normal((2, 60, 50)) * np.array([0.1, 0.7])[:, None, None]
    axes = (leaf(60, 120, "hidden"), leaf(50, 100))
    more = {"layers": (2, 4), "residual": "pre-norm", "writes_residual": True}
    out = run("bot", task("matrix", axes, ("out", "in"), **more), layers, **IN_BAND)
    for added in (out[1], out[3]):
        np.testing.assert_allclose(added.reshape(120, 50, 2).sum(-1), 0, atol=1e-12)
        assert abs(added.std() / (layers.std() * 0.5) - 1) < 0.05  # √(1/2) of level, √(1/2) that is not seen
    assert not np.allclose(out[1], out[3])
    biases = run("bot", task("bias", axes[:1], ("out",), **more), layers[:, :, 0], **IN_BAND)
    np.testing.assert_array_equal(biases[1], np.zeros(120))


def test_conventions_that_change_the_function_are_refused() -> None:
    for convention in ("ortho", "std-source", "std-fresh"):
        with pytest.raises(ResampleError, match=f"'in-band' keep the function, which convention '{convention}'"):
            make_options("bot", convention=convention, **IN_BAND)
    with pytest.raises(ResampleError, match="in-band"):
        make_options("bot", preset="paper", **IN_BAND)
    with pytest.raises(ResampleError, match="noise_scale"):
        make_options("bot", noise_scale=-1)


def test_strict_namespace_gives_the_same() -> None:
    weight = RNG.standard_normal((6, 8)).astype(np.float32)
    for target in (16, 12):
        work = task("matrix", (leaf(6, 12), leaf(8, target)), ("out", "in"))
        (a,) = run("bot", work, [weight], **IN_BAND)
        (b,) = run("bot", work, [array_api_strict.asarray(weight)], xp=array_api_strict, **IN_BAND)
        np.testing.assert_allclose(np.asarray(b), a, atol=1e-5)
        assert a.dtype == np.float32


@pytest.mark.exporter
@pytest.mark.parametrize("arch", ["gpt2", "vit"])
def test_models_grow_exactly_and_no_two_neurons_are_equal(arch: str, tmp_path: Path) -> None:
    spec = {"hidden": 128, "heads": 8, "intermediate": 256, "layers": 6}
    before, after, path = resized(arch, spec, tmp_path, "bot", **IN_BAND)
    np.testing.assert_allclose(after[0], before[0], atol=1e-4)
    matrices = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if len(t.dims) == 2]
    checked = [w for w in matrices if w.shape in {(128, 384), (128, 128), (128, 256), (256, 128)}]
    assert len(checked) == 4 * 6
    for weight in checked:
        assert distinct(weight) and distinct(weight.T)
