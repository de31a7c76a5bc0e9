"""The engines behind a leaf operator: the CPU's tiles and threads against the array-namespace path and the matrix."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import array_api_strict
import numpy as np
import pytest
import pywt
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bot_onnx._resample import banded
from bot_onnx._resample.banded import MIDDLE_ROWS, MOST_WORK, Piece, block_rows, pieces_of
from bot_onnx._resample.boundary import BoundaryMode
from bot_onnx._resample.filters import Form
from bot_onnx._resample.operators import Filters, LeafOperator
from bot_onnx._resample.parallel import share, thread_count
from bot_onnx._resample.width import WidthTransform
from bot_onnx._stack.types import Axis, StackTask

FORMS: tuple[Form, ...] = ("unit", "sqrt", "dual")
MODES: tuple[BoundaryMode, ...] = ("periodization", "symmetric", "zero", "reflect", "smooth")


def rebuilt(pieces: tuple[Piece, ...], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The matrix that pieces stand for; every row is written once."""
    matrix = np.full(shape, np.nan)
    for piece in pieces:
        rows, taps = piece.weights.shape
        for block in range(piece.blocks):
            first, column = piece.first + block * rows, piece.column + block * piece.step
            columns = np.arange(column, column + taps) if piece.gathered is None else piece.gathered
            assert np.isnan(matrix[first : first + rows]).all()
            matrix[first : first + rows] = 0.0
            matrix[first : first + rows, columns] = piece.weights
    return matrix


def generic(leaf: LeafOperator, x: NDArray[Any]) -> NDArray[Any]:
    """The array-namespace path, which NumPy arrays do not take."""
    return np.asarray(leaf.apply(array_api_strict.asarray(np.ascontiguousarray(x)), array_api_strict))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "coif3", "bior6.8", "rbio3.1", "dmey"])
@pytest.mark.parametrize(("source", "target"), [(768, 384), (384, 768), (500, 250), (601, 301), (512, 128), (128, 512)])
def test_pieces_are_the_matrix(wavelet: str, source: int, target: int, last: bool) -> None:
    for form in FORMS:
        matrix = LeafOperator(wavelet, source, target, form).matrix
        pieces = pieces_of(matrix, block_rows(source, target, last=last), "float64")
        if pieces is None:  # odd sizes do not repeat; dmey's 62 taps fill a good part of the shorter axes
            assert source == 601 or (wavelet == "dmey" and max(source, target) <= 512)
            continue
        np.testing.assert_allclose(rebuilt(pieces, matrix.shape), matrix, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", MODES)
def test_every_boundary_mode_has_one_long_piece(mode: BoundaryMode) -> None:
    matrix = LeafOperator("coif3", 768, 384, "sqrt", mode).matrix
    pieces = pieces_of(matrix, 8, "float64")
    assert pieces is not None
    np.testing.assert_allclose(rebuilt(pieces, matrix.shape), matrix, rtol=0, atol=1e-13)
    inner = pieces[0]
    assert inner.blocks * len(inner.weights) >= 384 - 4 * 8
    assert inner.weights.shape == (8, 2 * 8 + 18 - 2)


def test_dense_operators_have_no_pieces_and_small_ones_a_single_one() -> None:
    assert pieces_of(LeafOperator("haar", 768, 512, "unit").matrix, 8, "float32") is None
    assert pieces_of(np.zeros((128, 256)), 8, "float32") is None
    (whole,) = pieces_of(LeafOperator("coif3", 12, 6, "unit").matrix, 8, "float32") or ()
    assert whole.weights.shape == (6, 12)
    assert whole.weights.dtype == np.float32


@settings(deadline=None, max_examples=150)
@given(
    wavelet=st.sampled_from(["haar", "db2", "db4", "coif3", "bior6.8", "rbio3.3", "dmey", "dct"]),
    sizes=st.sampled_from([(12, 6), (6, 12), (96, 48), (301, 151), (160, 320), (128, 32), (64, 256), (96, 64)]),
    form=st.sampled_from(FORMS),
    mode=st.sampled_from(MODES),
    pre=st.integers(1, 70),
    post=st.sampled_from([1, 2, 9, 17, 100]),
    layout=st.sampled_from(["plain", "sliced", "turned", "read-only"]),
)
def test_numpy_and_array_namespace_agree(
    wavelet: str,
    sizes: tuple[int, int],
    form: Form,
    mode: BoundaryMode,
    pre: int,
    post: int,
    layout: Literal["plain", "sliced", "turned", "read-only"],
) -> None:
    rng = np.random.default_rng(pre * post)
    leaf = LeafOperator(wavelet, *sizes, form, mode)
    shape = (pre, sizes[0], post)
    x = rng.standard_normal(shape)
    if layout == "sliced":
        x = rng.standard_normal((2 * pre, sizes[0] + 3, post + 1))[::2, 2:-1, :-1]
    elif layout == "turned":
        x = rng.standard_normal(shape[::-1]).T
    elif layout == "read-only":
        x.flags.writeable = False
    before = x.copy()
    ours, reference = leaf.apply(x, np), generic(leaf, x)
    assert ours.shape == (pre, sizes[1], post)
    np.testing.assert_array_equal(x, before)
    if leaf.is_haar:
        np.testing.assert_array_equal(ours, reference)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-11 * max(1.0, np.abs(reference).max()))


