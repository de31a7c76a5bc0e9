"""ALiBi's slopes: by definition, recognised in every form they are stored in, computed anew at another number."""

from __future__ import annotations

import numpy as np
import pytest

from bot_onnx._patterns.alibi import compute_slopes, recognise_slopes, slopes
from bot_onnx._patterns.closed_forms import compute


def test_powers_of_two_are_one_geometric_series() -> None:
    assert slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert slopes(2).tolist() == [2.0**-4, 2.0**-8]


def test_other_numbers_go_on_with_every_second_of_the_next_series() -> None:
    assert slopes(3).tolist() == [2.0**-4, 2.0**-8, 2.0**-2]
    assert slopes(12).tolist() == [*slopes(8), *slopes(16)[::2][:4]]


@pytest.mark.parametrize("heads", [2, 3, 5, 8, 16, 24])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_recognised_and_recomputed(heads: int, dtype: type[np.generic]) -> None:
    for form, shape, target in (("alibi", (heads, 1, 1), (7, 1, 1)), ("alibi_distances", (heads, 1, 9), (7, 1, 5))):
        table = compute_slopes(form, shape).astype(dtype)
        assert recognise_slopes(table) == form
        assert np.array_equal(compute(form, target, np.dtype(dtype)), compute_slopes(form, target).astype(dtype))


def test_other_tables_are_not_taken_for_slopes() -> None:
    table = slopes(8).astype(np.float32)
    table[3] *= 1.01
    assert recognise_slopes(table) is None
    assert recognise_slopes(np.zeros((8, 8), np.float32)) is None
    assert recognise_slopes(np.arange(8, dtype=np.float32)) is None
