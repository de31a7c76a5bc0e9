"""The basis that streams are turned by, and the channels that it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bot_onnx._align.basis import Basis, centred_basis, find_basis


@pytest.mark.parametrize("size", [2, 3, 8, 63])
def test_columns_are_orthonormal_and_sum_to_zero(size: int) -> None:
    basis = centred_basis(size)
    np.testing.assert_allclose(basis.T @ basis, np.eye(size - 1), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-12)


def test_the_scale_gives_back_what_the_smaller_stream_lacks() -> None:
    turn = np.eye(8)[:2]
    assert Basis(turn, turn, 1.0, False).scale == pytest.approx(2.0)
    assert Basis(turn, turn, 0.25, False).scale == pytest.approx(1.0)


def moments(size: int) -> NDArray[np.float64]:
    rows = np.random.default_rng(0).normal(size=(3 * size, size)) * np.linspace(0.2, 2, size)
    return rows.T @ rows


@pytest.mark.parametrize("pinned", [(), (0,), (2, 5, 11)])
@pytest.mark.parametrize("target", [6, 9, 12])
def test_what_is_read_is_what_was_written(pinned: tuple[int, ...], target: int) -> None:
    """R_inᵀ R is the identity at full size, a projection below it; the sum over channels survives, so do pins."""
    found = find_basis(moments(12), target, centred=True, keeps_mean=True, pinned=np.array(pinned, dtype=np.intp))
    through = found.read.T @ found.write
    np.testing.assert_allclose(through @ through, through, atol=1e-9)
    np.testing.assert_allclose(found.write.sum(axis=0), 1, atol=1e-9)
    np.testing.assert_allclose((found.write * found.read).sum(axis=1), 1, atol=1e-9)
    for row, channel in enumerate(pinned):
        np.testing.assert_array_equal(found.write[row], np.eye(12)[channel])
    if target == 12:
        np.testing.assert_allclose(through, np.eye(12), atol=1e-9)


@pytest.mark.parametrize("centred", [True, False])
def test_the_directions_of_the_most_energy_are_kept(centred: bool) -> None:
    """Of a stream that uses three directions, three channels (one more for the mean) keep all."""
    used = np.random.default_rng(1).normal(size=(3, 12))
    if centred:
        used -= used.mean(axis=1, keepdims=True)
    found = find_basis(used.T @ used, 4 if centred else 3, centred=centred)
    assert found.share == pytest.approx(1.0)
    np.testing.assert_allclose(used @ found.write.T @ found.read, used, atol=1e-9)
