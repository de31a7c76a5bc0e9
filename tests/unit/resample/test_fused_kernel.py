"""The kernel for CUDA devices without one: compiled for the host it equals the CPU's path, and NVRTC compiles it."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt

from bot_onnx._resample import operators, width
from bot_onnx._resample.bands import Band, band_of, neighbours_band
from bot_onnx._resample.boundary import BoundaryMode
from bot_onnx._resample.filters import Form
from bot_onnx._resample.fused import SOURCE, Build, along_axis, separable
from bot_onnx._resample.operators import Filters, LeafOperator
from bot_onnx._resample.tiles import COLS, ROWS
from bot_onnx._resample.width import WidthTransform
from bot_onnx._stack.types import Axis, StackTask
from tests.host_kernel import HostEngine, compiler

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler: g++, clang++ or the package ziglang")

WAVELETS = pywt.wavelist(kind="discrete")
MODES: tuple[BoundaryMode, ...] = (
    "zero", "constant", "symmetric", "periodic", "smooth", "periodization", "reflect", "antisymmetric", "antireflect",
)  # fmt: skip
#: (rows, columns) of source and target: even, odd and mixed, halves and quarters, one axis that grows and one that does
#: not, sizes of less than a tile and of more.
SIZES = {
    "halves": ((136, 260), (68, 130)),
    "odd-halves": ((101, 259), (51, 130)),
    "doubles": ((68, 130), (136, 260)),
    "odd-doubles": ((51, 129), (102, 258)),
    "quarters": ((104, 136), (26, 34)),
    "both-ways": ((96, 70), (48, 140)),
}


def random(*shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def difference(ours: Any, theirs: Any) -> float:
    """Largest one, of numbers about 1."""
    assert ours is not None and ours.shape == theirs.shape and ours.dtype == theirs.dtype
    return float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(theirs).max()))


def on_cpu(x: Any, rows: LeafOperator | None, columns: LeafOperator | None) -> Any:
    """What the CPU's path makes of ``[outer, n, inner, m]``."""
    outer, n, inner, m = x.shape
    if rows is not None:
        x = rows.apply(np.ascontiguousarray(x).reshape(outer, n, inner * m), np)
        n = rows.target
    if columns is not None:
        x = columns.apply(np.ascontiguousarray(x).reshape(outer * n * inner, m, 1), np)
        m = columns.target
    return x.reshape(outer, n, inner, m)


def both(
    wavelet: str,
    source: tuple[int, int],
    target: tuple[int, int],
    form: Form = "unit",
    mode: BoundaryMode = "periodization",
) -> tuple[LeafOperator, LeafOperator]:
    first, second = (LeafOperator(wavelet, s, t, form, mode) for s, t in zip(source, target, strict=True))
    return first, second


def dense(band: Band) -> Any:
    """The matrix that a band stands for."""
    matrix = np.zeros((band.target + band.group, band.source))
    for index, (start, block) in enumerate(zip(band.starts, band.blocks, strict=True)):
        columns = (start + np.arange(band.taps)) % band.source
        matrix[index * band.group : (index + 1) * band.group, columns] += band.weights[block].T
    assert not matrix[band.target :].any()
    return matrix[: band.target]


@pytest.mark.spread
@pytest.mark.parametrize("group", [ROWS, COLS])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior6.8", "sym20", "dmey"])
@pytest.mark.parametrize(("source", "target"), [(256, 128), (128, 256), (255, 128), (12, 6), (5, 10), (256, 32)])
def test_tables_are_the_matrix(wavelet: str, source: int, target: int, group: int) -> None:
    for mode in MODES:
        matrix = LeafOperator(wavelet, source, target, "unit", mode).matrix
        band = band_of(matrix, group, "float64", 0.5)
        if band is None:  # dmey and sym20 over three levels fill a short axis
            assert wavelet in ("dmey", "sym20", "bior6.8") and source == 256 and target == 32
        else:
            np.testing.assert_array_equal(dense(band), 0.5 * matrix)


@pytest.mark.parametrize(("source", "target"), [(256, 128), (64, 256), (7, 7), (3, 6), (8, 1), (1, 8)])
def test_tables_of_haar_need_no_matrix(source: int, target: int) -> None:
    matrix = LeafOperator("haar", source, target, "unit").matrix if source != target else np.eye(source)
    gain = float(matrix.max())
    for group in (ROWS, COLS):
        band = neighbours_band(source, target, group, "float64", gain)
        assert band is not None
        np.testing.assert_allclose(dense(band), matrix, atol=1e-15)


