"""Methods ``stack`` and ``interleave``: order of the layers, exact copies, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx.errors import ResampleError
from tests.method_runs import leaf, product, run, task

LAYERS = [np.full((2, 3), float(k), np.float32) for k in range(3)]


def picks(method: str, target: int) -> list[float]:
    work = task("matrix", (leaf(2, 2), leaf(3, 3)), ("out", "in"), layers=(3, target))
    out = run(method, work, LAYERS)
    assert all(one.shape == (2, 3) and one.dtype == np.float32 for one in out)
    return [float(one[0, 0]) for one in out]


def test_orders() -> None:
    assert picks("stack", 6) == [0, 1, 2, 0, 1, 2]
    assert picks("stack", 5) == [0, 1, 2, 0, 1]
    assert picks("interleave", 6) == [0, 0, 1, 1, 2, 2]
    assert picks("interleave", 4) == [0, 0, 1, 2]
    assert picks("stack", 3) == picks("interleave", 3) == [0, 1, 2]


@pytest.mark.parametrize("method", ["stack", "interleave"])
def test_width_and_fewer_layers_are_refused(method: str) -> None:
    pointer = f"method '{method}' changes the depth only; use 'bot --layer-axis {method}'"
    for axis in (leaf(4, 8, "hidden"), leaf(4, 2, "hidden")):
        with pytest.raises(ResampleError, match=pointer):
            run(method, task("bias", (axis,), ("out",), layers=(1, 2)), [np.ones(4)])
    same = product(leaf(2, 4, "heads"), leaf(4, 2, "head_dim"))  # 8 indices before and after
    with pytest.raises(ResampleError, match=r"axis 0 \(heads\) goes from 2 to 4"):
        run(method, task("bias", (same,), ("out",), layers=(1, 2)), [np.ones(8)])
    with pytest.raises(ResampleError, match=r"layers shrinks from 3 to 2, and method .* can only grow"):
        run(method, task("bias", (leaf(4, 4),), ("out",), layers=(3, 2)), [np.ones(4)] * 3)
