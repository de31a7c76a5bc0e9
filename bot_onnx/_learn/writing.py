"""The tensors of a plan: as its method makes them, or of operators that were trained before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._learn.types import Learned
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.writer import write_model
from bot_onnx._progress import step
from bot_onnx._request import Learning
from bot_onnx._resample import MethodOptions
from bot_onnx._surgery.execute import produce
from bot_onnx._surgery.planner import Prepared
from bot_onnx.errors import RecoverError


def tensors_of(
    prepared: Prepared,
    options: MethodOptions,
    asked: Learning | None,
    *,
    xp: Any,
    source: Path,
    given: Given | None,
    room: Callable[[], AbstractContextManager[Path]],
    finished: Collection[str] = (),
) -> tuple[Iterable[tuple[str, NDArray[np.generic]]], Learned | None]:
    """Every tensor of the target by name, and how the operators were trained.

    Args:
        prepared: the plan, which takes notes of the training, and the source's tensors.
        options: of its method.
        asked: the training; None: there is none, and tensors are made as they are asked for.
        xp: array namespace that the method computes in.
        source: the file that the target is made of. given: what models run on.
        room: a private folder, for the start meanwhile.
        finished: names of tensors that are there already; with a training, none.

    Raises:
        RecoverError, DataError, ResampleError: the plan cannot be learned; the message says why.
        MissingRuntimeError: the extra ``recover`` is not installed.
    """
    if asked is None:
        return produce(prepared, options, xp=xp, progress=step, finished=finished), None
    from bot_onnx._learn.job import learn  # who does not train need not load what does

    base = dict(produce(prepared, options, xp=xp))
    with room() as folder:
        start = folder / "start.onnx"
        write_model(prepared.proto, prepared.slots, base.items(), start)
        try:
            tensors, learned = learn(prepared, options, asked, base, start, source, given)
        except RecoverError as error:  # a private file is no name to show
            raise RecoverError(str(error).replace(str(start), f"the start made of {prepared.plan.source}")) from error
    prepared.plan = replace(prepared.plan, notes=(*prepared.plan.notes, learned.told(), *learned.notes))
    return tensors.items(), learned
