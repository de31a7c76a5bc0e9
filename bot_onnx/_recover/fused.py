"""What an exporter spelled in many ops, as the one call of PyTorch that it came from.

Layer norms, GELUs by the error function, and products with their bias: fewer passes over memory, forwards and
backwards. Nothing is joined that anything else reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bot_onnx._recover.carried.registry import Call, Step, carries
from bot_onnx._recover.extras import torch

LINEAR, GELU, NORM = "fused linear", "fused gelu", "fused norm"
_CLOSE = 1e-6


@carries(LINEAR)
def _linear(step: Step) -> Call:
    function = torch().nn.functional.linear
    return lambda x, weight, bias: function(x, weight.t(), bias)


@carries(GELU)
def _gelu(step: Step) -> Call:
    found: Call = torch().nn.functional.gelu
    return found


@carries(NORM)
def _norm(step: Step) -> Call:
    function, epsilon = torch().nn.functional.layer_norm, float(step.attributes["epsilon"])
    return lambda x, scale, bias=None: function(x, scale.shape, scale, bias, epsilon)


class _Graph:
    """Steps by what they make and read.

    Args:
        steps: in order. shapes: of weights and constants. shown: values that must be there in the end.
    """

    def __init__(self, steps: Sequence[Step], shapes: Mapping[str, tuple[int, ...]], shown: set[str]) -> None:
        self.steps = list(steps)
        self.shapes, self._shown = shapes, shown
        self._makers = {name: step for step in steps for name in step.outputs}
        self._readers: dict[str, list[Step]] = {}
        for step in steps:
            for name in step.inputs:
                self._readers.setdefault(name, []).append(step)

    def maker(self, name: str, op: str) -> Step | None:
        """The step of an op that makes a value."""
        found = self._makers.get(name)
        return found if found is not None and found.op == op else None

    def reader(self, name: str, op: str) -> Step | None:
        """The one step that reads a value, if it is of an op."""
        found = self._readers.get(name, [])
        return found[0] if len(found) == 1 and found[0].op == op and name not in self._shown else None

    def inner(self, steps: Sequence[Step], last: Step) -> bool:
        """Whether all that the steps make but the last is read by these steps alone."""
        known = {id(step) for step in (*steps, last)}
        for step in steps:
            for name in step.outputs:
                if step is last:
                    continue
                if name in self._shown or any(id(reader) not in known for reader in self._readers.get(name, [])):
                    return False
        return True

    def replace(self, gone: Sequence[Step], last: Step, made: Step) -> None:
        """Put one step in the place of some."""
        dropped = {id(step) for step in gone}
        self.steps = [made if step is last else step for step in self.steps if step is last or id(step) not in dropped]
        fresh = _Graph(self.steps, self.shapes, self._shown)
        self._makers, self._readers = fresh._makers, fresh._readers

    def scalar(self, step: Step, place: int) -> float | None:
        """The constant number at a place."""
        found = step.constant(place)
        return float(found) if found is not None and found.numel() == 1 else None

    def times(self, step: Step, number: float) -> str | None:
        """What a product with a number multiplies, either way round."""
        for place in (0, 1):
            found = self.scalar(step, place)
            if found is not None and math.isclose(found, number, rel_tol=_CLOSE):
                return step.inputs[1 - place]
        return None


def fuse(steps: Sequence[Step], shapes: Mapping[str, tuple[int, ...]], shown: set[str]) -> list[Step]:
    """The same network in fewer steps.

    Args:
        steps: in order.
        shapes: of weights and constants, by name.
        shown: names of the values that must be there in the end.
    """
    graph = _Graph(steps, shapes, shown)
    for join in (_join_norm, _join_gelu, _join_linear):
        for step in steps:
            join(graph, step)
    return graph.steps


def _other(step: Step, name: str) -> str:
    return step.inputs[1] if step.inputs[0] == name else step.inputs[0]


def _made(op: str, inputs: Sequence[str], last: Step, **attributes: Any) -> Step:
    return Step(op, list(inputs), last.outputs, attributes, last.opset, last.constants)


def _join_linear(graph: _Graph, product: Step) -> None:
    if product.op != "MatMul":
        return
    weight = product.inputs[1]
    added = graph.reader(product.outputs[0], "Add")
    if added is None or len(graph.shapes.get(weight, ())) != 2:
        return
    bias = _other(added, product.outputs[0])
    if graph.shapes.get(bias) == graph.shapes[weight][1:]:
        graph.replace([product], added, _made(LINEAR, [product.inputs[0], weight, bias], added))


def _join_norm(graph: _Graph, quotient: Step) -> None:
    """(x - mean) / sqrt(mean((x - mean)²) + ε) · scale + bias, over the last axis."""
    if quotient.op != "Div":
        return
    centred, root = graph.maker(quotient.inputs[0], "Sub"), graph.maker(quotient.inputs[1], "Sqrt")
    moved = graph.maker(root.inputs[0], "Add") if root is not None else None
    if centred is None or root is None or moved is None:
        return
    variance = next((found for name in moved.inputs if (found := graph.maker(name, "ReduceMean"))), None)
    epsilon = next((number for place in (0, 1) if (number := graph.scalar(moved, place)) is not None), None)
    mean = graph.maker(centred.inputs[1], "ReduceMean")
    if variance is None or epsilon is None or mean is None or not all(map(_last_axis, (variance, mean))):
        return
    x = centred.inputs[0]
    square = _square(graph, variance.inputs[0])
    if square is None or mean.inputs[0] != x:
        return
    twice = graph.maker(square.inputs[0], "Sub")
    if twice is None or list(twice.inputs) != list(centred.inputs):
        return
    scaled = graph.reader(quotient.outputs[0], "Mul")
    if scaled is None:
        return
    scale = _other(scaled, quotient.outputs[0])
    if len(graph.shapes.get(scale, ())) != 1:
        return
    inputs, last = [x, scale], scaled
    shifted = graph.reader(scaled.outputs[0], "Add")
    if shifted is not None and graph.shapes.get(bias := _other(shifted, scaled.outputs[0])) == graph.shapes[scale]:
        inputs, last = [*inputs, bias], shifted
    gone = [mean, centred, twice, square, variance, moved, root, quotient, scaled]
    gone = [step for step in gone if step is not last]
    if graph.inner(gone, last):
        graph.replace(gone, last, _made(NORM, inputs, last, epsilon=epsilon))


def _last_axis(step: Step) -> bool:
    return step.numbers(1, "axes") == [-1] and bool(step.attributes.get("keepdims", 1))


def _square(graph: _Graph, name: str) -> Step | None:
    power = graph.maker(name, "Pow")
    if power is not None:
        return power if graph.scalar(power, 1) == 2 else None
    product = graph.maker(name, "Mul")
    return product if product is not None and product.inputs[0] == product.inputs[1] else None


def _join_gelu(graph: _Graph, error: Step) -> None:
    """X · (1 + erf(x / √2)) / 2, in any order of the factors."""
    if error.op != "Erf":
        return
    divided, multiplied = graph.maker(error.inputs[0], "Div"), graph.maker(error.inputs[0], "Mul")
    x = None
    if divided is not None and math.isclose(graph.scalar(divided, 1) or 0.0, math.sqrt(2), rel_tol=_CLOSE):
        x = divided.inputs[0]
    elif multiplied is not None:
        x = graph.times(multiplied, math.sqrt(0.5))
    scaled = divided or multiplied
    one = graph.reader(error.outputs[0], "Add")
    if x is None or scaled is None or one is None or graph.times(one, 1.0) != error.outputs[0]:
        return
    first = graph.reader(one.outputs[0], "Mul")
    if first is None:
        return
    gone, other = [scaled, error, one], _other(first, one.outputs[0])
    half = graph.maker(other, "Mul")
    if half is not None and other != x and graph.times(half, 0.5) == x:
        gone, last = [*gone, half], first
    else:
        second = graph.reader(first.outputs[0], "Mul")
        if second is None:
            return
        gone, last = [*gone, first], second
        through = other == x and graph.times(second, 0.5) == first.outputs[0]
        turned = graph.times(first, 0.5) == one.outputs[0] and _other(second, first.outputs[0]) == x
        if not (through or turned):
            return
    if graph.inner(gone, last):
        graph.replace(gone, last, _made(GELU, [x], last))
