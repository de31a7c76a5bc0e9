"""How long a run takes in onnxruntime: the median of some, on the CPU, with a number of threads that is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._align import align
from bot_onnx._onnxfile.writer import write_model
from bot_onnx._resample import MethodOptions
from bot_onnx._runs.inputs import input_specs
from bot_onnx._runs.runtime import session
from bot_onnx._runs.timing import median_times
from bot_onnx._surgery.execute import resampled
from bot_onnx._surgery.planner import Prepared
from bot_onnx._verify.feeding import batches, index_ranges

_WARM, _FEWEST, _MOST = 2, 9, 200  #: runs
_LONG: Final = 0.6  #: seconds after which no more runs are made than must be
_STD: Final = 0.02  #: of random weights, as trainers draw them


def median_seconds(path: Path, shapes: Mapping[str, tuple[int, ...]], threads: int) -> float:
    """Median time of a run.

    Args:
        path: of the model.
        shapes: of its inputs, for what is set at run time.
        threads: of one operator.

    Raises:
        Exception: whatever onnxruntime raises.
    """
    graph = onnx.load(path, load_external_data=False).graph
    specs = input_specs(graph)
    wanted = {
        spec.name: tuple(
            dim if isinstance(dim, int) else shapes[spec.name][axis] for axis, dim in enumerate(spec.shape)
        )
        for spec in specs
    }
    (feeds,) = batches(specs, [wanted], index_ranges(graph), seed=0)
    runner = session(str(path), optimise=True, threads=threads, arena=True)
    for _ in range(_WARM):
        runner.run(None, feeds)
    times = median_times({"": lambda: runner.run(None, feeds)}, fewest=_FEWEST, most=_MOST, seconds=_LONG)
    return times[""]


def write_random(prepared: Prepared, options: MethodOptions, path: Path) -> None:
    """Write a planned network with random weights: as fast as the real one, and made without reading the source's.

    Args:
        prepared: the plan.
        options: of its method.
        path: of the model.
    """
    write_model(prepared.proto, prepared.slots, _random(prepared, options), path, external=prepared.plan.external)


def _random(prepared: Prepared, options: MethodOptions) -> Iterator[tuple[str, NDArray[Any]]]:
    """Normal(0, 0.02) for matrices, tables that follow from formulas or hold integers as the method makes them."""
    rng = np.random.default_rng(0)
    aligned = align(prepared.alignment, prepared.tensors)
    plan = prepared.plan
    for stack in plan.stacks:
        dtype = ir.DataType[stack.dtype]
        drawn = stack.closed_form is None and dtype.is_floating_point()
        layers = None if drawn else resampled((stack,), plan.method, plan.seed, options, aligned.read, np)
        for name in stack.targets:
            values = (
                rng.standard_normal(stack.task.target_shape, np.float32) * _STD if layers is None else next(layers)[0]
            )
            yield name, np.asarray(np.abs(values) if stack.positive else values).astype(dtype.numpy(), copy=False)
