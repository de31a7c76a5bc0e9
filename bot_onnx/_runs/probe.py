"""Find out what an op does to axes by running it alone: for ops that no rule knows.

Every axis is asked two questions. *What grows with it?* The axis is doubled, if need be together with other axes of its
size, until onnxruntime accepts it; the outputs show which of their axes have grown. *Is it treated index by index?* The
data is permuted along the axis and its partners; the outputs must be the old ones, permuted alike. What passes both is
one dim on all of these axes. What does not is mixed, split or bound to its size by the op.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._reasons import Why
from bot_onnx._runs.runtime import session
from bot_onnx.errors import MissingRuntimeError

LARGEST = 1 << 24  #: elements of all inputs together up to which an op is probed
_PARTNERS = 2  #: how many partners of an axis are tried one by one, before all at once
_TOLERANCE = 1e-4

Shape = tuple[int, ...]
Place = tuple[int, int]  #: (input or output, axis)
Outputs = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Alignment:
    """Axes that an op keeps together.

    Attributes:
        inputs: axes of the inputs. outputs: axes of the outputs; none where the op sums or reduces over it.
        problem: why their size cannot change, or None.
    """

    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    problem: Why | None = None


@dataclass(frozen=True, slots=True)
class Operand:
    """An input of the op to probe: a fixed ``value``, or the shape and type of data that may be anything."""

    shape: Shape
    dtype: np.dtype[Any]
    value: NDArray[Any] | None = None


def probe(node: ir.Node, operands: Sequence[Operand | None], opsets: Mapping[str, int]) -> list[Alignment] | None:
    """What ``node`` does to the axes of its inputs that are longer than 1.

    Args:
        node: without bodies.
        operands: one per input, None where it is absent.
        opsets: version per domain.

    Returns:
        One alignment per set of axes, or None where the op cannot be run alone, is too large to try, or gives something
        else every time.
    """
    if sum(int(np.prod(operand.shape)) for operand in operands if operand is not None) > LARGEST:
        return None
    trial = _Trial(node, operands, opsets)
    base = trial.run({})
    again = trial.run({})
    if base is None or again is None or not _same(base, again):
        return None
    places = [
        (slot, axis)
        for slot, operand in enumerate(operands)
        if operand is not None and operand.value is None
        for axis, size in enumerate(operand.shape)
        if size > 1
    ]
    found: list[Alignment] = []
    for place in places:
        if not any(place in alignment.inputs for alignment in found):
            found.append(_ask(trial, base, place, places))
    return found


def _ask(trial: _Trial, base: Outputs, place: Place, places: Sequence[Place]) -> Alignment:
    """Both questions for one axis."""
    size = trial.size(place)
    others = [other for other in places if other != place and trial.size(other) == size]
    for partners in _sets(others):
        group = (place, *partners)
        grown = trial.run(dict.fromkeys(group, 2 * size))
        if grown is None:
            continue
        outputs = _grown(base, grown)
        if outputs is None or any(base[index].shape[axis] != size for index, axis in outputs):
            return Alignment(group, outputs or (), Why.RESIZES)
        if not trial.keeps_order(group, outputs, base):
            return Alignment(group, outputs, Why.MIXES)
        if not outputs and trial.has_factors:
            return Alignment(group, outputs, Why.WEIGHS)
        return Alignment(group, outputs)
    return Alignment((place,), (), Why.ONE_SIZE)


def _sets(others: Sequence[Place]) -> Iterator[Sequence[Place]]:
    """No partner, each alone, each two, all."""
    few = chain.from_iterable(combinations(others, count) for count in range(min(_PARTNERS, len(others)) + 1))
    yield from few
    if len(others) > _PARTNERS:
        yield others


def _grown(before: Outputs, after: Outputs) -> tuple[Place, ...] | None:
    """Axes of the outputs that have doubled; None where one has changed in another way."""
    places: list[Place] = []
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if old.ndim != new.ndim:
            return None
        for axis, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)):
            if b == 2 * a:
                places.append((index, axis))
            elif a != b:
                return None
    return tuple(places)


class _Trial:
    """One op, run alone on random data of varying shapes."""

    def __init__(self, node: ir.Node, operands: Sequence[Operand | None], opsets: Mapping[str, int]) -> None:
        self._operands = operands
        self.has_factors = any(
            attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS)
            for attribute in node.attributes.values()
        )
        self._runner = _open(_model(node, operands, opsets))

    def size(self, place: Place) -> int:
        operand = self._operands[place[0]]
        assert operand is not None
        return operand.shape[place[1]]

    def run(self, sizes: Mapping[Place, int]) -> Outputs | None:
        """Outputs with other sizes on some axes, or None where the op does not admit them."""
        return self._run(self._data(sizes))

    def keeps_order(self, inputs: Sequence[Place], outputs: Sequence[Place], base: Outputs) -> bool:
        """Whether permuted inputs give the old outputs, permuted alike.

        Tried with a rotation and the exchange of two neighbours: together they generate all permutations.
        """
        rotation = np.roll(np.arange(self.size(inputs[0])), 1)
        exchange = np.arange(rotation.size)
        exchange[:2] = 1, 0
        return all(self._commutes(order, inputs, outputs, base) for order in (rotation, exchange))

    def _commutes(
        self, order: NDArray[np.intp], inputs: Sequence[Place], outputs: Sequence[Place], base: Outputs
    ) -> bool:
        data = self._data({})
        for slot, axis in inputs:
            data[_name(slot)] = np.take(data[_name(slot)], order, axis)
        permuted = self._run(data)
        wanted = list(base)
        for index, axis in outputs:
            wanted[index] = np.take(wanted[index], order, axis)
        return permuted is not None and _same(permuted, wanted)

    def _data(self, sizes: Mapping[Place, int]) -> dict[str, NDArray[Any]]:
        rng = np.random.default_rng(0)
        data: dict[str, NDArray[Any]] = {}
        for slot, operand in enumerate(self._operands):
            if operand is None or operand.value is not None:
                continue
            shape = tuple(sizes.get((slot, axis), size) for axis, size in enumerate(operand.shape))
            integral = operand.dtype.kind in "iub"
            values = rng.integers(0, 2, shape) if integral else rng.standard_normal(shape)
            data[_name(slot)] = np.asarray(values).astype(operand.dtype)
        return data

    def _run(self, data: dict[str, NDArray[Any]]) -> Outputs | None:
        if self._runner is None:
            return None
        try:
            outputs = self._runner.run(None, data)
        except Exception:  # onnxruntime's errors have no public base class: the op does not admit these inputs
            return None
        return outputs if all(isinstance(output, np.ndarray) for output in outputs) else None


def _open(model: onnx.ModelProto) -> Any:
    try:
        return session(model.SerializeToString())
    except MissingRuntimeError:
        raise
    except Exception:  # it cannot run alone
        return None


def _model(node: ir.Node, operands: Sequence[Operand | None], opsets: Mapping[str, int]) -> onnx.ModelProto:
    """The op alone: data are inputs of open shape, fixed values initializers."""
    proto = ir.serde.serialize_node(node)
    del proto.input[:], proto.output[:]
    graph = onnx.GraphProto(name="probe")
    for slot, operand in enumerate(operands):
        proto.input.append("" if operand is None else _name(slot))
        if operand is None:
            continue
        if operand.value is not None:
            graph.initializer.append(onnx.numpy_helper.from_array(operand.value, _name(slot)))
            continue
        element = onnx.helper.np_dtype_to_tensor_dtype(operand.dtype)
        shape = [f"d{slot}_{axis}" for axis in range(len(operand.shape))]
        graph.input.append(onnx.helper.make_tensor_value_info(_name(slot), element, shape))
    for index, output in enumerate(node.outputs):
        proto.output.append(f"out{index}" if output.name else "")
        if output.name:
            graph.output.append(onnx.ValueInfoProto(name=f"out{index}"))
    graph.node.append(proto)
    model = onnx.ModelProto(ir_version=10, graph=graph)
    for domain, version in opsets.items():
        model.opset_import.append(onnx.OperatorSetIdProto(domain=domain, version=version))
    return model


def _name(slot: int) -> str:
    return f"in{slot}"


def _same(left: Outputs, right: Outputs) -> bool:
    """Equal shapes, and values equal but for rounding."""
    return len(left) == len(right) and all(
        a.shape == b.shape
        and (
            np.allclose(a, b, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
            if a.dtype.kind in "fiub"
            else bool(np.array_equal(a, b))
        )
        for a, b in zip(left, right, strict=True)
    )
