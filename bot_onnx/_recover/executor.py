"""A network as a list of PyTorch calls: every node's function is built once, weights come from outside on each run.

What depends on constants alone is computed when the list is made, what no output needs is left out, and what an
exporter has spelled in many ops is one call again (:mod:`bot_onnx._recover.fused`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bot_onnx._recover.carried import Call, Step, Uncarried, built, tensor_slots
from bot_onnx._recover.extras import torch
from bot_onnx._recover.form import Form
from bot_onnx._recover.fused import fuse
from bot_onnx._recover.plain_form import OWN_DOMAINS
from bot_onnx._recover.trainable import Trainable
from bot_onnx._recover.types import Array

_KINDS = "fiub"  # of NumPy's types: those that PyTorch has as well


@dataclass(frozen=True, slots=True)
class _Line:
    """A call, where its arguments stand, where its results go, and what is not needed afterwards."""

    call: Call
    given: tuple[int, ...]
    made: tuple[int, ...]
    spent: tuple[int, ...]
    step: Step


class Executor:
    """A network that computes its outputs from inputs and weights.

    Args:
        form: the model; the wanted values are among its outputs.
        trainable: its weights.
        outputs: names of the values that it gives.

    Raises:
        Uncarried: an op cannot be carried here.

    Attributes:
        inputs: names of the inputs that it reads.
    """

    def __init__(self, form: Form, trainable: Trainable, outputs: Sequence[str]) -> None:
        message = form.graph
        constants = _constants(form, trainable)
        weights = [*trainable.values, *trainable.twins]
        shapes = trainable.shapes
        shapes |= {twin: shapes[source][::-1] for twin, source in trainable.twins.items()}
        steps = _folded(_needed(_steps(message, constants), outputs), constants)
        shapes |= {name: tuple(values.shape) for name, values in constants.items()}
        steps = fuse(steps, shapes, set(outputs))
        self.inputs = tuple(port.name for port in message.graph.input if port.name not in constants)
        names = ["", *constants, *weights, *self.inputs, *(name for step in steps for name in step.outputs if name)]
        places = {name: place for place, name in enumerate(dict.fromkeys(names))}
        self._template: list[Any] = [constants.get(name) for name in places]
        self._elsewhere: _Elsewhere | None = None
        self._weights = [(places[name], name, False) for name in trainable.values]
        self._weights += [(places[twin], source, True) for twin, source in trainable.twins.items()]
        self._fed = [(places[name], name) for name in self.inputs]
        missing = [name for name in outputs if name not in places]
        if missing:
            raise Uncarried(f"output {missing[0]}")
        self._outputs = [places[name] for name in outputs]
        self._lines = _lines(steps, places, {*outputs, *constants, *weights, *self.inputs, ""})

    def __call__(self, feeds: Mapping[str, Any], weights: Mapping[str, Any]) -> list[Any]:
        """Values of the outputs, in order, torch tensors."""
        values = self._template.copy()
        for place, name, turned in self._weights:
            values[place] = weights[name].t() if turned else weights[name]
        for place, name in self._fed:
            values[place] = feeds[name]
        given = _as_it_is if self._elsewhere is None else self._elsewhere.given
        for line in self._lines:
            _run(line, values, given)
        results = [values[place] for place in self._outputs]
        return results if self._elsewhere is None else list(map(self._elsewhere.moved, results))

    def to(self, device: str) -> None:
        """Compute on another device from now on; inputs and weights come from there."""
        self._elsewhere = _Elsewhere(device, self._template)

    def failing(self, feeds: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
        """Op and first output of the node at which it fails; empty if it does not."""
        kept = self._lines
        try:
            for count in range(len(kept)):
                self._lines = kept[: count + 1]
                try:
                    self(feeds, weights)
                except Exception:
                    return f"{kept[count].step.op} {kept[count].step.outputs[0]!r}"
        finally:
            self._lines = kept
        return ""


class _Elsewhere:
    """Puts what an op is computed from on one device, if some of it is there.

    Sizes, and what is made of sizes alone, stay in memory: asking a device for a number waits for all that it does.
    """

    def __init__(self, device: str, constants: Sequence[Any]) -> None:
        self.device = torch().device(device)
        self._constants = constants
        self._copies: dict[int, Any] = {}

    def moved(self, value: Any) -> Any:
        """A tensor on the device."""
        return value if value is None or value.device.type == self.device.type else value.to(self.device)

    def given(self, line: _Line, values: list[Any]) -> list[Any]:
        """Arguments of a call."""
        found = [values[place] for place in line.given]
        slots = tensor_slots(line.step)
        if not any(value is not None and value.device.type == self.device.type for value in found[slots]):
            return found
        found[slots] = [
            self._placed(place, value) for place, value in zip(line.given[slots], found[slots], strict=True)
        ]
        return found

    def _placed(self, place: int, value: Any) -> Any:
        if value is None or self._constants[place] is not value:
            return self.moved(value)
        if place not in self._copies:
            self._copies[place] = self.moved(value)
        return self._copies[place]


def _as_it_is(line: _Line, values: list[Any]) -> list[Any]:
    return [values[place] for place in line.given]


def _run(line: _Line, values: list[Any], given: Callable[[_Line, list[Any]], list[Any]]) -> None:
    result = line.call(*given(line, values))
    if len(line.made) == 1:
        values[line.made[0]] = result[0] if isinstance(result, tuple) else result
    else:
        for place, value in zip(line.made, result, strict=True):
            values[place] = value
    for place in line.spent:
        values[place] = None


def _lines(steps: Sequence[Step], places: Mapping[str, int], kept: set[str]) -> list[_Line]:
    last = {name: number for number, step in enumerate(steps) for name in (*step.inputs, *step.outputs)}
    made = []
    for number, step in enumerate(steps):
        mine = dict.fromkeys(
            name for name in (*step.inputs, *step.outputs) if last[name] == number and name not in kept
        )
        made.append(
            _Line(
                built(step),
                tuple(places[name] for name in step.inputs),
                tuple(places[name] for name in step.outputs),
                tuple(places[name] for name in mine),
                step,
            )
        )
    return made


def _constants(form: Form, trainable: Trainable) -> dict[str, Any]:
    found = {}
    for tensor in form.graph.graph.initializer:
        if tensor.name not in trainable.values and tensor.name not in trainable.twins:
            found[tensor.name] = _tensor(form.values(tensor))
    return found


def _tensor(array: Array) -> Any:
    if array.dtype.kind not in _KINDS or array.dtype.name in ("uint16", "uint32", "uint64"):
        raise Uncarried(f"a constant of {array.dtype}")
    return torch().from_numpy(np.array(array))


def _steps(message: onnx.ModelProto, constants: dict[str, Any]) -> list[Step]:
    opset = next((entry.version for entry in message.opset_import if entry.domain in OWN_DOMAINS), 1)
    found = []
    for node in message.graph.node:
        if node.domain not in OWN_DOMAINS:
            raise Uncarried(f"{node.domain}::{node.op_type}")
        attributes = {entry.name: _attribute(entry) for entry in node.attribute}
        if node.op_type == "Constant":
            if "value" not in attributes:
                raise Uncarried("Constant without a tensor")
            constants[node.output[0]] = attributes["value"]
        else:
            outputs = list(node.output)
            while outputs and not outputs[-1]:
                outputs.pop()
            found.append(Step(node.op_type, list(node.input), outputs, attributes, opset, constants))
    return found


def _attribute(entry: onnx.AttributeProto) -> Any:
    if entry.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        raise Uncarried("a body")
    value = helper.get_attribute_value(entry)
    if isinstance(value, onnx.TensorProto):
        return _tensor(numpy_helper.to_array(value))
    if isinstance(value, bytes):
        return value.decode()
    return list(value) if entry.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def _needed(steps: Sequence[Step], outputs: Sequence[str]) -> list[Step]:
    wanted, kept = set(outputs), []
    for step in reversed(steps):
        if wanted.intersection(name for name in step.outputs if name):
            wanted.update(step.inputs)
            kept.append(step)
    return kept[::-1]


def _folded(steps: Sequence[Step], constants: dict[str, Any]) -> list[Step]:
    """Compute what depends on constants alone."""
    kept = []
    with torch().no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in steps:
            if not all(name in constants for name in step.inputs if name):
                kept.append(step)
                continue
            result = built(step)(*[constants[name] if name else None for name in step.inputs])
            results = result if isinstance(result, tuple) else (result,)
            constants.update(zip(step.outputs, results, strict=True))
    return kept
