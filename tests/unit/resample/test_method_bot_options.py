"""Method ``bot``: the ``std-`` conventions, the preset, and noise in other boundary modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bot_onnx._resample import make_options, operator
from bot_onnx.errors import ResampleError
from tests.method_runs import leaf, run, task

RNG = np.random.default_rng(8)


@pytest.mark.parametrize("wavelet", ["haar", "bior4.4"])
@pytest.mark.parametrize(("source", "target"), [(24, 12), (12, 24), (24, 17)])
@pytest.mark.parametrize("layers", [(4, 2), (2, 4), (3, 3)])
def test_std_source_keeps_the_spread_of_the_whole_stack(
    wavelet: str, source: int, target: int, layers: tuple[int, int]
) -> None:
    stack = RNG.standard_normal((layers[0], source, 10)) * RNG.uniform(0.1, 1, (layers[0], 1, 1)) + 0.2
    work = task("matrix", (leaf(source, target), leaf(10, 10)), ("out", "in"), layers=layers)
    options: dict[str, Any] = {"wavelet": wavelet, "layer_axis": "wavelet" if layers[0] != layers[1] else "auto"}
    got = np.stack(run("bot", work, stack, convention="std-source", **options))
    assert got.std() == pytest.approx(stack.std(), rel=1e-10)
    plain = np.stack(run("bot", work, stack, convention="value", **options))
    np.testing.assert_allclose(got / plain, got.std() / plain.std(), rtol=1e-9)  # one factor for the whole stack


@pytest.mark.parametrize(
    ("kind", "shape", "more", "expected"),
    [
        ("matrix", (8, 12), {}, 0.02),
        ("embedding", (8, 12), {}, 0.02),
        ("table", (8, 12), {}, 0.02),
        ("matrix", (8, 12), {"writes_residual": True, "residual": "pre-norm", "total_layers": (4, 8)}, 0.02 / 4),
        ("kernel", (8, 12, 3, 3), {}, np.sqrt(2 / (6 * 9))),
    ],
)
def test_std_fresh_is_the_spread_of_a_fresh_initialisation(
    kind: str, shape: tuple[int, ...], more: dict[str, Any], expected: float
) -> None:
    axes = tuple(leaf(n, n // 2 if i < 2 else n) for i, n in enumerate(shape))
    work = task(kind, axes, ("out", "in", "none", "none")[: len(shape)], layers=(2, 2), **more)
    got = np.stack(run("bot", work, RNG.standard_normal((2, *shape)) * 3, convention="std-fresh"))
    assert got.std() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("kind", ["bias", "norm_scale", "norm_bias", "scale", "other"])
@pytest.mark.parametrize("convention", ["std-source", "std-fresh"])
def test_norms_and_biases_are_not_rescaled(kind: str, convention: str) -> None:
    values = RNG.standard_normal(8)
    work = task(kind, (leaf(8, 4, "hidden"),), ("out",), before_tied_head=True)
    np.testing.assert_allclose(run("bot", work, [values], convention=convention)[0], values.reshape(4, 2).mean(1))


def test_layers_that_do_nothing_do_not_count_and_constants_stay() -> None:
    stack = RNG.standard_normal((2, 6, 6)) * np.array([1.0, 5.0])[:, None, None]
    axes = (leaf(6, 6), leaf(6, 6))
    work = task("matrix", axes, ("out", "in"), layers=(2, 3), residual="pre-norm", writes_residual=True)
    out = run("bot", work, stack, convention="std-source")
    for got, expected in zip(out, [stack[0], np.zeros((6, 6)), stack[1]], strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    zeros = run("bot", task("matrix", axes, ("out", "in")), [np.zeros((6, 6))], convention="std-fresh")
    np.testing.assert_array_equal(zeros[0], np.zeros((6, 6)))


def test_preset_paper_is_ortho_with_a_wavelet_by_direction_and_filtered_layers() -> None:
    np.testing.assert_array_equal(operator("bot", 16, 8, preset="paper"), operator("bot", 16, 8, convention="ortho"))
    long = {"wavelet": "bior6.8", "convention": "ortho"}
    np.testing.assert_array_equal(operator("bot", 8, 16, preset="paper"), operator("bot", 8, 16, **long))
    np.testing.assert_array_equal(
        operator("bot", 8, 16, preset="paper", wavelet="db2", convention="value"), operator("bot", 8, 16, wavelet="db2")
    )
    for sizes, wavelet in (((16, 8), "coif3"), ((8, 16), "db2")):
        literal = operator("bot", *sizes, wavelet=wavelet, convention="ortho")
        np.testing.assert_array_equal(operator("bot", *sizes, preset="paper-gpt"), literal)
    stack = RNG.standard_normal((4, 8, 8))
    small = task("matrix", (leaf(8, 4), leaf(8, 4)), ("out", "in"), layers=(4, 2), residual="pre-norm")
    for a, b in zip(
        run("bot", small, stack, preset="paper"),
        run("bot", small, stack, wavelet="haar", convention="ortho", layer_axis="wavelet"),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    cube = stack.reshape(2, 2, 4, 2, 4, 2).sum((1, 3, 5)) / np.sqrt(8)  # the 3-D Haar low band
    np.testing.assert_allclose(np.stack(run("bot", small, stack, preset="paper")), cube, atol=1e-12)
    large = task("matrix", (leaf(8, 16), leaf(8, 16)), ("out", "in"), layers=(4, 8), residual="pre-norm")
    grown = run("bot", large, stack, preset="paper")
    expected = run("bot", large, stack, layer_axis="wavelet", **long)
    for a, b in zip(grown, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    first = run("bot", large, stack, preset="paper", layer_axis="interleave")
    np.testing.assert_array_equal(first[0], first[1])


@pytest.mark.parametrize("mode", ["symmetric", "zero", "smooth", "reflect"])
@pytest.mark.parametrize("wavelet", ["haar", "db3", "bior2.2"])
def test_noise_fills_the_detail_bands_in_every_mode(mode: str, wavelet: str) -> None:
    weight = RNG.standard_normal((64, 48))
    work = task("matrix", (leaf(64, 128), leaf(48, 48)), ("out", "in"))
    options: dict[str, Any] = {"convention": "ortho", "wavelet": wavelet, "mode": mode}
    plain, noisy = (
        run("bot", work, [weight], **options)[0],
        run("bot", work, [weight], details="gaussian", **options)[0],
    )
    added = noisy - plain
    if wavelet != "bior2.2":  # orthogonal: half the energy of each sample
        assert abs(added.std() / weight.std() - np.sqrt(0.5)) < 0.05
    low = operator("bot", 128, 64, **options)
    assert np.abs(low @ added)[8:-8].max() < 1e-10  # nothing of it in the low band, away from the ends


def test_refusals_name_the_option() -> None:
    for options in ({"mode": "mirror"}, {"level": 0}, {"convention": "std"}, {"preset": "papers"}):
        with pytest.raises(ResampleError, match=next(iter(options))):
            make_options("bot", **options)  # type: ignore[arg-type]


def test_growing_has_no_silent_twins_by_default() -> None:
    """Copies of a channel would stay copies in all training to come; noise that nothing sees separates them."""
    assert make_options("bot").detail_kind == "in-band"
    assert make_options("bot", convention="value").detail_kind == "in-band"
    assert make_options("bot", convention="ortho").detail_kind == "zero"
    assert make_options("bot", preset="paper").detail_kind == "zero"
    assert make_options("bot", details="zero").detail_kind == "zero"
