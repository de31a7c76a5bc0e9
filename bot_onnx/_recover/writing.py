"""Trained weights back into the graph: every number into the initializer that it came from, in the type it had."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from bot_onnx._canonical.decompose import restore_casts, stored_type
from bot_onnx._canonical.spelling import restore_spelling
from bot_onnx._onnxfile.writer import write_model
from bot_onnx._recover.network import Network
from bot_onnx._recover.trainable import Trainable
from bot_onnx._recover.types import Array
from bot_onnx._shards import External
from bot_onnx._surgery.emit import skeleton, untouched, weight_slots
from bot_onnx._surgery.provenance import read_provenance, unpromised
from bot_onnx.errors import RecoverError

#: Largest numbers of the types of half precision.
_LARGEST: Final = {ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: (2 - 2.0**-7) * 2.0**127}


def write_trained(
    network: Network,
    trainable: Trainable,
    weights: Mapping[str, Array],
    out: Path,
    *,
    told: Mapping[str, Any],
    external: External = False,
    force: bool = False,
    read_only: Sequence[Path] = (),
    before_publish: Callable[[str], None] | None = None,
) -> None:
    """Write a network with other weights; all else is as it was.

    Args:
        network: the student.
        trainable: which of its initializers are weights.
        weights: float32 values of the trained ones, by name.
        out: the new file.
        told: what the file is to say of its training.
        external: store the weights beside the model, in one file or several.
        force: replace an existing file.
        read_only: files that must not be written to.
        before_publish: called with a path that opens the finished file before it has its name.

    Raises:
        RecoverError: a weight is beyond the numbers of its type.
        OutputError: the file cannot be written; nothing is left behind.
    """
    graph = network.analysis.model.graph
    twins = {twin: weights[source].T for twin, source in trainable.twins.items()}
    slots = weight_slots(graph, {*weights, *twins})
    values = {
        name: np.asarray(_narrowed(name, array, ir.DataType(slots[name].dtype)), order="C")
        for name, array in {**weights, **twins}.items()
    }
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(values[name].reshape(-1).view(np.uint8).data)
    known = read_provenance(network.analysis.model.metadata_props)
    provenance = {**unpromised(known, "trained since"), "recovered": dict(told), "weights_sha256": digest.hexdigest()}

    restore_spelling(graph)
    restore_casts(graph, slots.keys())
    write_model(
        skeleton(network.analysis, {}, set(slots), provenance),
        list(slots.values()),
        chain(untouched(graph, slots, values), values.items()),
        out,
        external=external,
        force=force,
        sources=read_only,
        before_publish=before_publish,
    )


def weight_types(network: Network, names: Collection[str]) -> tuple[str, ...]:
    """Types in which some initializers lie in the file, as the file calls them, each once."""
    values = (network.analysis.model.graph.initializers[name] for name in names)
    return tuple(
        sorted({(stored_type(value) or ir.DataType(value.dtype or ir.DataType.FLOAT)).name for value in values})
    )


def halves_note(types: Sequence[str]) -> list[str]:
    """What is to be said where weights of these types are trained: nothing of float32."""
    told = " and ".join(name.lower() for name in types if name != "FLOAT")
    if not told:
        return []
    return [f"Weights of the student are {told}: they were trained as float32, and are written as {told} again."]


def _narrowed(name: str, array: Array, dtype: ir.DataType) -> Array:
    """Weights in the type that they have in the file.

    Raises:
        RecoverError: one is beyond its largest number.
    """
    if dtype == ir.DataType.FLOAT:
        return array
    largest, most = _LARGEST[dtype], float(np.abs(array).max(initial=0.0))
    if most > largest:
        raise RecoverError(
            f"weight {name!r} has come to {most:.6g} in training, beyond {largest:,.6g}, the largest number of "
            f"{dtype.name.lower()}, which the student has it in: train at a lower --rate, or train a float32 student"
        )
    return array.astype(dtype.numpy())
