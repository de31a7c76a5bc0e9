"""The registry of resampling methods.

A built-in method is one file in ``bot_onnx/_resample/methods/`` that defines ``METHOD``, an instance of a
:class:`Method`. Adding a file adds the method: to the API, to the command line (flags come from its ``Options``) and to
the tests that run over all methods. Other packages bring theirs by an entry point
(:mod:`bot_onnx._resample.shipped`).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from bot_onnx._resample.method import AnyMethod, AxisDirection, Method, MethodOptions, OptionsT
from bot_onnx._resample.shipped import Shipped, find_shipped
from bot_onnx.errors import ResampleError

__all__ = [
    "AnyMethod",
    "AxisDirection",
    "Method",
    "MethodOptions",
    "OptionsT",
    "all_methods",
    "get_method",
    "make_options",
    "operator",
    "refused_methods",
    "shrinking_operators",
]


@cache
def _built_in() -> Mapping[str, AnyMethod]:
    package = importlib.import_module("bot_onnx._resample.methods")
    found: dict[str, AnyMethod] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry.name):
        method: AnyMethod = importlib.import_module(f"{package.__name__}.{info.name}").METHOD
        if method.name in found:
            raise ResampleError(f"two resampling methods are called '{method.name}'; rename the one in {info.name}.py")
        found[method.name] = method
    return MappingProxyType(dict(sorted(found.items())))


@cache
def _shipped() -> Shipped:
    return find_shipped(_built_in())


def all_methods() -> Mapping[str, AnyMethod]:
    """All methods by name, sorted by name; those of other packages after the built-in ones."""
    return MappingProxyType({**_built_in(), **_shipped().methods})


def refused_methods() -> Mapping[str, str]:
    """Methods of other packages that cannot be used: why, by name."""
    return MappingProxyType({name: why for name, why in _shipped().refused.items() if name not in _built_in()})


def get_method(name: str) -> AnyMethod:
    """The method called ``name``.

    Raises:
        ResampleError: there is none, and the message lists those there are; or its package is broken.
    """
    built_in = _built_in().get(name)  # asked first: other packages are loaded only if they are needed
    if built_in is not None:
        return built_in
    methods = all_methods()
    if name in methods:
        return methods[name]
    if name in refused_methods():
        raise ResampleError(
            f"{refused_methods()[name]}; update that package, or use one of {', '.join(methods)}", alternatives=methods
        )
    near = difflib.get_close_matches(name, methods, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ResampleError(
        f"no resampling method '{name}'{hint} There are: {', '.join(methods)}", alternatives=near or methods
    )


def make_options(name: str, **options: object) -> MethodOptions:
    """Validated options of the method called ``name``.

    Raises:
        ResampleError: no such method, an unknown option, or a value that it does not take.
    """
    model: type[MethodOptions] = get_method(name).Options
    try:
        return model.model_validate(options)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"]) or "options"
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "extra_forbidden":
                message = f"unknown option; there are: {', '.join(model.model_fields)}"
            problems.append(f"{key}: {message}")
        raise ResampleError(f"method '{name}' refuses its options: {'; '.join(problems)}") from None


def operator(
    method: str, n_source: int, n_target: int, *, direction: AxisDirection = "out", **options: object
) -> NDArray[np.float64]:
    """The very matrix that ``method`` applies along a plain leaf axis of a matrix, its gain included.

    With R the operator of unit row sums and rho = n_source / n_target, method ``bot`` gives

    * ``convention='value', direction='out'``: R (gain 1);
    * ``convention='value', direction='in'``: rho·R~, R~ the dual operator: (rho R~)ᵀ R = I when growing and
      R (rho R~)ᵀ = I when shrinking, so that a weight reads a resampled signal as it read the signal itself;
    * ``convention='ortho'``: √rho·R in both directions, the orthonormal transform as PyWavelets computes it.

    Without ``convention``: ``ortho`` where n_target < n_source, else ``value``.

    Args:
        method: name of the method.
        n_source: size of the axis in the source.
        n_target: size of the axis in the target.
        direction: ``out`` for an axis of the result of the matrix product, ``in`` for the contracted one.
        **options: options of the method.

    Returns:
        float64 array of shape ``[n_target, n_source]``.

    Raises:
        ResampleError: unknown method, refused options, sizes below 1, or a method that is no linear operator.
    """
    if n_source < 1 or n_target < 1:
        raise ResampleError(f"an axis has at least one index: asked for {n_source} -> {n_target}")
    if direction not in ("out", "in"):
        raise ResampleError(f"direction '{direction}' is neither 'out' nor 'in'")
    chosen = get_method(method)
    return chosen.axis_operator(n_source, n_target, make_options(method, **options), direction=direction)


def shrinking_operators() -> dict[str, Callable[[int, int], NDArray[np.float64]]]:
    """Operator along a leaf, (n_source, n_target) -> matrix, of every method that shrinks by one; default options."""
    found: dict[str, Callable[[int, int], NDArray[np.float64]]] = {}
    for name, method in all_methods().items():
        if method.direction != "grow" and method.applies_operator:
            found[name] = partial(operator, name)
    return found
