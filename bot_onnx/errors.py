"""Every error that bot-onnx raises on purpose.

Each one carries a message for a person: what was refused, the place (node, tensor or key), and a way out. What a
program wants to know of it stands beside the message as attributes; no message has to be read for data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar


class BotError(Exception):
    """Base of all of them: the CLI prints its message and exits with code 1.

    Attributes:
        kind: what failed, in a word that stays: the ``kind`` of ``--json``.
        node: name of the node of the graph that it is about, or None.
        dim: name of the dim that it is about, or None.
        report: the :class:`bot_onnx.VerifyReport` of checks that failed, or None.
        alternatives: what would do instead, best first: sizes, names or keys; empty where nothing is known.
    """

    kind: ClassVar[str] = "refused"

    def __init__(
        self,
        message: str = "",
        *,
        node: str | None = None,
        dim: str | None = None,
        report: Any = None,
        alternatives: Iterable[int | str] = (),
    ) -> None:
        super().__init__(message)
        self.node = node
        self.dim = dim
        self.report = report
        self.alternatives: tuple[int | str, ...] = tuple(alternatives)


class SpecError(BotError):
    """The target spec is malformed, contradictory, or asks for a size the graph cannot take."""

    kind = "spec"


class GraphError(BotError):
    """The model file cannot be read, or its structure cannot be understood."""

    kind = "graph"


class DimError(SpecError):
    """A dim that does not exist, is frozen, or does not admit the requested size."""

    kind = "dim"


class ProofError(SpecError):
    """A resize that could not be proven: ``fault`` says where (a :class:`bot_onnx._surgery.proven.Fault`)."""

    kind = "proof"

    def __init__(self, message: str = "", fault: Any = None) -> None:
        node = None if fault is None else fault.node or fault.value or None
        super().__init__(message, node=node, dim=fault.dims[0] if fault is not None and fault.dims else None)
        self.fault = fault


class ResampleError(BotError):
    """A resampling method refuses its options, a direction, or a tensor."""

    kind = "method"


class VerifyError(BotError):
    """The written model failed a check, see ``report``; nothing was kept."""

    kind = "check"


class OutputError(BotError):
    """The output path cannot be written, or must not be."""

    kind = "output"


class MissingRuntimeError(BotError):
    """A library that runs or trains models is not installed; the message names the extra that brings it."""

    kind = "runtime"


class CheckpointError(BotError):
    """Weights cannot be matched between a graph and a framework's checkpoint, or the checkpoint cannot be read."""

    kind = "checkpoint"


class DataError(BotError):
    """Samples for a model cannot be read, or do not suit it."""

    kind = "data"


class RecoverError(BotError):
    """A student cannot be taught: the converter cannot carry it, the data do not suit it, or a run cannot go on."""

    kind = "recover"
