"""A graph's weights as a framework's state dict: in memory, or as a safetensors file with a config beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._canonical.still_packed import quantised_weight
from bot_onnx._checkpoint.assign import Hints, assign
from bot_onnx._checkpoint.biases import restore_zero_biases
from bot_onnx._checkpoint.config import resized_config
from bot_onnx._checkpoint.files import save
from bot_onnx._checkpoint.sites import owner
from bot_onnx._checkpoint.transfer import gather
from bot_onnx._checkpoint.types import Array, Assignment, Shape
from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.weight_files import Watched, shown
from bot_onnx._onnxfile.writer import check_output
from bot_onnx._target.reader import parse_object, read_text
from bot_onnx.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class EntryReport:
    """One entry of a state dict and where it comes from.

    Attributes:
        key, dtype, shape: of the entry.
        tensors: the initializers that hold it (several parts, or copies).
        how: evidence by initializer; see :data:`bot_onnx._checkpoint.types.How`.
        transposed: whether the entry's axes stand in another order than the graph's.
    """

    key: str
    dtype: str
    shape: Shape
    tensors: tuple[str, ...]
    how: tuple[str, ...]
    transposed: bool


@dataclass(frozen=True, slots=True)
class Transfer:
    """Weights that have been moved.

    Attributes:
        output: the file that was written.
        config: the ``config.json`` beside it, or None.
        entries: in the order of the graph.
        left_out: tensors of the graph that are no entries, and buffers of the checkpoint, and why.
        absent: keys of the checkpoint given for comparison that the graph has no tensor for.
        notes: what was found out, in sentences.
    """

    output: Path
    config: Path | None
    entries: tuple[EntryReport, ...]
    left_out: Mapping[str, str]
    absent: tuple[str, ...]
    notes: tuple[str, ...]


def analysed(source: Source) -> Analysis:
    """The analysis of an opened model whose weights are trained numbers, zero biases included.

    Raises:
        GraphError: it does not run.
        CheckpointError: its weights are quantised.
    """
    source.check_resizable()
    model = source.model()
    restore_zero_biases(model)
    analysis = analyse(model)
    packed = quantised_weight(analysis.model.graph)
    if packed is not None:
        raise CheckpointError(
            f"the weights of {source.path} are quantised ({packed[0]!r} is {packed[1]}): no framework trains them; "
            "take the floating-point model"
        )
    return analysis


def collect(analysis: Analysis, hints: Hints) -> tuple[Assignment, dict[str, Array]]:
    """The assignment of an analysed graph, and the state dict that it gives.

    Raises:
        CheckpointError: a tensor's key is not certain.
    """
    assignment = assign(analysis, hints)

    def read(name: str) -> Array:
        tensor = analysis.model.graph.initializers[name].const_value
        assert tensor is not None
        return shown(tensor)  # all are held until they are written

    arrays = dict(gather(assignment, read))
    if hints.like is not None:  # a count of batches seen: one number, whatever the network's sizes
        modules = {owner(key) for key in arrays}
        counts = [key for key in assignment.buffers if hints.like.shapes[key] == () and owner(key) in modules]
        arrays |= {key: hints.like.read(key) for key in counts}
    return assignment, arrays


def export_file(
    source: Source,
    hints: Hints,
    output: Path,
    *,
    config: Path | None,
    force: bool,
    read_only: tuple[Path, ...] = (),
    watched: Watched | None = None,
) -> Transfer:
    """Write a graph's weights as a safetensors file.

    Args:
        source: the graph.
        hints: what is known of its framework.
        output: the file; ``config.json`` goes beside it.
        config: the source's HuggingFace config, or None.
        force: replace existing files.
        read_only: files besides the graph's own that must not be written to.
        watched: files that must not change meanwhile, besides the graph's own.

    Raises:
        CheckpointError, SpecError, OutputError: refused; nothing was written.
    """
    protected = (*source.files, *read_only, *((config,) if config is not None else ()))
    check_output(output, force=force, sources=protected)
    beside = None if config is None else output.absolute().parent / "config.json"
    if beside is not None:
        check_output(beside, force=force, sources=protected)
    analysis = analysed(source)
    assignment, arrays = collect(analysis, hints)
    text: tuple[str, str] | None = None
    if config is not None and beside is not None:
        written = resized_config(_load(config), analysis.structure, assignment, os.fspath(config))
        text = beside.name, json.dumps(written, indent=2, ensure_ascii=False) + "\n"

    def check() -> None:
        source.check_unchanged()
        if watched is not None:
            watched.check_unchanged()

    save(output, arrays, force=force, sources=protected, beside=text, before_publish=check)
    return Transfer(
        output,
        beside,
        entries(assignment, arrays),
        left_out(assignment, arrays),
        assignment.absent,
        assignment.notes,
    )


def left_out(assignment: Assignment, arrays: Mapping[str, Array]) -> dict[str, str]:
    """What is on neither side, and why."""
    buffers = {key: "a buffer of the checkpoint, no parameter" for key in assignment.buffers if key not in arrays}
    return {**assignment.left_out, **buffers}


def entries(assignment: Assignment, arrays: Mapping[str, Array]) -> tuple[EntryReport, ...]:
    """What an assignment says of every key."""
    return tuple(
        EntryReport(
            key,
            str(arrays[key].dtype),
            arrays[key].shape,
            tuple(candidate.tensor for candidate in candidates),
            tuple(candidate.how for candidate in candidates),
            any(candidate.perm is not None for candidate in candidates[:1]),
        )
        for key, candidates in assignment.candidates.items()
    ) + tuple(
        EntryReport(key, str(arrays[key].dtype), arrays[key].shape, fold.tensors, ("folded",), False)
        for fold in assignment.folds
        for key in fold.keys
    )


def _load(path: Path) -> dict[str, Any]:
    if path.is_dir():
        path = path / "config.json"
    return dict(parse_object(read_text(path), os.fspath(path)))