def test_weights_of_the_middle_are_kept_once() -> None:
    band = band_of(LeafOperator("bior6.8", 4096, 2048, "unit").matrix, COLS, "float32")
    assert band is not None and len(band.starts) == 1024 and len(band.weights) < 16


@pytest.mark.spread
@needs_compiler
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("family", ["haar", "db", "sym", "coif", "bior", "rbio", "dmey"])
def test_equals_the_cpu_with_every_wavelet(family: str, sizes: str) -> None:
    for wavelet in (name for name in WAVELETS if re.sub(r"[\d.]", "", name) == family):
        rows, columns = both(wavelet, *SIZES[sizes])
        x = random(2, rows.source, 1, columns.source)
        ours, theirs = separable(x, rows, columns, HostEngine()), on_cpu(x, rows, columns)
        if ours is None:  # the run of a group is longer than MOST_TAPS
            assert len(pywt.Wavelet(wavelet).dec_lo) > 36 and sizes == "quarters"
            continue
        assert difference(ours, theirs) < 1e-6, wavelet


@pytest.mark.spread
@needs_compiler
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_equals_the_cpu_in_every_boundary_mode(mode: BoundaryMode, sizes: str) -> None:
    for wavelet in ("haar", "db2", "coif3", "bior6.8"):
        rows, columns = both(wavelet, *SIZES[sizes], mode=mode)
        x = random(1, rows.source, 1, columns.source)
        assert difference(separable(x, rows, columns, HostEngine()), on_cpu(x, rows, columns)) < 1e-6


