"""Running a model at two input sizes, and the same inputs through the model that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import onnx

from bot_onnx.errors import MissingRuntimeError
from bot_onnx.graph.baked_lengths import baked_lengths
from bot_onnx.graph.given import Given
from bot_onnx.graph.inputs import InputSpec, input_specs
from bot_onnx.graph.reader import Source
from bot_onnx.graph.tensor_protos import one_line
from bot_onnx.verify.comparison import AxisMapping, Incomparable, compare
from bot_onnx.verify.feeding import Feeds, batches, candidate_shapes, index_ranges
from bot_onnx.verify.outputs import OutputAxes, is_float
from bot_onnx.verify.runner import Runner
from bot_onnx.verify.types import Check, OutputComparison

_RANGE_OF_MASKS = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """Inputs of both runs and what came out, by name."""

    feeds: list[Feeds]
    results: list[dict[str, Any]]


def run_model(
    source: Source,
    readable: str,
    *,
    observed: Mapping[str, tuple[tuple[int, int], ...]] | None,
    reference: Source | None,
    seed: int,
) -> tuple[Trial | None, list[Check]]:
    """Load the model in onnxruntime and run it at two input sizes.

    Args:
        source: the model.
        readable: path that opens its file.
        observed: input sizes at which the analysis ran it, per axis a pair; None: sizes are guessed.
        reference: a model to which the inputs must make sense as well.
        seed: of the inputs.

    Returns:
        The trial (None if it did not run) and the checks ``load`` and ``run``.
    """
    try:
        runner = Runner(source, readable)
    except MissingRuntimeError:
        raise
    except Exception as error:  # onnxruntime's errors have no public base class
        told = one_line(error).replace(readable, str(source.path))
        return None, [Check("load", "fail", f"onnxruntime refuses it: {told}")]
    try:
        loaded = Check("load", "pass", "onnxruntime loads it")
        trial, failure = _first_that_runs(runner, source, observed, reference, seed)
    finally:
        runner.close()
    if trial is None:
        return None, [loaded, Check("run", "fail", f"onnxruntime cannot run it: {failure}")]
    sizes = " and ".join(_sizes(feeds) for feeds in trial.feeds)
    return trial, [loaded, Check("run", "pass", f"runs at {sizes}")]


def _first_that_runs(
    runner: Runner,
    source: Source,
    observed: Mapping[str, tuple[tuple[int, int], ...]] | None,
    reference: Source | None,
    seed: int,
) -> tuple[Trial | None, str]:
    """Try real-looking inputs first, then integers from {0, 1}, which every table and mask admits."""
    failure: Exception | None = None
    graph, given = source.proto.graph, source.given or Given()
    try:
        specs = given.specs(input_specs(graph))
        ranges = index_ranges(graph)
        for name, rows in index_ranges(reference.proto.graph).items() if reference is not None else ():
            ranges[name] = min(rows, ranges.get(name, rows))
        guesses = (candidate_shapes(specs, observed, baked_lengths(graph), known) for known in given.sizes(specs))
        for shapes in chain.from_iterable(guesses):
            for chosen in (ranges, _narrow(specs, ranges)):
                fed = [given.filled(feeds) for feeds in batches(specs, shapes, chosen, seed)]
                try:
                    return Trial(fed, [runner.run(feeds) for feeds in fed]), ""
                except Exception as error:
                    failure = failure or error
    except Exception as error:  # inputs that are no tensors
        failure = failure or error
    return None, "no input size to try" if failure is None else one_line(failure)


def _narrow(specs: Sequence[InputSpec], ranges: Mapping[str, int]) -> dict[str, int]:
    return {spec.name: min(_RANGE_OF_MASKS, ranges.get(spec.name, _RANGE_OF_MASKS)) for spec in specs}


def compare_with(
    reference: Source,
    readable: str,
    trial: Trial | None,
    graph: onnx.GraphProto,
    axes: Mapping[str, OutputAxes],
    mapping: AxisMapping | None,
) -> tuple[Check, tuple[OutputComparison, ...]]:
    """Run the reference on a trial's inputs and compare the outputs that both have.

    Args:
        reference: the model to compare with. readable: path that opens its file.
        trial: of the checked model. graph: its graph.
        axes: what the axes of its outputs mean, by output.
        mapping: see :func:`bot_onnx.verify.comparison.compare`.
    """
    reason = "the model does not run" if trial is None else _incompatible(input_specs(graph), reference.proto.graph)
    if trial is None or reason is not None:
        return Check("comparison", "skip", str(reason)), ()
    try:
        runner = Runner(reference, readable, mapped=True)
        try:
            theirs = [runner.run(feeds) for feeds in trial.feeds]
        finally:
            runner.close()
    except MissingRuntimeError:
        raise
    except Exception as error:
        return Check("comparison", "skip", f"{reference.path.name} does not run on these inputs: {one_line(error)}"), ()
    made: list[OutputComparison] = []
    left_out: list[str] = []
    for name, first in trial.results[0].items():
        if name not in theirs[0] or not (is_float(first) and is_float(theirs[0][name])):
            left_out.append(f"{name!r}: no output of floats in both")
            continue
        try:
            ours = [outputs[name] for outputs in trial.results]
            made.append(compare(name, ours, [outputs[name] for outputs in theirs], axes.get(name), mapping))
        except Incomparable as why:
            left_out.append(f"{name!r}: {why}")
    return _verdict(made, left_out), tuple(made)


def _verdict(made: Sequence[OutputComparison], left_out: Sequence[str]) -> Check:
    told = [
        f"{entry.output} cosine {entry.cosine:.4f}"
        + ("" if entry.divergence is None else f", KL {entry.divergence:.4g} nats")
        for entry in made
    ]
    detail = "; ".join([*told[:3], *(f"not compared: {reason}" for reason in left_out[:3])])
    return Check("comparison", "pass" if made else "skip", detail or "there are no outputs")


def _incompatible(specs: Sequence[InputSpec], other: onnx.GraphProto) -> str | None:
    """Why the inputs of one model do not suit another, or None."""
    theirs = {spec.name: spec for spec in input_specs(other)}
    ours = {spec.name: spec for spec in specs}
    if theirs.keys() != ours.keys():
        only = sorted(theirs.keys() ^ ours.keys())
        return f"the models have different inputs: {', '.join(only[:3])} in one of them only"
    for name, spec in ours.items():
        shape = theirs[name].shape
        clash = len(shape) != len(spec.shape) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(shape, spec.shape, strict=True)
        )
        if clash or theirs[name].dtype != spec.dtype:
            return f"input {name!r} differs: {spec.dtype} {list(spec.shape)}, {theirs[name].dtype} {list(shape)}"
    return None


def _sizes(feeds: Feeds) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in feeds.items())
