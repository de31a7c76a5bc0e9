"""The sizes of inputs at which costs are counted: those that were given, else the smallest that a user would run."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from bot_onnx._canonical.spelling.seen import Observation
from bot_onnx._onnxfile.input_overrides import given_to
from bot_onnx._runs.observe import shapes_at, with_single_batch
from bot_onnx.errors import GraphError

Shape = tuple[int, ...]


def natural_shapes(model: ir.Model, observed: Observation) -> tuple[dict[str, Shape], Mapping[str, Shape]]:
    """Shapes of the inputs, and of every value there.

    The analysis ran at batches of two and three, so that a batch is told from an axis that is not there. Nobody pays
    for that: where nothing was given, the batch is one, all else is as in the first of the two runs. A network that
    does not run so is counted as it was seen. It is run again only where the analysis has put other values into the
    graph than those that it saw.

    Args:
        model: the analysed model.
        observed: what its runs showed.
    """
    first = {name: tuple(size for size, _ in pairs) for name, pairs in observed.shapes.items()}
    names = [name for value in model.graph.inputs if (name := value.name or "") in first]
    inputs = {name: first[name] for name in names}
    single = {name: with_single_batch(observed.shapes[name]) for name in names}
    if given_to(model) or single == inputs:
        return inputs, first
    seen = _seen(model.graph, observed)
    if seen is not None:
        return single, seen
    try:
        return single, shapes_at(model, single)
    except GraphError:
        return inputs, first


def _seen(graph: ir.Graph, observed: Observation) -> dict[str, Shape] | None:
    """Shapes with a batch of one as they were seen; None where a value was not, or its name is another's by now."""
    shapes = {name: shape for name, (pairs, shape) in observed.single.items() if pairs == observed.shapes[name]}
    made = (output.name for node in graph for output in node.outputs)
    if any(name in observed.shapes and name not in shapes for name in made if name is not None):
        return None
    for name, value in graph.initializers.items():
        assert value.const_value is not None
        shapes[name] = tuple(value.const_value.shape.numpy())
    return shapes
