"""ALiBi's slopes: by definition, recognised in every form they are stored in, computed anew at another number."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bot_onnx._patterns.alibi import _LAWS, compute_slopes, recognise_slopes, slopes
from bot_onnx._patterns.closed_forms import compute, recompute


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


def pairs(law: str, heads: int, *, hidden: float = 0.0) -> NDArray[np.float64]:
    """Slopes x distances ``[1, heads, query, key]``; what comes later is hidden by a number, if one is given."""
    at = np.arange(6)
    table = _LAWS[law](heads)[:, None, None] * (at[None] - at[:, None])
    return np.where((at[None] > at[:, None]) & (hidden != 0), hidden, table)[None]


@pytest.mark.parametrize("hidden", [0.0, -np.inf, -1e9])
@pytest.mark.parametrize(("heads", "new"), [(6, 12), (6, 3), (8, 4), (3, 2)])
@pytest.mark.parametrize("law", list(_LAWS))
def test_a_table_of_all_pairs_of_positions(law: str, heads: int, new: int, hidden: float) -> None:
    held = pairs(law, heads, hidden=hidden).astype(np.float32)
    form = recognise_slopes(held)
    assert form == f"slopes:{law if heads != 8 else 'press'}:1"
    made = recompute(form, (1, new, 6, 6), held.dtype, lambda: held)
    np.testing.assert_allclose(made, pairs(law, new, hidden=hidden), rtol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("law", "heads"), [("series", 6), ("series", 12)])
def test_slopes_of_another_law(law: str, heads: int, sign: int) -> None:
    held = (sign * _LAWS[law](heads)).reshape(-1, 1, 1).astype(np.float32)
    form = recognise_slopes(held)
    assert form == f"slopes:{law}:0"
    made = recompute(form, (9, 1, 1), held.dtype, lambda: held)
    np.testing.assert_allclose(made.ravel(), sign * _LAWS[law](9), rtol=1e-6)


def test_other_tables_of_pairs_are_none() -> None:
    rng = np.random.default_rng(0)
    assert recognise_slopes(rng.standard_normal((6, 5, 5)).astype(np.float32)) is None
    assert recognise_slopes(np.zeros((6, 5, 5), np.float32)) is None
    assert recognise_slopes(np.full((6, 5, 5), -np.inf, np.float32)) is None
    assert recognise_slopes((3 * _LAWS["series"](6)).astype(np.float32)) is None
    bent = pairs("series", 6)
    bent[0, 5, 3, 1] *= 1.01
    assert recognise_slopes(bent.astype(np.float32)) is None
