"""Every error that bot-onnx raises on purpose.

Each one carries a message for a person: what was refused, the place (node, tensor or key), and a way out.
"""

from __future__ import annotations


class BotError(Exception):
    """Base of all of them: the CLI prints its message and exits with code 1."""


class SpecError(BotError):
    """The target spec is malformed, contradictory, or asks for a size the graph cannot take."""


class GraphError(BotError):
    """The model file cannot be read, or its structure cannot be understood."""


class DimError(SpecError):
    """A dim that does not exist, is frozen, or does not admit the requested size."""


class ProofError(SpecError):
    """A resize that could not be proven: ``fault`` says where (a :class:`bot_onnx._surgery.proven.Fault`)."""

    def __init__(self, message: str, fault: object = None) -> None:
        super().__init__(message)
        self.fault = fault


class ResampleError(BotError):
    """A resampling method refuses its options, a direction, or a tensor."""


class VerifyError(BotError):
    """The written model failed a check; nothing was kept."""


class OutputError(BotError):
    """The output path cannot be written, or must not be."""


class MissingRuntimeError(BotError):
    """A library that runs or trains models is not installed; the message names the extra that brings it."""


class CheckpointError(BotError):
    """Weights cannot be matched between a graph and a framework's checkpoint, or the checkpoint cannot be read."""


class DataError(BotError):
    """Samples for a model cannot be read, or do not suit it."""


class RecoverError(BotError):
    """A student cannot be taught: the converter cannot carry it, the data do not suit it, or a run cannot go on."""
