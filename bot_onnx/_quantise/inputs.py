"""What two files are compared on: samples, inputs that are given, or ones that are made up."""

from __future__ import annotations

from dataclasses import dataclass

from bot_onnx._analysis.passes import Analysis
from bot_onnx._onnxfile.reader import Source
from bot_onnx._quantise.convert import BATCH
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._verify.feeding import Feeds
from bot_onnx._verify.trial import run_model
from bot_onnx.errors import GraphError


@dataclass(frozen=True, slots=True)
class Drawn:
    """Inputs, batch by batch, what they are in words, and whether no data were given for them."""

    batches: tuple[Feeds, ...]
    words: str
    made_up: bool


def draw(source: Source, analysis: Analysis, samples: Samples | None) -> Drawn:
    """Choose the inputs.

    Raises:
        GraphError: the model does not run.
    """
    if samples is not None:
        filled = f" (it takes {samples.chunk} at a time: the last are repeated to that)" if samples.unfilled else ""
        return Drawn(tuple(samples.batches(BATCH)), f"{len(samples):,} samples of the calibration data{filled}", False)
    trial, checks = run_model(
        source, str(source.files[0]), observed=analysis.context.observed.shapes, reference=None, seed=0
    )
    if trial is None:
        raise GraphError(next(check.detail for check in checks if check.status == "fail"))
    shapes = " and ".join(
        ", ".join(f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in feeds.items())
        for feeds in trial.feeds
    )
    arrays = source.given.arrays if source.given is not None else {}
    made = [name for name in trial.feeds[0] if name not in arrays]
    if not made:
        return Drawn(tuple(trial.feeds), f"the inputs given ({shapes})", False)
    all_of_them = len(made) == len(trial.feeds[0])
    which = "inputs that are made up" if all_of_them else f"inputs of which {', '.join(made)} are made up"
    return Drawn(tuple(trial.feeds), f"{which} ({shapes})", True)
