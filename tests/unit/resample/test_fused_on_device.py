"""The kernel, and the copies around it, on a CUDA device: ``pytest -m gpu``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bot_onnx._align.places import to_numpy
from bot_onnx._resample.cuda import engine_of
from bot_onnx._resample.devices import namespace
from bot_onnx._resample.fused import separable
from bot_onnx._resample.operators import Filters, LeafOperator
from bot_onnx._resample.transfers import fetched, link_to
from bot_onnx._resample.width import WidthTransform
from bot_onnx._stack.types import StackTask
from bot_onnx.errors import ResampleError
from tests.unit.resample.test_fused_kernel import SIZES, TASKS, both, difference, on_cpu, random

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda() -> Iterator[Any]:
    try:
        yield namespace("cuda")
    except ResampleError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym8", "coif3", "bior6.8", "rbio3.1", "dmey", "db20"])
def test_equals_the_cpu(cuda: Any, wavelet: str, sizes: str) -> None:
    rows, columns = both(wavelet, *SIZES[sizes])
    for dtype in ("float16", "float32", "float64"):
        x = random(2, rows.source, 3, columns.source, dtype=dtype)
        placed = cuda.asarray(x)
        engine = engine_of(placed)
        assert engine is not None
        ours = separable(placed, rows, columns, engine)
        if ours is None:
            assert sizes == "quarters"
            continue
        wide = x.astype("float32") if dtype == "float16" else x
        assert difference(to_numpy(ours), on_cpu(wide, rows, columns)) < 1e-6


@pytest.mark.parametrize("wavelet", ["haar", "db2", "dct"])
@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_the_same(cuda: Any, name: str, wavelet: str) -> None:
    axes, _ = TASKS[name]
    task = StackTask("stack", "name", "matrix", axes, ("out", *("in" for _ in axes[1:])))
    transform = WidthTransform(task, Filters(wavelet, wavelet))
    x = random(*task.source_shape)
    assert difference(to_numpy(transform.apply(cuda.asarray(x), cuda)), transform.apply(x, np)) < 1e-5


def test_layers_come_and_go(cuda: Any) -> None:
    operator = LeafOperator("db2", 1024, 512, "unit")
    layers = [random(1, 1024, 1024) + k for k in range(7)]

    def worked() -> Iterator[Any]:
        sent = None
        for k, layer in enumerate(layers):
            link = link_to(cuda, layer)
            assert link is not None
            here = sent if sent is not None else link.send(layer)
            sent = link.send(layers[k + 1]) if k + 1 < len(layers) else None
            yield operator.apply(link.receive(here), cuda)

    for layer, back in zip(layers, fetched(worked()), strict=True):
        assert difference(back, operator.apply(layer, np)) < 1e-6
