"""Running a model at two input sizes, and the same inputs through the model that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import onnx

from bot_onnx._onnxfile.input_overrides import Given, InputSpec
from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._runs.baked_lengths import baked_lengths
from bot_onnx._runs.inputs import fitting, input_specs
from bot_onnx._verify.carrying import Incomparable, Mismatch
from bot_onnx._verify.comparison import compare
from bot_onnx._verify.descent import UNKNOWN, Descent
from bot_onnx._verify.feeding import Feeds, Shape, batches, candidate_shapes, index_ranges
from bot_onnx._verify.outputs import OutputAxes
from bot_onnx._verify.runner import Runner
from bot_onnx._verify.types import Check, OutputComparison
from bot_onnx.errors import MissingRuntimeError

_RANGE_OF_MASKS = 2


@dataclass(frozen=True, slots=True)
class Trial:
    """Inputs of both runs and what came out, by name.

    ``given`` are the inputs that the source is given for them; ``ungiven`` says why it cannot be given any;
    ``cuda`` that they ran, and it is to run, on a CUDA device where onnxruntime can; ``fell_back`` that it could not.
    """

    feeds: list[Feeds]
    given: list[Feeds]
    results: list[dict[str, Any]]
    ungiven: str | None = None
    cuda: bool = False
    fell_back: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """The same inputs through the model to compare with.

    Attributes:
        outputs: of every output that could be compared.
        left_out: why others could not, in sentences.
        faults: what is not as planned in others, so that they could not, in sentences.
        skipped: why none could, or None.
        apart: axes whose sizes differ, of outputs with a fault that is nothing else.
        fell_back: it was to run on a CUDA device, and ran on the CPU.
    """

    outputs: tuple[OutputComparison, ...] = ()
    left_out: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    skipped: str | None = None
    apart: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fell_back: bool = False


def run_model(
    source: Source,
    readable: str,
    *,
    observed: Mapping[str, tuple[tuple[int, int], ...]] | None,
    reference: Source | None,
    seed: int,
    descent: Descent = UNKNOWN,
    cuda: bool = False,
) -> tuple[Trial | None, list[Check]]:
    """Load the model in onnxruntime and run it at two input sizes.

    Args:
        source: the model.
        readable: path that opens its file.
        observed: input sizes at which the analysis ran it, per axis a pair; None: sizes are guessed.
        reference: a model to which the inputs must make sense as well.
        seed: of the inputs.
        descent: how the model came from the reference: inputs along resized axes are drawn at its sizes and carried.
        cuda: run it, and later the reference, on a CUDA device where onnxruntime can.

    Returns:
        The trial (None if it did not run) and the checks ``load`` and ``run``.
    """
    try:
        runner = Runner(source, readable, cuda=cuda)
    except MissingRuntimeError:
        raise
    except Exception as error:  # onnxruntime's errors have no public base class
        told = one_line(error).replace(readable, str(source.path))
        return None, [Check("load", "fail", f"onnxruntime refuses it: {told}")]
    try:
        loaded = Check("load", "pass", "onnxruntime loads it")
        trial, failure = _first_that_runs(runner, source, observed, reference, seed, descent)
        trial = trial if trial is None else replace(trial, cuda=cuda, fell_back=runner.fell_back)
    finally:
        runner.close()
    if trial is None:
        return None, [loaded, Check("run", "fail", f"onnxruntime cannot run it: {failure}")]
    sizes = " and ".join(_sizes(feeds) for feeds in trial.feeds)
    where = ", on the CPU: CUDA did not take it" if trial.fell_back else ""
    return trial, [loaded, Check("run", "pass", f"runs at {sizes}{where}")]


def _first_that_runs(
    runner: Runner,
    source: Source,
    observed: Mapping[str, tuple[tuple[int, int], ...]] | None,
    reference: Source | None,
    seed: int,
    descent: Descent,
) -> tuple[Trial | None, str]:
    """Try real-looking inputs first, then integers from {0, 1}, which every table and mask admits."""
    failure: Exception | None = None
    graph, told = source.proto.graph, source.given or Given()
    try:
        specs = told.specs(input_specs(graph))
        ranges = index_ranges(graph)
        theirs = index_ranges(reference.proto.graph) if reference is not None else {}
        for name, rows in ((spec.name, theirs.get(descent.partner(spec.name) or "")) for spec in specs):
            if rows is not None:
                ranges[name] = min(rows, ranges.get(name, rows))
        fitted, lengths = fitting(source.proto, specs), baked_lengths(graph)
        guesses = (candidate_shapes(specs, observed, lengths, known, fitted) for known in told.sizes(specs))
        for shapes in chain.from_iterable(guesses):
            for chosen in (ranges, _narrow(specs, ranges)):
                try:
                    given, fed, ungiven = _inputs(specs, shapes, chosen, seed, descent, told)
                    return Trial(fed, given, [runner.run(feeds) for feeds in fed], ungiven), ""
                except Exception as error:
                    failure = failure or error
    except Exception as error:  # inputs that are no tensors
        failure = failure or error
    return None, "no input size to try" if failure is None else one_line(failure)


def _inputs(
    specs: Sequence[InputSpec],
    shapes: Sequence[Mapping[str, Shape]],
    ranges: Mapping[str, int],
    seed: int,
    descent: Descent,
    told: Given,
) -> tuple[list[Feeds], list[Feeds], str | None]:
    """Inputs for the source, the same for the model, and why there are none for the source."""
    try:
        drawn = [
            descent.in_source_ids(told.filled(feeds))
            for feeds in batches(specs, [descent.shapes_before(entry) for entry in shapes], ranges, seed)
        ]
        given = [descent.given(feeds) for feeds in drawn]
        return given, [descent.feeds(feeds) for feeds in given], None
    except Incomparable as why:
        return (
            [],
            [told.filled(feeds) for feeds in batches(specs, shapes, ranges, seed)],
            f"an input is of another size: {why}",
        )


def _narrow(specs: Sequence[InputSpec], ranges: Mapping[str, int]) -> dict[str, int]:
    return {spec.name: min(_RANGE_OF_MASKS, ranges.get(spec.name, _RANGE_OF_MASKS)) for spec in specs}


def compare_with(
    reference: Source,
    readable: str,
    trial: Trial | None,
    graph: onnx.GraphProto,
    axes: Mapping[str, OutputAxes],
    descent: Descent = UNKNOWN,
) -> Compared:
    """Run the reference on a trial's inputs and compare the outputs that both have.

    Args:
        reference: the model to compare with. readable: path that opens its file.
        trial: of the checked model. graph: its graph.
        axes: what the axes of its outputs mean, by output.
        descent: how the model came from the reference.
    """
    if trial is None:
        return Compared(skipped="the model does not run")
    reason = trial.ungiven or _incompatible(input_specs(graph), reference.proto.graph, descent)
    if reason is not None:
        return Compared(skipped=reason)
    try:
        theirs, fell_back = run_source(reference, readable, trial, descent)
    except MissingRuntimeError:
        raise
    except Exception as error:
        return Compared(skipped=f"{reference.path.name} does not run on these inputs: {one_line(error)}")
    made, left_out, faults, apart = _held(trial, theirs, axes, descent)
    had = {descent.partner(name) for name in trial.results[0]}
    faults += [f"{name!r}: the model has no such output" for name in theirs[0] if name not in had]
    nothing = None if made or left_out or faults else "there are no outputs"
    return Compared(tuple(made), tuple(left_out), tuple(faults), nothing, apart, fell_back)


def _held(
    trial: Trial, theirs: Sequence[Mapping[str, Any]], axes: Mapping[str, OutputAxes], descent: Descent
) -> tuple[list[OutputComparison], list[str], list[str], dict[str, tuple[int, ...]]]:
    """Every output against the source's: comparisons, what could not be compared, what is not as planned; see apart."""
    made: list[OutputComparison] = []
    left_out: list[str] = []
    faults: list[str] = []
    apart: dict[str, tuple[int, ...]] = {}
    for name in trial.results[0]:
        partner = descent.partner(name)
        if partner is None:  # of a layer that was added
            continue
        if partner not in theirs[0]:
            left_out.append(f"{name!r}: the source has no such output")
            continue
        try:
            ours = _arrays(trial.results, name)
            other = [descent.in_own_ids(name, array) for array in _arrays(theirs, partner)]
            if len(ours) != len(other):
                raise Mismatch("it holds another number of tensors")
            told = axes.get(name, OutputAxes((), logits=False))
            way = descent.way(name)
            made.append(compare(name, ours, other, way, logits=told.logits, least_scale=told.least_scale))
        except Mismatch as why:
            faults.append(f"{name!r}: {why}")
            if why.axes:
                apart[name] = why.axes
        except Incomparable as why:
            left_out.append(f"{name!r}: {why}")
    return made, left_out, faults, apart


