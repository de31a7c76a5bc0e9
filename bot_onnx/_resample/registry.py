"""What a resampling method is, and the registry that finds them.

A method is one file in ``bot_onnx/_resample/methods/`` that defines ``METHOD``, an instance of a :class:`Method`.
Adding a file adds the method: to the API, to the command line (flags come from its ``Options``) and to the tests
that run over all methods.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError

AxisDirection = Literal["out", "in"]


class MethodOptions(BaseModel):
    """Base of the option models: frozen, and an unknown option is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OptionsT = TypeVar("OptionsT", bound=MethodOptions)


class Method(ABC, Generic[OptionsT]):
    """A way to make the tensors of a target model out of those of a source model.

    Attributes:
        name: key in the registry and on the command line.
        title: one line for people.
        reference: paper or origin.
        direction: ``shrink``, ``grow`` or ``both``: what the method can do.
        promises: properties that tests hold it to, such as ``exact-size`` and ``deterministic``.
        Options: its option model; every field has a description.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    direction: ClassVar[Literal["both", "shrink", "grow"]]
    promises: ClassVar[tuple[str, ...]]
    Options: type[OptionsT]

    @abstractmethod
    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: OptionsT,
        *,
        xp: Namespace,
        seed: int,
    ) -> Iterator[Array]:
        """Yield the target layers of one stack, in order.

        Args:
            task: the work order; ``task.layers[1]`` arrays come out, each of shape ``task.target_shape``.
            source: one reader per source layer; calling it gives an array of shape ``task.source_shape``, as a NumPy
                array or as one of ``xp``. Readers are called when their layer is needed, not before.
            options: an instance of :attr:`Options`.
            xp: array namespace the arithmetic runs in (array API standard: NumPy, CuPy, array-api-strict).
            seed: of the run; together with ``task.stack`` and the target layer it keys every random draw.

        Yields:
            Arrays of ``xp``: float64 where the source is float64, else float32. The same object may be yielded
            twice; do not write into it.

        Raises:
            ResampleError: a reader's shape is not the task's, a dtype that cannot be resampled, a role that never
                changes size, or options that do not fit the direction.
        """

    def default_alignment(self, options: OptionsT) -> Literal["auto", "none"]:
        """How the source is aligned unless the user says so: ``auto`` or ``none``."""
        return "none"

    def keeps_function(self, options: OptionsT) -> bool:
        """Whether growth shall keep the function at any ratio: work orders then say how each dim does that."""
        return False

    def leaf_matrix(self, axis: Axis, options: OptionsT) -> NDArray[np.float64]:
        """The float64 matrix ``[target, source]`` that a leaf axis of the results of a network takes.

        Raises:
            ResampleError: the method has no such matrix.
        """
        return self.axis_operator(axis.source, axis.target, options)

    def axis_operator(
        self, n_source: int, n_target: int, options: OptionsT, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """The float64 matrix ``[n_target, n_source]`` the method applies along a plain leaf axis, gain included.

        Raises:
            ResampleError: the method has no such matrix.
        """
        raise ResampleError(
            f"method '{self.name}' ({type(options).__name__}) applies no linear operator to an axis of size "
            f"{n_source} (target {n_target}, direction '{direction}'); use method 'bot'"
        )


AnyMethod = Method[Any]


@cache
def all_methods() -> Mapping[str, AnyMethod]:
    """All methods by name, sorted by name."""
    package = importlib.import_module("bot_onnx._resample.methods")
    found: dict[str, AnyMethod] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda entry: entry.name):
        method: AnyMethod = importlib.import_module(f"{package.__name__}.{info.name}").METHOD
        if method.name in found:
            raise ResampleError(f"two resampling methods are called '{method.name}'; rename the one in {info.name}.py")
        found[method.name] = method
    return MappingProxyType(dict(sorted(found.items())))


def get_method(name: str) -> AnyMethod:
    """The method called ``name``.

    Raises:
        ResampleError: there is none; the message lists those there are.
    """
    try:
        return all_methods()[name]
    except KeyError:
        near = difflib.get_close_matches(name, all_methods(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ResampleError(f"no resampling method '{name}'{hint} There are: {', '.join(all_methods())}") from None


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
        if method.direction != "grow" and type(method).axis_operator is not Method.axis_operator:
            found[name] = partial(operator, name)
    return found
