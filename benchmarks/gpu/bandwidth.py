"""Bandwidth of the resampling of a stack on a CUDA device, beside that of a copy from the device to itself.

python -m benchmarks.gpu.bandwidth --json bandwidth.json
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.gpu.rows import add_row
from bot_onnx._align.places import to_numpy
from bot_onnx._resample.devices import namespace
from bot_onnx._resample.operators import Filters
from bot_onnx._resample.transfers import fetched, link_to
from bot_onnx._resample.width import WidthTransform
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError

WAVELETS = ("haar", "db2", "bior6.8")
#: The larger side of both directions.
STACK = (24, 4096, 11008)
#: Runs that are timed, and those before; largest difference from the CPU's path, on standard normal values.
RUNS, WARM, TOLERANCE = 10, 3, 1e-5


def transform(layers: int, rows: int, columns: int, wavelet: str, direction: str) -> WidthTransform:
    """Halving or doubling rows and columns of a stack that lies in one array; ``rows`` and ``columns`` the larger."""
    sizes = [(rows, rows // 2), (columns, columns // 2)]
    axes = [Axis("leaf", *(pair if direction == "shrink" else pair[::-1])) for pair in sizes]
    task = StackTask("stack", "benchmark", "matrix", (Axis("leaf", layers, layers), *axes), ("out", "out", "in"))
    return WidthTransform(task, Filters(wavelet, wavelet), "ortho")


def seconds(cupy: Any, work: Callable[[], object]) -> float:
    """Median time of a call, by the device's own clock."""
    for _ in range(WARM):
        work()
    times = []
    for _ in range(RUNS):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return statistics.median(times)


def measure_on_device(cupy: Any, xp: Any, stack: tuple[int, int, int], path: Path) -> None:
    """A row for every wavelet, direction and type of the source, and the copy they are held against."""
    layers, rows, columns = stack
    large = cupy.random.default_rng(0).standard_normal(stack, dtype=cupy.float32)
    target = cupy.empty_like(large)
    copied = 2 * large.nbytes / seconds(cupy, lambda to=target: cupy.copyto(to, large))
    del target
    add_row(path, {"what": "copy, device to device", "stack": stack, "GB/s": copied / 1e9, "ratio": 1.0})
    for wavelet in WAVELETS:
        for direction in ("shrink", "grow"):
            x = large if direction == "shrink" else cupy.ascontiguousarray(large[:, : rows // 2, : columns // 2])
            for dtype in ("float32", "float16"):
                given = x.astype(dtype, copy=False)
                work = transform(layers, rows, columns, wavelet, direction)
                made = work.apply(given, xp)
                first = to_numpy(given[0]).astype(np.float32)[None]
                reference = transform(1, rows, columns, wavelet, direction).apply(first, np)[0]
                error = float(np.abs(to_numpy(made[0]) - reference).max())
                if not error <= TOLERANCE:
                    raise ArithmeticError(f"{wavelet} {direction} {dtype}: differs from the CPU by {error:.2g}")
                moved = given.nbytes + made.nbytes
                del made
                speed = moved / seconds(cupy, lambda work=work, given=given: work.apply(given, xp))
                what = f"{direction}, {wavelet}, {dtype}"
                add_row(path, {"what": what, "error": error, "GB/s": speed / 1e9, "ratio": speed / copied})


def measure_from_host(cupy: Any, xp: Any, stack: tuple[int, int, int], path: Path) -> None:
    """The same from pageable host memory and back, layer by layer, beside a copy there and back from pinned memory."""
    layers, rows, columns = stack
    source = [
        np.random.default_rng(k).standard_normal((rows, columns), dtype=np.float32) for k in range(min(layers, 4))
    ]
    pinned = importlib.import_module("cupyx").empty_pinned((rows, columns), dtype=np.float32)
    on_device = cupy.empty((rows, columns), dtype=cupy.float32)
    link = pinned.nbytes / seconds(cupy, lambda: on_device.set(pinned))
    add_row(path, {"what": "copy, pinned host to device", "GB/s": link / 1e9, "ratio": 1.0})

    for wavelet in WAVELETS:
        work = transform(1, rows, columns, wavelet, "shrink")

        def stream(work: WidthTransform = work) -> Any:
            way, sent = link_to(xp, source[0]), None
            assert way is not None
            for k in range(layers):
                here = sent if sent is not None else way.send(source[0])
                sent = way.send(source[(k + 1) % len(source)]) if k + 1 < layers else None
                yield work.apply(way.receive(here)[None], xp)

        def whole(stream: Callable[[], Any] = stream) -> None:
            for _ in fetched(stream()):
                pass

        moved = layers * source[0].nbytes
        speed = moved / seconds(cupy, whole)
        what = f"shrink, {wavelet}, float32, from the host and back"
        add_row(path, {"what": what, "GB/s": speed / 1e9, "ratio": speed / link})


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path), required=True, help="Rows are added to this file.")
@click.option("--layers", default=STACK[0], show_default=True)
def main(path: Path, layers: int) -> None:
    """Measure all of it."""
    try:
        xp = namespace("cuda")
    except ResampleError as error:
        raise SystemExit(f"bandwidth: {error}") from error
    cupy = importlib.import_module("cupy")
    path.unlink(missing_ok=True)
    free, _ = cupy.cuda.runtime.memGetInfo()
    stack = (max(1, min(layers, int(free * 0.8 / (3 * 4 * STACK[1] * STACK[2])))), *STACK[1:])
    measure_on_device(cupy, xp, stack, path)
    cupy.get_default_memory_pool().free_all_blocks()
    measure_from_host(cupy, xp, stack, path)


if __name__ == "__main__":
    main()