def run_source(
    reference: Source, readable: str, trial: Trial, descent: Descent, show: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], bool]:
    """What the reference gives for a trial's inputs; with ``show``, inner values by name instead of its outputs.

    Returns:
        The values, run by run, and whether it was to run on a CUDA device and ran on the CPU.

    Raises:
        Exception: whatever onnxruntime raises.
    """
    runner = Runner(reference, readable, mapped=True, show=show, cuda=trial.cuda)
    try:
        names = {spec.name for spec in input_specs(reference.proto.graph)}
        renamed = ({descent.partner(name): array for name, array in feeds.items()} for feeds in trial.given)
        found = [runner.run({n: array for n, array in feeds.items() if n in names}) for feeds in renamed]
        return found, runner.fell_back
    finally:
        runner.close()


def _arrays(runs: Sequence[Mapping[str, Any]], name: str) -> list[np.ndarray[Any, Any]]:
    """An output over all runs; of a sequence of tensors every one."""
    found: list[np.ndarray[Any, Any]] = []
    for outputs in runs:
        value = outputs[name]
        for array in value if isinstance(value, list) else [value]:
            if not isinstance(array, np.ndarray):
                raise Incomparable("it is no tensor")
            found.append(array)
    return found


def _incompatible(specs: Sequence[InputSpec], other: onnx.GraphProto, descent: Descent) -> str | None:
    """Why the inputs of one model do not suit another, or None."""
    theirs = {spec.name: spec for spec in input_specs(other)}
    ours = {partner: spec for spec in specs if (partner := descent.partner(spec.name)) is not None}
    if theirs.keys() != ours.keys():
        only = sorted(theirs.keys() ^ ours.keys())
        return f"the models have different inputs: {', '.join(only[:3])} in one of them only"
    for name, spec in ours.items():
        shape, axes = theirs[name].shape, descent.input_axes(spec.name)
        clash = len(shape) != len(spec.shape) or any(
            isinstance(a, int) and isinstance(b, int) and a != b and axis is None
            for a, b, axis in zip(shape, spec.shape, axes or (None,) * len(shape), strict=True)
        )
        if clash or theirs[name].dtype != spec.dtype:
            return f"input {name!r} differs: {spec.dtype} {list(spec.shape)}, {theirs[name].dtype} {list(shape)}"
    return None


def _sizes(feeds: Feeds) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in feeds.items())
