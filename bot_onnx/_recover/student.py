"""The student in PyTorch, with every trained initializer as one parameter.

Its nodes run as calls of PyTorch (:mod:`bot_onnx._recover.executor`); a network with an op that is not known there goes
through onnx2pytorch (:mod:`bot_onnx._recover.converted`), and one that neither carries is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._recover.carried import Uncarried
from bot_onnx._recover.converted import Converted
from bot_onnx._recover.executor import Executor
from bot_onnx._recover.extras import torch
from bot_onnx._recover.network import Network, chunks
from bot_onnx._recover.trainable import Trainable, initial
from bot_onnx._recover.types import Array, Feeds
from bot_onnx.errors import RecoverError


class Carrier(Protocol):
    """What computes a network's outputs in PyTorch."""

    inputs: tuple[str, ...]

    def __call__(self, feeds: Mapping[str, Any], weights: Mapping[str, Any]) -> list[Any]:
        """Values of the outputs, in order, torch tensors."""

    def failing(self, feeds: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
        """Op and first output of the node at which it fails; empty if it does not."""

    def to(self, device: str) -> None:
        """Compute on another device from now on."""


@dataclass(slots=True)
class Student:
    """A network that can be trained.

    Attributes:
        parameters: by initializer, torch parameters of float32.
        outputs: names of the values that it computes.
        carrier: what computes them.
    """

    parameters: dict[str, Any]
    outputs: tuple[str, ...]
    carrier: Carrier
    _chunk: int | None
    _constant: frozenset[str]
    _device: str = "cpu"

    def __call__(self, feeds: Feeds) -> dict[str, Any]:
        """Values by name, torch tensors; a batch goes through in chunks where the model's batch is fixed."""
        parts = [
            self.carrier(self._tensors(part), self.parameters) for part in chunks(feeds, self._chunk, self._constant)
        ]
        if len(parts) == 1:
            return dict(zip(self.outputs, parts[0], strict=True))
        return {name: torch().cat([part[place] for part in parts]) for place, name in enumerate(self.outputs)}

    def look(self, feeds: Feeds) -> dict[str, Any]:
        """The same without gradients."""
        with torch().no_grad():
            return self(feeds)

    def failing(self, feeds: Feeds) -> str:
        """Op and first output of the node at which it fails; empty if it does not."""
        with torch().no_grad():
            part = chunks(feeds, self._chunk, self._constant)[0]
            return self.carrier.failing(self._tensors(part), self.parameters)

    def weights(self) -> dict[str, Array]:
        """Present values of the trained initializers."""
        return {name: parameter.detach().cpu().numpy().copy() for name, parameter in self.parameters.items()}

    def _tensors(self, feeds: Feeds) -> dict[str, Any]:
        library = torch()
        return {
            name: library.from_numpy(np.asarray(feeds[name], order="C")).to(self._device)
            for name in self.carrier.inputs
        }

    def to(self, device: str) -> None:
        """Compute on another device from now on, with parameters of its own there."""
        self._device = device
        self.carrier.to(device)
        self.parameters = {name: moved_parameter(parameter, device) for name, parameter in self.parameters.items()}


def moved_parameter(parameter: Any, device: str) -> Any:
    """The same parameter on another device."""
    return torch().nn.Parameter(parameter.detach().to(device), requires_grad=parameter.requires_grad)


def make_student(
    network: Network,
    trainable: Trainable,
    outputs: Sequence[str],
    *,
    chunk: int | None = None,
    constant: frozenset[str] = frozenset(),
) -> Student:
    """Carry a network to PyTorch.

    Args:
        network: the student.
        trainable: its weights.
        outputs: names of the values that it is to give.
        chunk: samples that it takes at a time; None: any number.
        constant: names of inputs that are the same for all samples.

    Raises:
        RecoverError: it cannot be carried.
    """
    try:
        carrier: Carrier = Executor(network.wide(outputs), trainable, outputs)
    except Uncarried as error:
        carrier = Converted(network, trainable, outputs, str(error))
    library = torch()
    parameters = {
        name: library.nn.Parameter(library.from_numpy(initial(values))) for name, values in trainable.values.items()
    }
    return Student(parameters, tuple(outputs), carrier, chunk, constant)


def first_run(student: Student, feeds: Feeds) -> dict[str, Any]:
    """The student's values for a batch.

    Raises:
        RecoverError: an op that was carried cannot be run; the message names its node.
    """
    try:
        return student.look(feeds)
    except Exception as error:  # whatever an op raises
        raise RecoverError(
            f"the student is carried to PyTorch, but its {student.failing(feeds)} cannot be run there: "
            f"{one_line(error)}; export its weights with `bot-onnx export` and train in the framework"
        ) from error
