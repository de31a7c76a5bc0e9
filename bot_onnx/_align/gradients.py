"""What it takes to know gradients; who takes them needs libraries that nothing else here needs, and is handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import onnx
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Pass(Protocol):
    """A run of a network that can be followed back."""

    @property
    def values(self) -> Arrays:
        """Outputs and inner values by name."""
        ...

    def back(self, directions: Arrays) -> Arrays:
        """Gradients of Σ direction · output with respect to the inner values, by name.

        Args:
            directions: by name of an output, in its shape.
        """
        ...


class Network(Protocol):
    """A network that can be followed back."""

    def run(self, feeds: Arrays) -> Pass:
        """Its values for inputs by name."""
        ...


class Gradients(Protocol):
    """Who takes gradients."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of floating-point numbers."""
        ...

    @property
    def logits(self) -> frozenset[str]:
        """Those of them whose last axis holds logits."""
        ...

    def check(self) -> None:
        """See whether it can be done here.

        Raises:
            MissingRuntimeError: something is not installed.
            ResampleError: there is no output to take gradients of.
        """
        ...

    def network(self, message: onnx.ModelProto, inner: Sequence[str]) -> Network:
        """A network from its message, which shows all outputs and inner values.

        Raises:
            ResampleError: gradients of it cannot be taken; the message says why.
        """
        ...
