"""Method ``bot``: composite axes, conventions, noise, laziness, namespaces and refusals."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import array_api_compat.numpy
import array_api_strict
import ml_dtypes
import numpy as np
import pytest

from bot_onnx._resample import get_method, make_options, operator
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError

RNG = np.random.default_rng(7)


def leaf(source: int, target: int, role: str = "free") -> Axis:
    return Axis("leaf", source, target, role)


def task(kind: str, axes: tuple[Axis, ...], directions: tuple[str, ...], **more: Any) -> StackTask:
    return StackTask("s0", "w", kind, axes, directions, **more)  # type: ignore[arg-type]


def run(work: StackTask, layers: Any, *, xp: Any = np, seed: int = 0, **options: Any) -> list[Any]:
    source = [lambda layer=layer: layer for layer in layers]
    return list(get_method("bot").resample(work, source, make_options("bot", **options), xp=xp, seed=seed))


def test_composite_axes_are_kronecker_and_block_diagonal() -> None:
    heads, dim = leaf(6, 3), leaf(4, 8)
    part = Axis("product", 24, 24, parts=(heads, dim))
    half = leaf(5, 10)
    rotary = Axis("product", 20, 20, parts=(leaf(2, 1), Axis("concat", 10, 20, parts=(half, half))))
    axis = Axis("concat", 44, 44, parts=(part, rotary))
    work = task("matrix", (axis, leaf(7, 7)), ("out", "in"))
    weight = RNG.standard_normal((44, 7))
    h, d, f, one = (
        operator("bot", *sizes, wavelet="db2", convention="value") for sizes in ((6, 3), (4, 8), (5, 10), (2, 1))
    )
    zero = np.zeros_like(f)
    second = np.kron(one, np.block([[f, zero], [zero, f]]))
    full = np.block([[np.kron(h, d), np.zeros((24, 20))], [np.zeros((20, 24)), second]])
    (got,) = run(work, [weight], wavelet="db2", convention="value")
    np.testing.assert_allclose(got, full @ weight, atol=1e-12)
    (got,) = run(task("matrix", (leaf(7, 7), axis), ("in", "out")), [weight.T], wavelet="db2", convention="value")
    np.testing.assert_allclose(got, (full @ weight).T, atol=1e-12)


@pytest.mark.parametrize("kind", ["norm_scale", "norm_bias", "bias", "scale", "table", "embedding"])
def test_value_keeps_the_level_of_everything_that_is_no_matrix(kind: str) -> None:
    work = task(kind, (leaf(8, 4, "hidden"),), ("out",))
    np.testing.assert_allclose(run(work, [np.full(8, 3.0)], convention="value")[0], 3.0)
    np.testing.assert_allclose(run(work, [np.full(8, 3.0)])[0], 3.0 * np.sqrt(2))  # ortho where it shrinks


def test_a_norm_whose_scale_is_ones_in_all_layers_keeps_them() -> None:
    halved = task("norm_scale", (leaf(8, 4, "hidden"),), ("out",), layers=(2, 2))
    for layer in run(halved, [np.ones(8), np.ones(8)]):
        np.testing.assert_array_equal(layer, np.ones(4))
    first, _ = run(halved, [np.ones(8), np.full(8, 1.01)])  # trained: the other layer tells
    np.testing.assert_allclose(first, np.sqrt(2))
    first, _ = run(halved, [np.ones(8), np.ones(8)], convention="ortho")  # asked for by name
    np.testing.assert_allclose(first, np.sqrt(2))


def test_looked_up_axes_take_no_gain() -> None:
    table = RNG.standard_normal((16, 8))
    for convention in ("ortho", "value"):
        (got,) = run(
            task("table", (leaf(16, 8, "positions"), leaf(8, 8)), ("none", "none")), [table], convention=convention
        )
        np.testing.assert_allclose(got, table.reshape(8, 2, 8).mean(1))
        embedding = task("embedding", (leaf(16, 5, "vocab"), leaf(8, 8)), ("index", "out"))
        np.testing.assert_array_equal(run(embedding, [table], convention=convention)[0], table[:5])
    larger = task("embedding", (leaf(16, 18, "vocab"), leaf(8, 8)), ("index", "out"))
    np.testing.assert_allclose(run(larger, [table])[0], np.vstack([table, table.mean(0), table.mean(0)]))


def test_layer_axis_modes() -> None:
    layers = [np.full((2,), float(k)) for k in range(4)]

    def picks(target: int, mode: str, residual: str = "none", convention: str = "value") -> list[float]:
        work = task("bias", (leaf(2, 2),), ("out",), layers=(4, target), residual=residual)
        return [float(out[0]) for out in run(work, layers, layer_axis=mode, convention=convention)]

    assert picks(2, "auto") == picks(2, "even") == [0, 2]
    assert picks(3, "even") == [0, 1, 2]
    assert picks(2, "first") == [0, 1]
    assert picks(2, "haar") == [0.5, 2.5]
    np.testing.assert_allclose(picks(2, "haar", convention="ortho"), np.array([0.5, 2.5]) * np.sqrt(2))
    assert picks(2, "even", convention="ortho") == [0, 2]
    assert picks(3, "haar", convention="ortho") == [0, 1, 2]  # no power of two: a selection, so no gain
    assert picks(8, "auto") == picks(8, "interleave") == picks(8, "haar") == [0, 0, 1, 1, 2, 2, 3, 3]
    assert picks(8, "stack") == [0, 1, 2, 3, 0, 1, 2, 3]
    assert picks(6, "auto", "pre-norm") == [0, 0, 1, 2, 2, 3]
    with pytest.raises(ResampleError, match="cannot make 8 layers of 4; use auto"):
        picks(8, "even")
    with pytest.raises(ResampleError, match="cannot make 2 layers of 4"):
        picks(2, "stack")
    with pytest.raises(ResampleError, match="interleave or stack"):
        picks(8, "identity")


@pytest.mark.parametrize("details", ["gaussian", "uniform"])
@pytest.mark.parametrize("wavelet", ["haar", "db3"])
def test_noise_fills_the_detail_bands_at_the_weights_level(details: str, wavelet: str) -> None:
    weight = RNG.standard_normal((64, 48)).astype(np.float32)
    work = task("matrix", (leaf(64, 128), leaf(48, 96)), ("out", "in"))
    options = {"convention": "ortho", "wavelet": wavelet}
    noisy, plain = run(work, [weight], details=details, **options)[0], run(work, [weight], **options)[0]
    assert noisy.dtype == np.float32
    # an orthonormal transform of four bands of equal energy: the same standard deviation as the source
    assert abs(noisy.std() / weight.std() - 1) < 0.03
    shrink = [operator("bot", 2 * n, n, **options) for n in (64, 48)]
    np.testing.assert_allclose(shrink[0] @ noisy @ shrink[1].T, weight, atol=1e-5)
    assert abs((noisy - plain).std() / weight.std() - np.sqrt(0.75)) < 0.03
    bounded = np.abs(noisy - plain).max() / weight.std() < 6
    assert bounded


def test_noise_is_keyed_by_seed_stack_and_target_layer() -> None:
    layers = RNG.standard_normal((2, 4, 4))
    work = task("matrix", (leaf(4, 8), leaf(4, 8)), ("out", "in"), layers=(2, 4), residual="pre-norm")
    options = {"details": "gaussian", "layer_axis": "interleave"}
    whole = run(work, layers, **options)
    again = run(work, layers, **options)
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))
    assert not np.array_equal(whole[0], whole[1])  # twins of one source layer differ
    assert not np.array_equal(whole[0], run(work, layers, seed=1, **options)[0])
    other = StackTask("s1", *[getattr(work, key) for key in ("name", "kind", "axes", "directions", "layers")])
    assert not np.array_equal(whole[0], run(other, layers, **options)[0])
    single = task("matrix", work.axes, work.directions)  # layer 0 alone: its stream is the same
    np.testing.assert_array_equal(run(single, layers[:1], **options)[0], whole[0])


CASES = [
    task("matrix", (leaf(12, 6), leaf(16, 8)), ("out", "in"), layers=(4, 2)),
    task("matrix", (leaf(12, 24), leaf(16, 20)), ("out", "in"), layers=(4, 8), residual="pre-norm"),
    task("matrix", (leaf(12, 7), leaf(16, 24)), ("out", "in"), layers=(4, 4), writes_residual=True),
    task(
        "bias",
        (Axis("concat", 24, 12, parts=(Axis("product", 12, 6, parts=(leaf(4, 2), leaf(3, 3))), leaf(12, 6))),),
        ("out",),
        layers=(4, 2),
    ),
    task("embedding", (leaf(10, 12, "vocab"), leaf(8, 16)), ("index", "out")),
]


@pytest.mark.parametrize("work", CASES)
@pytest.mark.parametrize("wavelet", ["haar", "bior2.2"])
@pytest.mark.parametrize("layer_axis", ["auto", "wavelet"])
@pytest.mark.parametrize("details", ["zero", "uniform"])
def test_strict_namespace_gives_the_same(work: StackTask, wavelet: str, layer_axis: str, details: str) -> None:
    layers = RNG.standard_normal((work.layers[0], *work.source_shape)).astype(np.float32)
    options = {"wavelet": wavelet, "layer_axis": layer_axis, "details": details}
    reference = run(work, layers, **options)
    again = run(work, layers, **options)
    compat = run(work, layers, xp=array_api_compat.numpy, **options)
    strict = run(work, [array_api_strict.asarray(layer) for layer in layers], xp=array_api_strict, **options)
    assert len(reference) == len(strict) == work.layers[1]
    for a, b, c, d in zip(reference, again, compat, strict, strict=True):
        assert a.shape == tuple(d.shape) == work.target_shape
        assert a.dtype == np.float32
        assert d.dtype == array_api_strict.float32
        assert a.tobytes() == b.tobytes() == c.tobytes()
        np.testing.assert_allclose(np.asarray(d), a, atol=1e-5)
    exact = run(work, layers.astype(np.float64), **options)
    for a, e in zip(reference, exact, strict=True):
        assert e.dtype == np.float64
        if details == "zero":
            np.testing.assert_allclose(a, e, atol=1e-5 * max(1.0, np.abs(e).max()))


def test_narrow_floats_are_widened_and_integers_refused() -> None:
    work = task("bias", (leaf(4, 2),), ("out",))
    values = np.array([1, 2, 3, 4])
    for dtype in (np.float16, ml_dtypes.bfloat16):
        (got,) = run(work, [values.astype(dtype)], convention="value")
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, [1.5, 3.5])
    with pytest.raises(ResampleError, match=r"stack s0 \(w\), layer 0: its values are int64"):
        run(work, [values])
    np.testing.assert_array_equal(run(task("other", (leaf(4, 4),), ("none",)), [values])[0], values)


class _Counted:
    """Source layers that are made when read; ``alive`` says how many are held."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self.reads: list[int] = []
        self.refs: list[weakref.ref[np.ndarray]] = []
        self.readers = [lambda layer=layer: self._read(layer, shape) for layer in range(count)]

    def _read(self, layer: int, shape: tuple[int, ...]) -> np.ndarray:
        self.reads.append(layer)
        array = np.full(shape, float(layer), np.float32)
        self.refs.append(weakref.ref(array))
        return array

    def alive(self) -> int:
        return sum(ref() is not None for ref in self.refs)  # no cycles: let go is gone


