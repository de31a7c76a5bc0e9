"""Methods that other packages bring: entry points of the group ``bot_onnx.methods``, each a :class:`Method`.

What one of them does wrong is said of its package, and is nobody else's: it is left out, and refused when asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from itertools import islice
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bot_onnx._progress import LOGGER
from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._resample.method import AnyMethod, AxisDirection, Method, MethodOptions
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import BotError, ResampleError

GROUP: Final = "bot_onnx.methods"
_DIRECTIONS: Final = get_args(Literal["both", "shrink", "grow"])


@dataclass(frozen=True, slots=True)
class Shipped:
    """The methods of other packages by name, and why some cannot be had, by the name of their entry point."""

    methods: dict[str, AnyMethod] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def find_shipped(taken: Collection[str]) -> Shipped:
    """Load what installed packages bring.

    Args:
        taken: names of the built-in methods, which nothing replaces.
    """
    found = Shipped()
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, _package(point)))
    points = list({(point.name, point.value, _package(point)): point for point in points}.values())
    counted = Counter(point.name for point in points)
    for point in points:
        name, package = point.name, _package(point)
        try:
            if name in taken:
                raise ResampleError("a built-in method has this name")
            if counted[name] > 1:
                raise ResampleError(f"{counted[name]} packages bring a method of this name")
            found.methods[name] = ShippedMethod(_checked(point), package)
        except (Exception, SystemExit) as error:
            told = f"{type(error).__name__}: {error}" if not isinstance(error, BotError) else str(error)
            reason = " ".join(f"method '{name}' of package {package} cannot be used: {told}".split())
            found.refused[name] = f"{found.refused[name]}; {reason}" if name in found.refused else reason
            LOGGER.warning(reason)
    return found


def _package(point: EntryPoint) -> str:
    return "(unknown)" if point.dist is None else f"'{point.dist.name}' {point.dist.version}"


def _checked(point: EntryPoint) -> AnyMethod:
    """Load a method, and refuse one that lacks what every method has.

    Raises:
        ResampleError: says what.
    """
    loaded: Any = point.load()
    method = loaded() if isinstance(loaded, type) else loaded
    if not isinstance(method, Method):
        raise ResampleError(f"{point.value} is no bot_onnx._resample.Method")
    for name in ("name", "title", "reference", "direction", "promises", "Options"):
        if not hasattr(method, name):
            raise ResampleError(f"{point.value} has no '{name}'")
    if method.name != point.name:
        raise ResampleError(f"{point.value} calls itself '{method.name}', and its entry point '{point.name}'")
    if method.direction not in _DIRECTIONS:
        raise ResampleError(f"direction '{method.direction}' is none of {', '.join(_DIRECTIONS)}")
    if not (isinstance(method.Options, type) and issubclass(method.Options, MethodOptions)):
        raise ResampleError("its Options are no bot_onnx._resample.MethodOptions")
    method.Options()  # every option has a default: commands make them without any
    return method


class ShippedMethod(Method[MethodOptions]):
    """A method of another package, whose failures are told as that package's."""

    def __init__(self, method: AnyMethod, package: str) -> None:
        self._method, self._package = method, package
        told = ("name", "title", "reference", "direction", "promises", "Options")
        vars(self).update({name: getattr(method, name) for name in told})

    @property
    def applies_operator(self) -> bool:
        """Whether the method has a matrix along a leaf, and it is one."""
        if not self._method.applies_operator:
            return False
        try:
            self.axis_operator(4, 2, self.Options())
        except BotError:
            return False
        return True

    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: MethodOptions,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers, of the right number and shapes; see :meth:`Method.resample`."""
        with self._guarded():
            layers = iter(self._method.resample(task, source, options, xp=xp, seed=seed))
        return islice(self._layers(layers, task), start, None)  # theirs may know of no start

    def _layers(self, layers: Iterator[Array], task: StackTask) -> Iterator[Array]:
        count = 0
        while True:
            with self._guarded():
                array = next(layers, None)
                shape = None if array is None else tuple(array.shape)
            if array is None:
                break
            if shape != task.target_shape:
                raise self._refusal(f"made a tensor of shape {shape} for stack {task.stack}, not {task.target_shape}")
            count += 1
            yield array
        if count != task.layers[1]:
            raise self._refusal(f"made {count} layers of stack {task.stack}, not {task.layers[1]}")

    def default_alignment(self, options: MethodOptions) -> Literal["auto", "none"]:
        """As the method says."""
        with self._guarded():
            return self._method.default_alignment(options)

    def picks_layers(self, options: MethodOptions) -> bool:
        """As the method says."""
        with self._guarded():
            return self._method.picks_layers(options)

    def keeps_function(self, options: MethodOptions) -> bool:
        """As the method says."""
        with self._guarded():
            return self._method.keeps_function(options)

    def joins_qkv(self, options: MethodOptions) -> bool:
        """As the method says."""
        with self._guarded():
            return self._method.joins_qkv(options)

    def leaf_matrix(self, axis: Axis, options: MethodOptions) -> NDArray[np.float64]:
        """As the method says."""
        with self._guarded():
            return self._method.leaf_matrix(axis, options)

    def axis_operator(
        self, n_source: int, n_target: int, options: MethodOptions, *, direction: AxisDirection = "out"
    ) -> NDArray[np.float64]:
        """As the method says, where it is a matrix of these sizes."""
        with self._guarded():
            matrix = self._method.axis_operator(n_source, n_target, options, direction=direction)
        if getattr(matrix, "shape", None) != (n_target, n_source):
            raise self._refusal(f"gives no matrix of {n_target} rows and {n_source} columns")
        return matrix

    def _refusal(self, what: str) -> ResampleError:
        return ResampleError(
            f"method '{self.name}' of package {self._package} {what}; report it to those who make it, or use another"
        )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (BotError, MemoryError, OSError):
            raise
        except Exception as error:
            raise self._refusal(f"failed: {type(error).__name__}: {error}") from error
