"""What an operator keeps is the projection onto its rows, however it is scaled."""

from __future__ import annotations

import numpy as np
import pytest

import bot_onnx
from bot_onnx._align.projection import Basis, Blocks, projection

CASES = [("bot", {}, Blocks), ("bot", {"wavelet": "db2"}, Basis), ("ws", {}, Blocks), ("front", {}, Basis)]


@pytest.mark.parametrize(("method", "options", "kind"), CASES)
@pytest.mark.parametrize("sizes", [(16, 8), (12, 5), (9, 3), (6, 1)])
def test_the_projection_is_what_least_squares_gives(
    method: str, options: dict[str, str], kind: type, sizes: tuple[int, int]
) -> None:
    operator = bot_onnx.operator(method, *sizes, **options)
    x = np.random.default_rng(0).standard_normal((sizes[0], 3, 2)).astype(np.float32)
    found = projection(operator)
    if sizes == (16, 8):
        assert isinstance(found, kind)
    wanted = np.linalg.pinv(operator) @ operator @ x.reshape(sizes[0], -1)
    np.testing.assert_allclose(found.project(x).reshape(wanted.shape), wanted, atol=2e-6)
    np.testing.assert_array_equal(projection(-3 * operator).project(x), found.project(x))