@needs_compiler
@pytest.mark.parametrize("form", ["unit", "sqrt", "dual"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_equals_the_cpu_in_every_form_and_type(dtype: str, form: Form) -> None:
    for sizes in SIZES.values():
        for wavelet in ("haar", "bior4.4"):
            rows, columns = both(wavelet, *sizes, form=form)
            x = random(2, rows.source, 3, columns.source, dtype=dtype)
            wide = x if dtype == "float64" else x.astype("float32")
            tolerance = 1e-14 if dtype == "float64" else 1e-6
            assert (
                difference(separable(x, rows, columns, HostEngine(), 1.5), 1.5 * on_cpu(wide, rows, columns))
                < tolerance
            )


@needs_compiler
@pytest.mark.parametrize(
    ("wavelet", "sizes"), [("haar", "halves"), ("bior6.8", "odd-halves"), ("sym20", "doubles"), ("db20", "both-ways")]
)
def test_equals_the_cpu_compiled_as_on_a_device(wavelet: str, sizes: str) -> None:
    rows, columns = both(wavelet, *SIZES[sizes])
    x = random(2, rows.source, 1, columns.source)
    assert difference(separable(x, rows, columns, HostEngine(exact=True)), on_cpu(x, rows, columns)) < 1e-6


@needs_compiler
@pytest.mark.thorough
@pytest.mark.parametrize("wavelet", ["haar", "db2", "db9", "sym13", "coif3", "bior6.8", "rbio3.1", "dmey"])
def test_equals_the_cpu_at_small_and_uneven_sizes(wavelet: str) -> None:
    for n, m in [(2, 4), (3, 5), (7, 12), (33, 66), (77, 99)]:
        for mode in ("periodization", "symmetric", "antireflect"):
            shrinking = both(wavelet, (n, m), (-(-n // 2), -(-m // 2)), mode=mode)
            growing = both(wavelet, (n, m), (2 * n, 2 * m), "dual" if wavelet == "haar" else "unit", mode)
            for rows, columns in (shrinking, growing):
                x = random(1, n, 2, m)
                assert difference(separable(x, rows, columns, HostEngine()), on_cpu(x, rows, columns)) < 1e-6


@needs_compiler
def test_one_axis_alone() -> None:
    operator = LeafOperator("db3", 96, 48, "unit")
    for pre, post in ((3, 64), (200, 1), (1, 1), (7, 33)):
        x = random(pre, 96, post)
        assert difference(along_axis(operator, x, HostEngine()), operator.apply(x, np)) < 1e-6
    assert along_axis(operator, random(3, 96, 9), HostEngine()) is None


@needs_compiler
def test_rows_of_a_part_need_not_be_copied() -> None:
    operator = LeafOperator("db3", 96, 48, "unit")
    whole = random(2, 3 * 96, 64)
    part = whole[:, 96:192, :]
    assert difference(along_axis(operator, part, HostEngine()), operator.apply(np.ascontiguousarray(part), np)) < 1e-6


@needs_compiler
def test_columns_that_lie_askew_are_read_one_by_one() -> None:
    rows, columns = both("db2", (64, 64), (32, 32))
    shifted = random(1, 64, 1, 68)[:, :, :, 1:65]
    engine = HostEngine()
    assert difference(separable(shifted, rows, columns, engine), on_cpu(shifted, rows, columns)) < 1e-6
    assert engine.launched[0].vector == 1


@needs_compiler
def test_many_matrices_take_several_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot_onnx._resample.fused.MOST_BLOCKS", 5)
    rows, columns = both("haar", (8, 8), (4, 4))
    x, engine = random(7, 8, 2, 8), HostEngine()
    assert difference(separable(x, rows, columns, engine), on_cpu(x, rows, columns)) < 1e-6
    assert len(engine.launched) == 4


def test_dense_operators_are_left_to_products() -> None:
    wide = LeafOperator("dct", 768, 500, "unit")
    assert separable(random(1, 768, 1, 768), wide, None, HostEngine()) is None
    assert separable(random(1, 768, 1, 768), None, wide, HostEngine()) is None


HEADS = Axis("product", 768, 384, parts=(Axis("leaf", 12, 6), Axis("leaf", 64, 64)))
PLAIN = Axis("leaf", 768, 384)
QKV = Axis("concat", 2304, 1152, parts=(HEADS, HEADS, HEADS))
#: Axes, and how often the kernel starts: once where both are plain leaves.
TASKS = {
    "plain": ((PLAIN, Axis("leaf", 640, 320)), 1),
    "growing": ((Axis("leaf", 384, 768), Axis("leaf", 320, 640)), 1),
    "one axis": ((PLAIN, Axis("leaf", 640, 640)), 1),
    "bias": ((PLAIN,), 1),
    "heads": ((HEADS, PLAIN), 2),
    "queries, keys, values": ((PLAIN, QKV), 2),
    "kernel": ((PLAIN, Axis("leaf", 64, 32), Axis("leaf", 3, 3), Axis("leaf", 3, 3)), 1),
    "between": ((Axis("leaf", 64, 32), Axis("leaf", 3, 3), Axis("leaf", 128, 64)), 1),
    "scores": ((replace(PLAIN, score=True, head_dim=(64, 32)), PLAIN), 1),
    "vocabulary": ((replace(PLAIN, role="vocab"), PLAIN), 1),
}


@pytest.mark.spread
@needs_compiler
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("convention", [None, "value"])
def test_a_task_on_the_device_is_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, wavelet: str, convention: Any
) -> None:
    axes, launches = TASKS[name]
    task = StackTask("stack", "name", "matrix", axes, ("out", *("in" for _ in axes[1:])))
    transform = WidthTransform(task, Filters(wavelet, wavelet), convention)
    x = random(*task.source_shape)
    reference = transform.apply(x, np)
    engine = HostEngine()
    for module in (operators, width):
        monkeypatch.setattr(module, "engine_of", lambda _: engine)
    assert difference(transform.apply(x, np), reference) < 1e-6
    assert len(engine.launched) >= launches


def nvrtc() -> Any:
    """NVIDIA's compiler at run time, from its wheel."""
    spec = importlib.util.find_spec("nvidia.cuda_nvrtc") if importlib.util.find_spec("nvidia") else None
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package nvidia-cuda-nvrtc-cu12 is not installed: there is none for this system")
    return ctypes.CDLL(str(next(Path(spec.submodule_search_locations[0], "lib").glob("libnvrtc.so.*"))))


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    "build",
    [
        Build("float32", 4, True, 8, 4, 32),
        Build("float16", 4, True, 23, 19, 16),
        Build("float32", 1, False, 128, 128, 16),
        Build("float64", 2, True, 24, 24, 16),
    ],
    ids=["haar", "bior6.8 of halves", "longest", "doubles"],
)
def test_nvrtc_compiles_it_and_nothing_spills(build: Build, architecture: str) -> None:
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    assert library.nvrtcCreateProgram(ctypes.byref(program), SOURCE.encode(), b"separable.cu", 0, None, None) == 0
    given = [f"--gpu-architecture={architecture}", "--std=c++17", "--ptxas-options=-v", *build.definitions()]
    failed = library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*map(str.encode, given)))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    text = log.value.decode()
    assert not failed, text
    assert library.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0 and size.value > 1000
    library.nvrtcDestroyProgram(ctypes.byref(program))
    assert "0 bytes spill stores" in text
    # Of 65536 registers three blocks of 256 threads have 80 each, two have 128.
    assert int(re.findall(r"Used (\d+) registers", text)[0]) <= (128 if build.work == "float64" else 80)
