"""Trained weights back into the graph: every number into the initializer that it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bot_onnx._canonical.spelling import restore_spelling
from bot_onnx._onnxfile.writer import write_model
from bot_onnx._recover.network import Network
from bot_onnx._recover.trainable import Trainable
from bot_onnx._recover.types import Array
from bot_onnx._shards import External
from bot_onnx._surgery.emit import skeleton, weight_slots
from bot_onnx._surgery.provenance import read_provenance, unpromised


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
        OutputError: the file cannot be written; nothing is left behind.
    """
    graph = network.analysis.model.graph
    twins = {twin: weights[source].T for twin, source in trainable.twins.items()}
    values = {name: np.ascontiguousarray(array) for name, array in {**weights, **twins}.items()}
    slots = weight_slots(graph, values)
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(values[name].reshape(-1).view(np.uint8).data)
    known = read_provenance(network.analysis.model.metadata_props)
    provenance = {**unpromised(known, "trained since"), "recovered": dict(told), "weights_sha256": digest.hexdigest()}

    def produce() -> Iterator[tuple[str, Array]]:
        for name in slots:
            tensor = graph.initializers[name].const_value
            assert tensor is not None
            yield name, values[name] if name in values else tensor.numpy()

    restore_spelling(graph)
    write_model(
        skeleton(network.analysis, {}, set(slots), provenance),
        list(slots.values()),
        produce(),
        out,
        external=external,
        force=force,
        sources=read_only,
        before_publish=before_publish,
    )
