"""The basis that centred networks are turned by."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx.align.basis import Basis, centred_basis


@pytest.mark.parametrize("size", [2, 3, 8, 63])
def test_columns_are_orthonormal_and_sum_to_zero(size: int) -> None:
    basis = centred_basis(size)
    np.testing.assert_allclose(basis.T @ basis, np.eye(size - 1), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-12)


def test_the_scale_gives_back_what_the_smaller_stream_lacks() -> None:
    turn = np.eye(8)[:2]
    assert Basis(turn, 1.0, False).scale == pytest.approx(2.0)
    assert Basis(turn, 0.25, False).scale == pytest.approx(1.0)
