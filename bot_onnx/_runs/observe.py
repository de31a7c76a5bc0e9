"""Shapes as they are at run time: the graph runs twice in onnxruntime at different open sizes.

Only shapes (and the values of small integer tensors) are read, and no large weight: see
:mod:`bot_onnx._runs.fed_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from bot_onnx._canonical.control_flow import Body, bodies_of, entry_of, is_entry, is_join, nested_protos
from bot_onnx._canonical.spelling.seen import Observation
from bot_onnx._onnxfile.input_overrides import Given, InputSpec, given_to
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._ops import Move, measures, passes_on, record
from bot_onnx._ops.nodes import node_inputs
from bot_onnx._ops.walk import backward
from bot_onnx._runs.baked_lengths import baked_lengths
from bot_onnx._runs.fed_weights import LARGE, with_fed_weights, zeros
from bot_onnx._runs.inputs import SIZES, Pair, feeds, fitting, input_specs, open_sizes
from bot_onnx._runs.runtime import LOOP_SECONDS, EndlessError, run_within, session
from bot_onnx.errors import BotError, GraphError

INTEGERS = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})


def observe(model: ir.Model) -> Observation:
    """Run ``model`` at two open sizes and read the shape of every value.

    Raises:
        GraphError: onnxruntime cannot load or run it at any size that was tried.
    """
    arithmetic = shape_values(model.graph)
    bodies = bodies_of(model.graph)
    proto, blanks, watched = _instrumented(model, arithmetic, *_main(model.graph, bodies))
    given = given_to(model) or Given()
    specs = given.specs([spec for spec in input_specs(proto.graph) if spec.name not in blanks])
    serialised = proto.SerializeToString()
    limited = any(is_join(node) for node in model.graph)
    try:
        runner = session(serialised, shapes_first=True)
    except BotError:
        raise
    except Exception as error:  # onnxruntime's errors have no public base class
        raise GraphError(f"onnxruntime cannot load this model: {one_line(error)}") from error
    failure: Exception | None = None
    failed: list[dict[str, int]] = []  # the guesses meet: what failed is not run again
    fitted = fitting(proto, specs)
    guesses = (open_sizes(specs, baked_lengths(proto.graph), known, fitted) for known in given.sizes(specs))
    for sizes in chain.from_iterable(guesses):
        if any(run in failed for run in sizes):
            continue
        runs: list[dict[str, np.ndarray]] = []
        try:
            fed = [given.filled(feeds(specs, run)) for run in sizes]
            for inputs in fed if sizes[0] != sizes[1] else fed[:1]:
                runs.append(_run(runner, {**inputs, **blanks}, watched, limited))
            _same_axes(runs, arithmetic)
        except EndlessError:
            raise
        except Exception as error:
            failure = failure or error
            failed.extend(sizes[len(runs) : len(runs) + 1])
            continue
        runs = [runs[0], runs[-1]]  # one run says both where their sizes are the same
        for place in {(body.join, body.index): body for body in bodies.values() if body is not None}.values():
            _look_inside(model, arithmetic, place, bodies, fed, runs)
        seen = _merge(model, runs, fed, arithmetic)
        if not given_to(model) and not limited and not any(bodies.values()):
            _run_single(runner, specs, blanks, watched, seen, arithmetic)
        return seen
    told = "no input size to try" if failure is None else one_line(failure)
    raise GraphError(
        f"onnxruntime cannot run this model at any input size tried: {told}; say what it runs on with "
        "--input-shape NAME=1x3x64x64 or --inputs FILE.npz"
    )


def _run_single(
    runner: Any,
    specs: Sequence[InputSpec],
    blanks: Mapping[str, np.ndarray],
    watched: list[str],
    seen: Observation,
    arithmetic: set[str],
) -> None:
    """Note the shapes with a batch of one, in the same session; a graph that does not run so shows none."""
    inputs = {spec.name: with_single_batch(seen.shapes[spec.name]) for spec in specs}
    if all(shape == _first(seen.shapes[name]) for name, shape in inputs.items()):
        return
    try:
        fed = feeds([replace(spec, shape=inputs[spec.name]) for spec in specs], {})
        found = _run(runner, {**fed, **blanks}, watched, True)
    except Exception:  # onnxruntime's errors have no public base class
        return
    shapes = {**inputs, **_shapes(found, arithmetic)}
    seen.single.update({name: (seen.shapes[name], shape) for name, shape in shapes.items()})


def with_single_batch(pairs: tuple[Pair, ...]) -> tuple[int, ...]:
    """The shape of an input in the first run, its batch brought to 1.

    The batch is the first of several axes, where it took the sizes that are guessed for a batch.
    """
    shape = _first(pairs)
    return (1, *shape[1:]) if len(shape) > 1 and pairs[0] == SIZES[0] else shape


def _first(pairs: Sequence[Pair]) -> tuple[int, ...]:
    return tuple(size for size, _ in pairs)


def _shapes(found: Mapping[str, np.ndarray], arithmetic: set[str]) -> dict[str, tuple[int, ...]]:
    """Shape by name, of what an instrumented model gives."""
    return {name: tuple(map(int, array.shape if name in arithmetic else array)) for name, array in found.items()}


def shapes_at(model: ir.Model, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Run a model once and read the shape of every value.

    Args:
        model: an observed one.
        inputs: shapes to run it at, by input.

    Raises:
        GraphError: it does not run at them.
    """
    arithmetic = shape_values(model.graph)
    bodies = bodies_of(model.graph)
    proto, blanks, watched = _instrumented(model, arithmetic, *_main(model.graph, bodies))
    given = given_to(model) or Given()
    specs = [replace(spec, shape=inputs[spec.name]) for spec in input_specs(proto.graph) if spec.name not in blanks]
    fed = given.filled(feeds(specs, {}))
    try:
        found = [_run(session(proto.SerializeToString(), shapes_first=True), {**fed, **blanks}, watched, True)]
    except BotError:
        raise
    except Exception as error:  # onnxruntime's errors have no public base class
        raise GraphError(f"onnxruntime cannot run this model at other sizes: {one_line(error)}") from error
    for place in {(body.join, body.index): body for body in bodies.values() if body is not None}.values():
        _look_inside(model, arithmetic, place, bodies, [fed], found)
    shapes = {name: tuple(map(int, array.shape)) for name, array in fed.items()}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        shapes[name] = tuple(value.const_value.shape.numpy())
    return shapes | _shapes(found[0], arithmetic)


