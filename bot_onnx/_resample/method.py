"""What a resampling method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bot_onnx._resample.arrays import Array, Namespace
from bot_onnx._resample.needs import Need
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx.errors import ResampleError

AxisDirection = Literal["out", "in"]


class MethodOptions(BaseModel):
    """Base of the option models: frozen, and an unknown option is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OptionsT = TypeVar("OptionsT", bound=MethodOptions)


def given(options: MethodOptions) -> dict[str, Any]:
    """The options that are not at their defaults, by name: what somebody asked for, as a saved plan tells it too."""
    defaults = {
        name: field.get_default(call_default_factory=True) for name, field in type(options).model_fields.items()
    }
    return {name: value for name, value in options if value != defaults[name]}


class Method(ABC, Generic[OptionsT]):
    """A way to make the tensors of a target model out of those of a source model.

    Attributes:
        name: key in the registry and on the command line.
        title: one line for people.
        reference: paper or origin.
        direction: ``shrink``, ``grow`` or ``both``: what the method can do.
        promises: properties that tests hold it to, such as ``exact-size`` and ``deterministic``.
        Options: its option model; every field has a description.
        needs: by option, what there must be in a work order for it to have anything to do; what is left out always has.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[str]
    direction: ClassVar[Literal["both", "shrink", "grow"]]
    promises: ClassVar[tuple[str, ...]]
    Options: type[OptionsT]
    needs: ClassVar[Mapping[str, Need]] = MappingProxyType({})

    @abstractmethod
    def resample(
        self,
        task: StackTask,
        source: Sequence[Callable[[], Array]],
        options: OptionsT,
        *,
        xp: Namespace,
        seed: int,
        start: int = 0,
    ) -> Iterator[Array]:
        """Yield the target layers of one stack, in order.

        Args:
            task: the work order; ``task.layers[1]`` arrays come out, each of shape ``task.target_shape``.
            source: one reader per source layer; calling it gives an array of shape ``task.source_shape``, as a NumPy
                array or as one of ``xp``. Readers are called when their layer is needed, not before.
            options: an instance of :attr:`Options`.
            xp: array namespace the arithmetic runs in (array API standard: NumPy, CuPy, array-api-strict).
            seed: of the run; together with ``task.draws`` and the target layer it keys every random draw.
            start: the first target layer that is wanted: those before it are neither made nor yielded, all others are
                what they are without it.

        Yields:
            Arrays of ``xp``: float64 where the source is float64, else float32. The same object may be yielded
            twice; do not write into it.

        Raises:
            ResampleError: a reader's shape is not the task's, a dtype that cannot be resampled, a role that never
                changes size, or options that do not fit the direction.
        """

    @property
    def applies_operator(self) -> bool:
        """Whether :meth:`axis_operator` gives a matrix."""
        return type(self).axis_operator is not Method.axis_operator

    def default_alignment(self, options: OptionsT) -> Literal["auto", "none"]:
        """How the source is aligned unless the user says so: ``auto`` or ``none``."""
        return "none"

    def picks_layers(self, options: OptionsT) -> bool:
        """Whether layers stay as they are where some go, and any may stay: samples then say which, if there are any."""
        return False

    def layers_asked(self, options: OptionsT) -> str | None:
        """How layers are to be made, where that was asked for: by option ``layer_axis``, whose default says nothing."""
        return given(options).get("layer_axis")

    def keeps_function(self, options: OptionsT) -> bool:
        """Whether growth shall keep the function at any ratio: work orders then say how each dim does that."""
        return False

    def joins_qkv(self, options: OptionsT) -> bool:
        """Whether queries, keys and values that a file keeps apart are handed over as the one matrix of a fused one."""
        return False

    def idle_options(self, options: OptionsT, tasks: Iterable[StackTask]) -> tuple[str, ...]:
        """Options that were given and have nothing to do in these work orders."""
        known, asked = tuple(tasks), given(options)
        needs = {name: need for name, need in self.needs.items() if name in asked}
        return tuple(name for name, need in needs.items() if not any(need(options, task) for task in known))

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
