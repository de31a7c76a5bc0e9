"""The sizes of inputs at which costs are counted: those that were given, else the smallest that a user would run."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from bot_onnx._onnxfile.input_overrides import given_to
from bot_onnx._runs.inputs import SIZES, Pair
from bot_onnx._runs.observe import shapes_at
from bot_onnx.errors import GraphError

Shape = tuple[int, ...]


def natural_shapes(
    model: ir.Model, observed: Mapping[str, tuple[Pair, ...]]
) -> tuple[dict[str, Shape], Mapping[str, Shape]]:
    """Shapes of the inputs, and of every value there.

    The analysis ran at batches of two and three, so that a batch is told from an axis that is not there. Nobody pays
    for that: where nothing was given, the batch is one, all else is as in the first of the two runs. A network that
    does not run so is counted as it was seen.

    Args:
        model: the analysed model.
        observed: sizes in the two runs of the analysis, by value.
    """
    first = {name: tuple(size for size, _ in pairs) for name, pairs in observed.items()}
    inputs = {
        name: first[name] for value in model.graph.inputs if (name := value.name or "") in first
    }  # fmt: skip
    single = {name: _single(shape, observed[name]) for name, shape in inputs.items()}
    if given_to(model) or single == inputs:
        return inputs, first
    try:
        return single, shapes_at(model, single)
    except GraphError:
        return inputs, first


def _single(shape: Shape, pairs: tuple[Pair, ...]) -> Shape:
    """A shape with a batch of one: the first of several axes, where it took the sizes that are guessed for a batch."""
    return (1, *shape[1:]) if len(shape) > 1 and pairs[0] == SIZES[0] else shape