def shape_values(graph: ir.Graph) -> set[str]:
    """Names of values computed from shapes and integer constants alone."""
    known = {
        name
        for name, value in graph.initializers.items()
        if value.dtype in INTEGERS and value.const_value is not None and value.const_value.size <= LARGE
    }
    computed: set[str] = set()
    for node in graph:
        if measures(node):
            computed.update(o.name or "" for o in node.outputs)
        elif record(node).shapes and node.inputs:
            given = (
                node.inputs[:1] if passes_on(node, Move.CAST) else node.inputs
            )  # whose type a CastLike takes is all one
            inputs = [i for i in given if i is not None]
            if all(_is_shape_input(i, computed, known) for i in inputs):
                computed.update(o.name or "" for o in node.outputs)
    return computed


def _is_shape_input(value: ir.Value, computed: set[str], known: set[str]) -> bool:
    if value.name in computed or value.name in known:
        return True
    return value.const_value is not None and value.const_value.size == 1


def _main(graph: ir.Graph, bodies: dict[ir.Node, Body | None]) -> tuple[list[onnx.NodeProto], list[str]]:
    """Nodes to run, bodies in their places, and the values outside of bodies."""
    outside = [node for node in graph if bodies[node] is None and not is_entry(node)]
    return nested_protos(graph), _names(outside)


def _inside(graph: ir.Graph, place: Body, bodies: dict[ir.Node, Body | None]) -> tuple[list[onnx.NodeProto], list[str]]:
    """Nodes that compute the values in a body, which is run as if the way led there, and these values."""
    inlined: list[Body] = []
    around: Body | None = place
    while around is not None:
        inlined.append(around)
        around = bodies[around.join]
    members = [
        node
        for node, body in bodies.items()
        if body is not None and (body.join, body.index) == (place.join, place.index) and not is_entry(node)
    ]
    entry = entry_of(place.join)
    watched = [*([entry] if entry is not None else []), *members]
    read = backward([value for node in watched for value in node_inputs(node)], lambda _: True, node_inputs)
    needed = {*watched, *(value.producer() for value in read)}
    return nested_protos([node for node in graph if node in needed], inlined), _names(watched)


