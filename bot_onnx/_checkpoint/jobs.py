"""Weights out of a model and back into it, from paths: the part of the Python API that is about checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bot_onnx._checkpoint.assign import Hints
from bot_onnx._checkpoint.export import Transfer, analysed, collect, export_file
from bot_onnx._checkpoint.files import ArrayCheckpoint, SafetensorsFile, checkpoint_files
from bot_onnx._checkpoint.insert import insert_file
from bot_onnx._checkpoint.types import Array, Checkpoint
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.lost_files import surviving
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.scratch import sweep_beside
from bot_onnx._onnxfile.weight_files import Watched
from bot_onnx._progress import Progress, stage, told
from bot_onnx._shards import ExternalLike
from bot_onnx._target.reader import parse_object, read_text

__all__ = ["Transfer", "export_weights", "import_weights", "state_dict"]

PathOrName = str | PathLike[str]
NamesLike = Mapping[str, Any] | PathOrName
WeightsLike = Mapping[str, Array] | PathOrName  #: arrays by key, or a safetensors file or folder


@surviving()
def state_dict(
    model: PathOrName,
    *,
    like: WeightsLike | None = None,
    source: PathOrName | None = None,
    names: NamesLike | None = None,
    strip: str = "",
    partial: bool = False,
    progress: Progress | None = None,
) -> dict[str, Array]:
    """Give a model's weights under the framework's own keys, with its axes.

    Args:
        model: path of the ONNX file.
        like: a checkpoint whose keys are the right ones: the source's, or one of the model's size.
        source: the model that this one was resized from, where names and scopes are lost: ``like`` is then compared
            with its values.
        names: keys by initializer, or a JSON file with them.
        strip: beginning that every key loses, such as ``model.``.
        partial: leave out what ``like`` has and the graph has not, instead of refusing.
        progress: called with (what, done, in all) as it goes on; 0 of 0 where nothing is counted.

    Raises:
        CheckpointError: a tensor's key is not certain.
        GraphError: a model cannot be read or run.
    """
    sweep_beside(model)
    with ExitStack() as stack:
        stack.enter_context(told(progress))
        stage(f"reading {model}")
        opened = stack.enter_context(open_model(model))
        watched = stack.enter_context(Watched(_files_of(like, others=(source, names))))
        hints = _hints(stack, like, source, names, strip, partial)
        stage("finding the keys of the weights")
        made = {key: np.array(values) for key, values in collect(analysed(opened), hints)[1].items()}
        opened.check_unchanged()
        watched.check_unchanged()
        return made


@surviving()
def export_weights(
    model: PathOrName,
    output: PathOrName,
    *,
    like: WeightsLike | None = None,
    source: PathOrName | None = None,
    names: NamesLike | None = None,
    strip: str = "",
    partial: bool = False,
    config: PathOrName | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Transfer:
    """Write a model's weights as a safetensors file, which the framework loads.

    Args:
        model, like, source, names, strip, partial, progress: see :func:`state_dict`.
        output: the file.
        config: the source's HuggingFace ``config.json``; the target's is written beside the output.
        force: replace existing files.

    Raises:
        BotError: something was refused or failed; nothing was left behind.
    """
    sweep_beside(model, output)
    with ExitStack() as stack:
        stack.enter_context(told(progress))
        stage(f"reading {model}")
        opened = stack.enter_context(open_model(model))
        given = _files_of(like, others=(source, names, config))
        watched = stack.enter_context(Watched(given))
        hints = _hints(stack, like, source, names, strip, partial)
        stage("finding the keys of the weights")
        beside = None if config is None else Path(config)
        return export_file(opened, hints, Path(output), config=beside, force=force, read_only=given, watched=watched)


@surviving()
def import_weights(
    model: PathOrName,
    weights: WeightsLike,
    output: PathOrName,
    *,
    like: WeightsLike | None = None,
    source: PathOrName | None = None,
    names: NamesLike | None = None,
    strip: str = "",
    cast: bool = False,
    force: bool = False,
    external: ExternalLike | None = None,
    progress: Progress | None = None,
) -> Transfer:
    """Write a copy of a model that holds a framework's trained weights.

    Entries that the model has no place for are reported as ``absent``.

    Args:
        model: path of the ONNX file, which stays as it is.
        weights: a checkpoint of the model's size.
        output: path of the new model.
        like: a checkpoint with the values that the model, or ``source``, still holds: it tells lost names.
        source, names, strip, progress: see :func:`state_dict`.
        cast: round values to the graph's data type where the checkpoint has another.
        force: replace an existing output.
        external: store the weights beside the model; None: as the model does; a text such as ``2GB``: in several files,
            of at most that size.

    Raises:
        BotError: something was refused or failed; no output was left behind.
    """
    sweep_beside(model, output)
    with ExitStack() as stack:
        stack.enter_context(told(progress))
        stage(f"reading {model}")
        opened = stack.enter_context(open_model(model))
        given = _files_of(weights, like, others=(source, names))
        watched = stack.enter_context(Watched(given))
        hints = _hints(stack, like, source, names, strip)
        stage(f"writing {output}")
        return insert_file(
            opened,
            _checkpoint(weights),
            hints,
            Path(output),
            cast=cast,
            force=force,
            external=external,
            read_only=given,
            watched=watched,
        )


def _checkpoint(weights: WeightsLike) -> Checkpoint:
    return ArrayCheckpoint(weights) if isinstance(weights, Mapping) else SafetensorsFile(weights)


def _files_of(*checkpoints: Any, others: Sequence[Any] = ()) -> tuple[Path, ...]:
    """The files that paths among the arguments stand for: a folder's, an index's, and the data files of a model."""
    files: list[Path] = []
    for path in (Path(entry) for entry in checkpoints if isinstance(entry, str | PathLike)):
        files += [path, *checkpoint_files(path)]
    for path in (Path(entry) for entry in others if isinstance(entry, str | PathLike)):
        files += [path, path / "config.json", *named_files(path)]
    return tuple(file for file in files if file.is_file())


def _hints(
    stack: ExitStack,
    like: WeightsLike | None,
    source: PathOrName | None,
    names: NamesLike | None,
    strip: str,
    partial: bool = False,
) -> Hints:
    given = names if names is None or isinstance(names, Mapping) else parse_object(read_text(Path(names)), str(names))
    return Hints(
        like=None if like is None else _checkpoint(like),
        source=None if source is None else analysed(stack.enter_context(open_model(source))),
        names=given,
        names_from="names" if names is None or isinstance(names, Mapping) else str(names),
        strip=strip,
        partial=partial,
    )