@pytest.mark.thorough
@pytest.mark.spread
@pytest.mark.parametrize(("layers", "mode"), [((8, 8), "auto"), ((8, 4), "even"), ((4, 8), "stack"), ((8, 4), "haar")])
@pytest.mark.parametrize("details", ["zero", "gaussian"])
def test_layers_are_read_late_and_let_go(layers: tuple[int, int], mode: str, details: str) -> None:
    source = _Counted(layers[0], (8, 8))
    work = task("matrix", (leaf(8, 16), leaf(8, 4)), ("out", "in"), layers=layers)
    options = make_options("bot", layer_axis=mode, details=details)
    stream: Iterator[Any] = get_method("bot").resample(work, source.readers, options, xp=np, seed=0)
    assert source.reads == []
    for k, _ in enumerate(stream):
        assert len(source.reads) <= (k + 1) * (2 if mode == "haar" else 1)
        assert source.alive() <= 2
    assert source.alive() == 0


def test_refusals_name_the_place() -> None:
    with pytest.raises(ResampleError, match=r"axis 0.*'count' never changes size"):
        run(task("matrix", (leaf(3, 6, "count"), leaf(4, 4)), ("out", "in")), [np.ones((3, 4))])
    with pytest.raises(ResampleError, match="product of the parts"):
        run(task("bias", (Axis("product", 7, 7, parts=(leaf(2, 2), leaf(3, 3))),), ("out",)), [np.ones(7)])
    with pytest.raises(ResampleError, match=r"shape \(5,\) where the plan says \(4,\)"):
        run(task("bias", (leaf(4, 2),), ("out",)), [np.ones(5)])
    with pytest.raises(ResampleError, match="2 source tensors for 1 layers"):
        run(task("bias", (leaf(4, 2),), ("out",)), [np.ones(4), np.ones(4)])


def test_tie_factor_applies_to_the_last_layer_only() -> None:
    work = task("norm_scale", (leaf(4, 8, "hidden"),), ("out",), layers=(3, 3), before_tied_head=True)
    assert [float(out[0]) for out in run(work, np.ones((3, 4)))] == [1.0, 1.0, 0.5]


def test_scalars_pass() -> None:
    (got,) = run(task("scale", (), ()), [np.array(2.5, np.float32)])
    assert got.shape == ()
    assert got == np.float32(2.5)
