"""What a model says of itself before its nodes: who made it, what goes in and comes out."""

from __future__ import annotations

import onnx_ir as ir

Port = tuple[str, str, tuple[int | str, ...]]  #: name, data type, shape of an input or output


def producer_of(model: ir.Model) -> str:
    """Name and version of what wrote the model, as far as they are told."""
    return " ".join(filter(None, (model.producer_name, model.producer_version)))


def port_of(value: ir.Value) -> Port:
    """An input or output; ``?`` stands for what is not known."""
    shape = tuple(dim if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape or ())
    return value.name or "", value.dtype.name if value.dtype else "?", shape