@pytest.mark.parametrize(
    ("shape", "target"),
    [((1, 12, 40_000), 6), ((1, 600, 3_001), 300), ((701, 600, 1), 300), ((3, 300, 2_100), 600), ((701, 300, 1), 600)],
)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior6.8"])
def test_large_arrays_in_many_tiles(wavelet: str, shape: tuple[int, int, int], target: int) -> None:
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    leaf = LeafOperator(wavelet, shape[1], target, "sqrt")
    ours = leaf.apply(x, np)
    assert ours.dtype == np.float32
    pre, _, post = shape
    # One sum in float64 per index of the other axes that begins, ends or lies beside a tile.
    here = np.ix_(sorted({0, pre // 2, pre - 1}), range(shape[1]), sorted({0, 2047 % post, 2048 % post, post - 1}))
    exact = np.einsum("ts,psq->ptq", leaf.matrix, x[here].astype(np.float64))
    np.testing.assert_allclose(ours[here[0], np.arange(target)[None, :, None], here[2]], exact, atol=1e-5)
    np.testing.assert_allclose(ours, generic(leaf, x), atol=2e-5)


@pytest.mark.parametrize("wavelet", ["haar", "coif3"])
def test_bits_do_not_depend_on_the_number_of_threads(wavelet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).standard_normal((40, 256, 130), dtype=np.float32)
    results = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        for target in (128, 512):
            leaf = LeafOperator(wavelet, 256, target, "sqrt")
            results.append((leaf.apply(x, np).tobytes(), leaf.apply(x.reshape(-1, 256, 1), np).tobytes()))
    assert results[:2] == results[2:4] == results[4:]


@pytest.mark.parametrize("post", [16, 100, 511, 2_047, 2_048, 5_000, 100_003])
@pytest.mark.parametrize("sizes", [(12, 6), (768, 384), (384, 768), (1024, 128)])
def test_products_are_small_enough_for_one_thread_of_blas(sizes: tuple[int, int], post: int) -> None:
    matrix = LeafOperator("bior6.8", *sizes, "unit").matrix
    for piece in pieces_of(matrix, MIDDLE_ROWS, "float32") or ():
        width = banded._width(post, MOST_WORK // piece.weights.size)
        assert 1 <= width <= post
        assert width * piece.weights.size <= MOST_WORK


@pytest.mark.parametrize("wavelet", ["haar", "db2", "coif3", "bior6.8"])
def test_a_stack_along_three_axes_is_dwtn_and_idwtn(wavelet: str) -> None:
    """What ``benchmarks/resample.py`` times."""
    stack = np.random.default_rng(2).standard_normal((12, 96, 160), dtype=np.float32)
    down, up = (
        WidthTransform(
            StackTask("s", "w", "matrix", tuple(Axis("leaf", n, m) for n, m in sizes), ("out", "out", "in")),
            Filters(wavelet, wavelet),
            "ortho",
        )
        for sizes in ([(12, 6), (96, 48), (160, 80)], [(12, 24), (96, 192), (160, 320)])
    )
    low = pywt.dwtn(stack, wavelet, mode="periodization")["aaa"]
    np.testing.assert_allclose(down.apply(stack, np), low, rtol=0, atol=1e-5)
    grown = pywt.idwtn({"aaa": stack}, wavelet, mode="periodization")
    np.testing.assert_allclose(up.apply(stack, np), grown, rtol=0, atol=1e-5)


def test_share_gives_every_tile_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    seen: list[tuple[int, str]] = []
    together = threading.Barrier(3, timeout=30)

    def work(tile: int) -> None:
        if tile < 3:
            together.wait()  # passes only if three threads are at work
        seen.append((tile, threading.current_thread().name))

    share(work, list(range(100)))
    assert sorted(tile for tile, _ in seen) == list(range(100))
    assert len({name for _, name in seen}) == 3
    share(work, [])
    assert len(seen) == 100


@pytest.mark.parametrize("threads", ["1", "4"])
def test_share_passes_errors_on_and_can_go_on(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)

    def refuse(tile: int) -> None:
        raise ValueError(f"tile {tile}")

    with pytest.raises(ValueError, match="tile"):
        share(refuse, [1, 2, 3])
    done: list[int] = []
    share(done.append, [1, 2, 3])
    assert sorted(done) == [1, 2, 3]


@pytest.mark.parametrize(("value", "expected"), [("3", 3), (" 2 ", 2), ("1000", 16)])
def test_threads_follow_the_environment(value: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert thread_count() == expected


@pytest.mark.parametrize("value", ["", "0", "-2", "many", "4,2"])
def test_other_settings_mean_the_usable_processors(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    usable = thread_count()
    assert usable >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert thread_count() == usable


FORKED = """
import os, numpy as np
from bot_onnx._resample.operators import LeafOperator
x = np.ones((64, 256, 64), np.float32)
leaf = LeafOperator("db2", 256, 128, "unit")
first = leaf.apply(x, np)
child = os.fork()
if not child:
    os._exit(0 if (leaf.apply(x, np) == first).all() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_has_threads_of_its_own() -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    environment = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    subprocess.run(command, cwd=root, env=environment, check=True, timeout=60)