def _names(nodes: list[ir.Node]) -> list[str]:
    return [output.name for node in nodes for output in node.outputs if output.name and not holds_sequence(output)]


def holds_sequence(value: ir.Value) -> bool:
    """Whether a value is no tensor, but a sequence of tensors or an optional one: it has no shape."""
    if isinstance(value.type, ir.SequenceType | ir.OptionalType):
        return True
    node = value.producer()
    return node is not None and record(node).sequences


def _said_to_be_sequences(graph: ir.Graph) -> list[ir.Value]:
    return [
        output
        for node in graph
        if not record(node).sequences
        for output in node.outputs
        if output.name and holds_sequence(output)
    ]


def _look_inside(
    model: ir.Model,
    arithmetic: set[str],
    place: Body,
    bodies: dict[ir.Node, Body | None],
    fed: list[dict[str, np.ndarray]],
    runs: list[dict[str, np.ndarray]],
) -> None:
    """Add what both runs show inside a body to ``runs``; a body that does not run on these inputs stays unseen."""
    proto, blanks, watched = _instrumented(model, arithmetic, *_inside(model.graph, place, bodies))
    try:
        runner = session(proto.SerializeToString(), shapes_first=True)
        inner = [_run(runner, {**inputs, **blanks}, watched, True) for inputs in fed]
    except BotError:
        raise
    except Exception:  # onnxruntime's errors have no public base class
        return
    for outer, found in zip(runs, inner, strict=True):
        outer.update(found)


def _instrumented(
    model: ir.Model, arithmetic: set[str], nodes: list[onnx.NodeProto], watched: list[str]
) -> tuple[onnx.ModelProto, dict[str, np.ndarray], list[str]]:
    """Model of ``nodes`` that outputs the shapes of ``watched`` (or values, if in ``arithmetic``); weights are inputs.

    Returns the model, the zeros to feed, and the values watched, in order of the outputs; sequences come behind them.
    """
    proto, weights = with_fed_weights(model, nodes)
    graph = proto.graph
    made = {name for node in nodes for name in node.output}
    for name in watched:
        fetched = name
        if name not in arithmetic:
            fetched = f"{name}//shape"
            graph.node.append(onnx.helper.make_node("Shape", [name], [fetched]))
        graph.output.append(onnx.ValueInfoProto(name=fetched))
    # A value that the file alone calls a sequence: onnxruntime refuses to load it where it is none.
    graph.output.extend(ir.to_proto(value) for value in _said_to_be_sequences(model.graph) if value.name in made)
    return proto, zeros(weights), watched


def _run(runner: Any, inputs: dict[str, np.ndarray], watched: list[str], limited: bool) -> dict[str, np.ndarray]:
    found = run_within(runner, inputs, LOOP_SECONDS) if limited else runner.run(None, inputs)
    return dict(zip(watched, found, strict=False))  # sequences come behind


def _same_axes(runs: Sequence[Mapping[str, np.ndarray]], arithmetic: set[str]) -> None:
    """Refuse sizes at which a value has more axes in one run than in another (Squeeze of whatever is 1).

    Raises:
        GraphError: naming the value.
    """
    for name in runs[0]:
        ranks = [(run[name].ndim if name in arithmetic else len(run[name])) for run in runs]
        if len(set(ranks)) > 1:
            raise GraphError(f"{name!r} has {ranks[0]} axes at one size and {ranks[-1]} at another")


def _merge(
    model: ir.Model, runs: list[dict[str, np.ndarray]], fed: list[dict[str, np.ndarray]], arithmetic: set[str]
) -> Observation:
    shapes: dict[str, tuple[Pair, ...]] = {}
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        shapes[name] = tuple((size, size) for size in value.const_value.shape.numpy())
    for name in fed[0]:
        shapes[name] = _paired(fed[0][name].shape, fed[1][name].shape)
    for name, first in runs[0].items():
        second = runs[1][name]
        if name in arithmetic:
            shapes[name] = _paired(first.shape, second.shape)
            values[name] = (first, second)
        else:
            shapes[name] = _paired(first.tolist(), second.tolist())
    return Observation(shapes, values)


def _paired(first: Sequence[int], second: Sequence[int]) -> tuple[Pair, ...]:
    return tuple((int(a), int(b)) for a, b in zip(first, second, strict=True))
