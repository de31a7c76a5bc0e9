"""Tables that follow from a formula: recomputed at another size, never resampled."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import inf, isclose, prod, sqrt

import numpy as np

from bot_onnx._patterns.alibi import SLOPES, compute_held_slopes, compute_slopes
from bot_onnx._patterns.frequencies import FREQUENCIES, compute_frequencies, recognise_frequencies
from bot_onnx._patterns.sinusoid_grids import SinusoidGrid
from bot_onnx._patterns.sinusoids import Sinusoids

Array = np.ndarray

#: Form of a table that is its own first rows over and over: ``repeated:<number of rows>``. They are read from it.
REPEATED = "repeated"

#: Form of a table that holds one number everywhere, which is read from it.
UNIFORM = "uniform"

#: Form of a table that averages: ``mean:<axes>``, 1/n throughout, of the n elements along these axes.
MEAN = "mean"

#: Scale factors as functions of the size n of a dim.
SCALES: dict[str, Callable[[float], float]] = {
    "1/sqrt(n)": lambda n: 1 / sqrt(n),
    "sqrt(n)": sqrt,
    "n**-0.25": lambda n: n**-0.25,
    "n**0.25": lambda n: n**0.25,
    "1/n": lambda n: 1 / n,
    "n": lambda n: n,
}


#: Factors of what is corrected for a mean that was taken off: functions of the size n, and of m, which is n - 1.
COUNTS: dict[str, Callable[[float, float], float]] = {
    "n-1": lambda n, m: m,
    "1/(n-1)": lambda n, m: 1 / m,
    "n/(n-1)": lambda n, m: n / m,
    "(n-1)/n": lambda n, m: m / n,
    "sqrt(n-1)": lambda n, m: sqrt(m),
    "1/sqrt(n-1)": lambda n, m: 1 / sqrt(m),
    "sqrt(n/(n-1))": lambda n, m: sqrt(n / m),
    "sqrt((n-1)/n)": lambda n, m: sqrt(m / n),
}


def factor_at(formula: str, size: float) -> float:
    """The number that a formula of :data:`SCALES` or :data:`COUNTS` gives at a size; infinite, over less than one."""
    if formula in SCALES:
        return SCALES[formula](size)
    return COUNTS[formula](size, size - 1) if size > 1 else inf


def as_copies(formula: str, small: int, large: int) -> float:
    """What brings a factor at a larger size to what keeps copies copies: there n - 1 grows as n does, and no faster.

    A standard deviation of numbers that are all there twice is not what it was, by a little; what it is made of is.

    Args:
        formula: of :data:`SCALES` or :data:`COUNTS`.
        small: the size of which the copies are.
        large: a multiple of it.
    """
    if formula in SCALES:
        return 1.0
    return COUNTS[formula](large, (small - 1) * large / small) / COUNTS[formula](large, large - 1)


def match_count(value: float, size: int) -> str:
    """Name of the formula of :data:`SCALES` or :data:`COUNTS` that gives ``value`` at ``size``, or nothing."""
    names = (*SCALES, *COUNTS)
    return next((name for name in names if isclose(factor_at(name, size), value, rel_tol=1e-6)), "")


def match_scale(value: float, size: int, formulas: Collection[str] = tuple(SCALES)) -> str | None:
    """Name of the formula among ``formulas`` that gives ``value`` at ``size``, or None.

    A value rounded to half precision (as exporters of such models leave it) matches too.
    """
    return next((name for name in formulas if _rounding(value, SCALES[name](size)) is not None), None)


def factor_alike(formula: str, value: float, size: float, target: float) -> float:
    """The factor of a formula at ``target``, rounded to the type that ``value``, the one at ``size``, is rounded to."""
    rounding = _rounding(value, factor_at(formula, size)) or float
    return rounding(factor_at(formula, target))


def _rounding(value: float, exact: float) -> Callable[[float], float] | None:
    """What makes ``value`` of ``exact``: nothing, where they are as near as float32 is. None: they are not alike."""
    if abs(value - exact) <= 1e-5 * abs(exact):
        return float
    return next((rounded for rounded in (_float16, _bfloat16) if value == rounded(exact)), None)


#: Formulas with a whole number in them, tried where none of :data:`SCALES` fits: text, and value at (n, k).
_WITH_NUMBER: dict[str, Callable[[float, float], float]] = {
    "1/sqrt({n}*{k})": lambda n, k: 1 / sqrt(n * k),
    "sqrt({n}*{k})": lambda n, k: sqrt(n * k),
    "{k}/sqrt({n})": lambda n, k: k / sqrt(n),
    "sqrt({n})/{k}": lambda n, k: sqrt(n) / k,
    "1/({n}*{k})": lambda n, k: 1 / (n * k),
    "1/sqrt({n}/{k})": lambda n, k: sqrt(k / n),
    "({n}*{k})**-0.25": lambda n, k: (n * k) ** -0.25,
    "({n}*{k})**0.25": lambda n, k: (n * k) ** 0.25,
}
_LARGEST_NUMBER = 64


def guess_scale(value: float, size: int, name: str) -> str:
    """A formula in ``name`` that gives ``value`` at ``size``, to suggest to a person: never certain.

    Where no simple one fits it is the one that most such factors follow, the inverse root, from the present value.
    """
    for number in range(2, _LARGEST_NUMBER + 1):
        for text, function in _WITH_NUMBER.items():
            exact = function(size, number)
            if abs(value - exact) <= 1e-5 * abs(exact):
                return text.format(n=name, k=number)
    return f"{value:.9g}*sqrt({size}/{name})"


def _float16(value: float) -> float:
    return float(np.float16(value))


def _bfloat16(value: float) -> float:
    bits = int(np.float32(value).view(np.uint32))
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return float(np.uint32(rounded).view(np.float32))


def recognise(array: Array, *, rotary: bool) -> str | None:
    """Name of the closed form of a table, or None.

    Integers and booleans: ``arange`` (along the one axis longer than 1), ``constant:<value>``, ``tril`` (causal mask on
    the two last axes). Floats, only where the table feeds sines and cosines (``rotary``): ``inv_freq:<base>`` and the
    others of :mod:`bot_onnx._patterns.frequencies`.
    """
    flat = array.reshape(-1)
    if array.dtype.kind in "iub":
        if flat.size and bool(np.all(flat == flat[0])):
            return f"constant:{int(flat[0])}"
        if (
            array.dtype.kind != "b"
            and sum(n > 1 for n in array.shape) == 1
            and np.array_equal(flat, np.arange(flat.size))
        ):
            return "arange"
        if array.ndim >= 2 and flat.size == array.shape[-1] * array.shape[-2]:
            square = array.reshape(array.shape[-2:])
            if np.array_equal(square.astype(bool), np.tril(np.ones(square.shape, bool))):
                return "tril"
        return None
    return recognise_frequencies(flat) if rotary and sum(n > 1 for n in array.shape) == 1 else None


def recognise_cache(array: Array) -> str | None:
    """Name of the closed form of a rotary table ``[positions, n]``, or None.

    ``rotary_cos:<base>`` and ``rotary_sin:<base>``: the cosine or sine of ``p * base ** (-i / n)``.
    """
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 2:
        return None
    values = array.astype(np.float64)
    kind = "cos" if np.all(values[0] == 1) else "sin"
    angles = np.arccos(np.clip(values[1], -1, 1)) if kind == "cos" else np.arcsin(np.clip(values[1], -1, 1))
    step = -1 if kind == "sin" else 1  # cosines of small angles are too coarse to read the base from
    if angles[step] <= 0:
        return None
    index = np.arange(values.shape[1])[step]
    base = float(angles[step] ** (-values.shape[1] / index))
    wide = 1e-5 if array.dtype.itemsize > 2 else 1e-2
    for candidate in dict.fromkeys([float(f"{base:.{digits}g}") for digits in (1, 2, 3, 4)] + [base]):
        form = f"rotary_{kind}:{candidate:.12g}"
        if np.allclose(compute(form, array.shape, np.dtype(np.float64)), values, rtol=0, atol=wide * 10):
            return form
    return None


def is_held(form: str) -> bool:
    """Whether a form takes its numbers from the table as it is; of all others the name tells them."""
    return form.partition(":")[0] in (REPEATED, UNIFORM, SLOPES)


def treats_alike(form: str) -> bool:
    """Whether a form gives every index of a dim that changes the same numbers, whatever their order and number."""
    return form.partition(":")[0] in ("constant", UNIFORM, REPEATED, MEAN)


def shares_out(form: str) -> bool:
    """Whether a table takes less of each of more elements, so that copies of them make what one of them made."""
    return form.partition(":")[0] == MEAN


def recompute(form: str, shape: tuple[int, ...], dtype: np.dtype, held: Callable[[], Array]) -> Array:
    """The table of a closed form at ``shape``, from what it holds now where :func:`is_held` says so.

    Args:
        form, shape, dtype: see :func:`compute`.
        held: gives the table as it is, and is called for such forms alone.
    """
    if not is_held(form):
        return compute(form, shape, dtype)
    if form == UNIFORM:
        return np.full(shape, np.asarray(held()).reshape(-1)[0], dtype)
    if form.startswith(SLOPES):
        return compute_held_slopes(form.partition(":")[2], shape, np.asarray(held())).astype(dtype)
    rows = int(form.partition(":")[2])
    block = np.asarray(held())[:rows]
    return np.tile(block, (shape[0] // rows, *(1,) * (len(shape) - 1))).astype(dtype, copy=False)


def compute(form: str, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """The table of a closed form at ``shape``; see :func:`recompute` for one that is made of its own numbers.

    Args:
        form: a name that :func:`recognise` gave.
        shape: target shape.
        dtype: element type of the table.
    """
    name, _, argument = form.partition(":")
    count = int(np.prod(shape))
    if name == "constant":
        return np.full(shape, int(argument), dtype)
    if name == MEAN:
        return np.full(shape, 1 / prod(shape[int(axis)] for axis in argument.split(",")), dtype)
    if name == "arange":
        return np.arange(count).reshape(shape).astype(dtype)
    if name == "tril":
        return np.broadcast_to(np.tril(np.ones(shape[-2:], bool)), shape).astype(dtype)
    if name in FREQUENCIES:
        return compute_frequencies(form, count).reshape(shape).astype(dtype)
    if name in ("rotary_cos", "rotary_sin"):
        rows, width = shape
        angles = np.outer(np.arange(rows), float(argument) ** (-np.arange(width) / width))
        turned: Array = np.cos(angles) if name == "rotary_cos" else np.sin(angles)
        return turned.astype(dtype)
    if name == "sinusoids":
        return Sinusoids.parse(argument).table(shape).astype(dtype)
    if name == "sinusoid_grid":
        return SinusoidGrid.parse(argument).table(shape).astype(dtype)
    if name in ("alibi", "alibi_distances"):
        return compute_slopes(name, shape).astype(dtype)
    raise ValueError(f"unknown closed form {form!r}")
