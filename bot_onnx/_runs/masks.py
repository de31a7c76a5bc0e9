"""Which inputs are masks, and masks to feed them with: ones that hide something and leave something.

Random numbers are no mask: where a graph computes ``(1 - m) * -1e9`` of them, everything is hidden or nothing is, and a
softmax behind it says the same whatever the scores are. That an input is a mask is seen from what becomes of a few
numbers in it: a huge negative one of some of them and not of others, or of what a condition on them picks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from bot_onnx._onnxfile.input_overrides import Mask
from bot_onnx._ops import FORM, Axes, Calc, Move, computes, passes_on, record

_HIDDEN: Final = -1e3  #: what hides a score is below this: -1e4 is the least usual
#: How many elements a constant has that is looked into, and how many different numbers.
_HELD, _FEW = 1 << 16, 4
#: What leaves all numbers alike that were, or takes some of them.
_MOVED: Final = FORM | Move.PICKED | Move.SHUFFLED | Move.PADDED
#: What is tried in an input, likeliest first; all but the first two in floats alone (``adjacency > -1``).
_TRIED: Final = (0, 1, -2, 2)
_BITS: Final = (0, 1)


@dataclass(frozen=True, slots=True)
class _Known:
    """What every element of a value is.

    Attributes:
        values: ``[1]``, or one per number that is tried in the inputs that it is made of.
        inputs: names of these inputs; none for a constant.
    """

    values: NDArray[Any]
    inputs: frozenset[str] = frozenset()


_CONDITIONS: Final = tuple(_Known(np.array([free])) for free in (True, False))


def masks(graph: onnx.GraphProto) -> dict[str, Mask]:
    """The inputs that are masks, by name.

    Args:
        graph: of a model; bodies of its nodes are not looked into.
    """
    held = {tensor.name: tensor for tensor in graph.initializer} | {
        name: attribute.t
        for node in graph.node
        if not node.input
        for attribute in node.attribute
        if attribute.HasField("t")
        for name in node.output
    }
    constants = {name: _constant(tensor) for name, tensor in held.items()}
    some = {name: _levels(tensor) for name, tensor in held.items() if constants[name] is None}
    kinds = {value.name: _dtype(value) for value in graph.input if value.name not in constants}
    known = {name: one for name, one in constants.items() if one is not None}
    for name, dtype in kinds.items():
        if dtype.kind in "fiub":
            known[name] = _Known(np.array(_TRIED).astype(dtype), frozenset([name]))
    found: dict[str, Mask] = {}
    for node in graph.node:
        made = _made(node, known, some)
        if made is not None:
            known[node.output[0]] = made
        for inputs, hides in _hiding(node, known):
            mask = Mask(_TRIED[int(np.argmin(hides))], _TRIED[int(np.argmax(hides))])
            found.update((name, mask) for name in inputs if kinds[name].kind == "f" or {*mask} <= {*_BITS})
    return found


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    kind = value.type.tensor_type.elem_type
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind) if kind else object)


def _constant(tensor: onnx.TensorProto) -> _Known | None:
    if prod(tensor.dims) != 1 or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    with suppress(Exception):  # no values, or not as many: whoever needs them says so
        return _Known(onnx.numpy_helper.to_array(tensor).reshape(1))
    return None


def _levels(tensor: onnx.TensorProto) -> tuple[_Known, ...]:
    """The numbers of a constant that has few: of a mask that the file holds, for example a causal one."""
    if not 1 < prod(tensor.dims) <= _HELD or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return ()
    with suppress(Exception):
        levels = np.unique(onnx.numpy_helper.to_array(tensor))
        return tuple(_Known(level.reshape(1)) for level in levels[::-1]) if len(levels) <= _FEW else ()
    return ()


def _made(node: onnx.NodeProto, known: dict[str, _Known], some: dict[str, tuple[_Known, ...]]) -> _Known | None:
    """What a node makes, where all its elements are alike; None where that is not known.

    Of joined and padded values what is made of inputs counts; beside a constant that has several numbers, what the
    result is at one of them.
    """
    if not node.input or not node.output:
        return None
    if record(node).fills:
        tensor = next((attribute.t for attribute in node.attribute if attribute.HasField("t")), None)
        return None if tensor is None else _constant(tensor)
    operands = [known.get(name) for name in node.input]
    if passes_on(node, _MOVED) and operands[0] is not None:
        return _computed(node, operands[:1]) if Move.CAST in record(node).moves else operands[0]
    if passes_on(node, Move.JOINED):
        return next((one for one in operands if one is not None and one.inputs), None)
    if record(node).axes is not Axes.BROADCAST:
        return None
    if None not in operands:
        return _computed(node, operands)
    traced = [one for one in operands if one is not None and one.inputs]
    anything = _CONDITIONS if computes(node, Calc.LOGIC) else ()  # this one is let through by one of the two
    choices = [some.get(name) or anything for name, one in zip(node.input, operands, strict=True) if one is None]
    for chosen in product(*choices) if traced else ():
        others = iter(chosen)
        made = _computed(node, [next(others) if one is None else one for one in operands])
        if made is not None and (made.values != made.values[0]).any():
            return made
    return None


def _computed(node: onnx.NodeProto, operands: Sequence[_Known | None]) -> _Known | None:
    given = {name: one for name, one in zip(node.input, operands, strict=False) if one is not None}
    inputs = frozenset[str]().union(*(one.inputs for one in given.values()))
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(node).run(None, {name: one.values for name, one in given.items()})
    except Exception:  # an op that the reference lacks, or types that it does not take: nothing is known then
        return None
    values = np.asarray(next(iter(made)))
    return _Known(values, inputs) if values.shape in ((1,), (len(_TRIED),)) else None


def _hiding(node: onnx.NodeProto, known: dict[str, _Known]) -> Iterator[tuple[frozenset[str], NDArray[np.bool_]]]:
    """Inputs of which some numbers hide what others leave; which ones of those that are tried.

    What is computed of an input counts for zeros and ones alone: any number is large that is multiplied by enough.
    """
    condition, *branches = operands = [known.get(name) for name in node.input] or [None]
    ways = []
    if not any(one is not None and _parts(_low(one)) for one in operands):  # what is added to a mask is none
        ways += [(one.inputs, _low(one)) for name in node.output if (one := known.get(name))]
    if computes(node, Calc.DIFFERENCE) and branches and branches[0] is not None:
        ways.append((branches[0].inputs, _low(branches[0], -1)))
    if Move.CHOSEN in record(node).moves and condition is not None and len(branches) == len(_BITS):
        hides = [branch is not None and _is_low(branch.values).all() for branch in branches]
        ways.append((condition.inputs, np.where(condition.values, *hides)))
    yield from ((inputs, low) for inputs, low in ways if inputs and _parts(low))


def _parts(low: NDArray[np.bool_]) -> bool:
    return bool(low.any() and not low.all())


def _low(one: _Known, sign: int = 1) -> NDArray[np.bool_]:
    return _is_low(one.values, sign)[: len(_BITS)]


def _is_low(values: NDArray[Any], sign: int = 1) -> NDArray[np.bool_]:
    return np.asarray(sign * values <= _HIDDEN) if values.dtype.kind in "fi" else np.zeros(values.shape, bool)


def drawn_mask(shape: Sequence[int], mask: Mask, rng: np.random.Generator) -> NDArray[np.int64]:
    """A mask ``shape`` at random, along the last axis that is longer than one; the first row there hides nothing.

    The first element of every row is kept, so that something is left in each; the last of the last row is hidden, if
    two are kept in some row then.
    """
    hides = rng.integers(0, 2, tuple(shape)).astype(bool)
    axis = max((axis for axis, size in enumerate(shape) if size > 1), default=None)
    if axis is None:
        return np.full(tuple(shape), mask.kept)
    rows = np.moveaxis(hides, axis, -1)
    outer = rows.ndim - 1
    rows[..., 0] = rows[(0,) * outer] = False
    if rows[..., 0].size > 1 or rows.shape[-1] > 2:
        rows[(-1,) * (outer + 1)] = True
    return np.where(hides, mask.hidden, mask.kept)
