"""``bot_onnx.sweep``: the engine, :mod:`bot_onnx._model`, put behind :mod:`bot_onnx._sweep`, which knows none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bot_onnx._folders import find_folder
from bot_onnx._folders.hub import is_hub_name
from bot_onnx._held import HeldSource
from bot_onnx._names import MethodName
from bot_onnx._request import PathOrName, ResizeRequest
from bot_onnx._sweep.job import Progress, Wanted
from bot_onnx._sweep.job import sweep as run_sweep
from bot_onnx._sweep.scores import cosines_of, read_scoring
from bot_onnx._sweep.space import Space
from bot_onnx._sweep.types import Made, Sampler, Sweep, Teaching, Value
from bot_onnx.errors import SpecError

if TYPE_CHECKING:
    from bot_onnx._request import SpecLike

_STUDY: Final = "sweep.db"


def sweep(
    model: PathOrName,
    specs: Mapping[str, SpecLike] | Sequence[PathOrName],
    *,
    methods: Sequence[MethodName | str] = ("bot",),
    options: Mapping[str, Sequence[Value]] | None = None,
    score: str = "cosine",
    minimize: bool = False,
    study: PathOrName | None = None,
    output: PathOrName | None = None,
    keep: PathOrName | None = None,
    request: ResizeRequest | None = None,
    recover: Teaching | None = None,
    sampler: Sampler = "grid",
    trials: int | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """Resize a model by every combination of specs, methods and options, score the results and rank them.

    Finished trials stand in ``study`` at once: a call that was cut off, by SIGKILL even, goes on when it is
    called again in the same way.

    Args:
        model: path of the source, or of a folder with one (``hf://organisation/name`` too); the best model is a file.
        specs: targets: by a label, or paths and names of published ones.
        methods: names. options: values to try, by the option's name; each counts for the methods that have it.
        score: ``file.py:function``, a function of a model's path that gives a number; or ``cosine`` or ``agreement``
            with the source.
        minimize: lower scores are better.
        study: the SQLite file (Optuna's); None: ``sweep.db`` beside the output, or beside the model.
        output: where the best model goes. keep: folder for all models. force: replace an output that exists, and
            files in ``keep`` that this study has not put there.
        request: all else that is asked of each resize; its spec, method and options do not count.
        recover: the training that follows each resize, before it is scored.
        sampler: ``grid`` for all combinations, ``tpe`` or ``random`` for ``trials`` draws.
        trials: how many at most.
        jobs: processes on this machine, of Dask's; 1: this one. A script that asks for more needs the usual
            ``if __name__ == "__main__":``.
        scheduler: address of a Dask scheduler, whose workers then make the trials; they see the same files.
        progress: called with ("trials", done, in all).

    Raises:
        BotError: something was refused before or between trials; what is finished stays in the study. What is wrong
            with a combination, or with its score, is in its trial.
    """
    folder = find_folder(model)
    source = Path(model) if folder is None else folder.model
    out = None if output is None else Path(output)
    base = request or ResizeRequest({})
    inputs = None if base.inputs is None or isinstance(base.inputs, Mapping) else Path(base.inputs)
    targets = _labelled(specs)
    wanted = Wanted(
        source=source,
        specs={label: ResizeRequest(spec).target() for label, spec in targets.items()},
        space=Space(
            tuple(targets), tuple(methods), {name: tuple(values) for name, values in (options or {}).items()}, sampler
        ),
        base=base,
        scoring=read_scoring(score, minimize=minimize, inputs=inputs),
        study=_beside(out or Path(model)) if study is None else Path(study),
        teaching=recover,
        output=out,
        keep=None if keep is None else Path(keep),
        force=force,
        jobs=jobs,
        scheduler=scheduler,
        trials=trials,
        read=tuple(file for spec in targets.values() for file in ResizeRequest(spec).files()),
    )
    try:
        return run_sweep(wanted, _resized, progress)
    finally:
        _held.close()


def _beside(model: Path) -> Path:
    """The study where none is named: beside the model or its folder; of one of the hub, where the sweep is run."""
    if is_hub_name(str(model)):
        return Path(_STUDY)
    return (model.absolute() if model.is_dir() else model).with_name(_STUDY)


def _labelled(specs: Mapping[str, SpecLike] | Sequence[PathOrName]) -> dict[str, SpecLike]:
    """Specs by a label: the names of files, where no two have the same."""
    if isinstance(specs, Mapping):
        return dict(specs)
    short = [Path(name).stem if str(name).endswith(".json") else str(name) for name in specs]
    long = [str(name) for name in specs]
    labels = short if len(set(short)) == len(short) else long
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise SpecError(f"specs: {twice!r} stands there twice: give every spec once")
    return dict(zip(labels, specs, strict=True))


def _resized(source: str, request: ResizeRequest, output: Path) -> Made:
    """What a sweep calls in each of its processes, which open and analyse the source once."""
    report = _held.resize(source, request, output).report
    return Made(report.size_bytes, report.parameters, cosines_of(report))


_held: Final = HeldSource()  #: of this process; a process makes one trial at a time
