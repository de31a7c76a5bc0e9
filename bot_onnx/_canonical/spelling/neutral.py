"""Nodes whose result is one of their inputs, whatever that holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx._canonical.spelling.learned import scalar
from bot_onnx._canonical.spelling.seen import Seen, is_left_out, numbers
from bot_onnx._canonical.spelling.source_spelling import Step
from bot_onnx._ops import Move, Slot, carries, slot_of

#: An end of a Slice from here on is the end of any axis.
ENDLESS = 2**31 - 1

Rule = Callable[[ir.Node, Seen], int | None]
_RULES: dict[str, Rule] = {}


def neutral_input(node: ir.Node, seen: Seen) -> int | None:
    """The slot of the input that a node hands on unchanged; None: it changes what it is given, or may."""
    rule = _RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None or any(output.name in seen.arithmetic for output in node.outputs):
        return None
    slot = rule(node, seen)
    return slot if slot is not None and node.inputs[slot] is not None else None


def _neutral(*ops: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


@_neutral("Concat", "Max", "Mean", "Min", "Sum")
def _alone(node: ir.Node, seen: Seen) -> int | None:
    return 0 if len(node.inputs) == 1 else None


@_neutral("Split")
def _one_piece(node: ir.Node, seen: Seen) -> int | None:
    return 0 if len(node.outputs) == 1 else None


@_neutral("Dropout")
def _inference(node: ir.Node, seen: Seen) -> int | None:
    """Without training it hands on its input; the mask must not be asked for."""
    asked = any(output.is_graph_output() or any(True for _ in output.uses()) for output in node.outputs[1:])
    mode = numbers(node, 2)
    trains = not is_left_out(node, 2) and (mode is None or bool(mode.any()))
    return None if asked or trains else 0


@_neutral("Cast")
def _to_own_type(node: ir.Node, seen: Seen) -> int | None:
    source = node.inputs[0]
    return 0 if source is not None and seen.types.get(source) == node.attributes.get_int("to", 0) else None


@_neutral("CastLike")
def _like_own_type(node: ir.Node, seen: Seen) -> int | None:
    source, like = node.inputs
    known = None if source is None else seen.types.get(source)
    return 0 if known is not None and like is not None and seen.types.get(like) == known else None


@_neutral("Mul")
def _times_one(node: ir.Node, seen: Seen) -> int | None:
    return _beside(node, seen, 1.0, (0, 1))


@_neutral("Div", "Pow")
def _by_one(node: ir.Node, seen: Seen) -> int | None:
    return _beside(node, seen, 1.0, (1,))


@_neutral("Add")
def _plus_nothing(node: ir.Node, seen: Seen) -> int | None:
    return _beside(node, seen, 0.0, (0, 1))


@_neutral("Sub")
def _less_nothing(node: ir.Node, seen: Seen) -> int | None:
    return _beside(node, seen, 0.0, (1,))


def _beside(node: ir.Node, seen: Seen, number: float, slots: tuple[int, ...]) -> int | None:
    """The operand beside a scalar that is ``number``: one number, so that it is no channel's weight."""
    for slot in slots:
        tensor = None if node in seen.learned else scalar(node, slot)
        if tensor is None:
            continue
        shape = seen.shape(node.inputs[1 - slot])
        ranked = len(tensor.shape) == 0 or (shape is not None and len(shape) >= len(tensor.shape))
        if ranked and float(tensor.numpy().reshape(-1)[0]) == number:
            return 1 - slot
    return None


@_neutral("Clip")
def _unbounded(node: ir.Node, seen: Seen) -> int | None:
    low, high = numbers(node, 1, "min"), numbers(node, 2, "max")
    open_below = is_left_out(node, 1, "min") or (low is not None and _beyond(low, lowest=True))
    open_above = is_left_out(node, 2, "max") or (high is not None and _beyond(high, lowest=False))
    return 0 if open_below and open_above else None


def _beyond(bound: NDArray[np.generic], *, lowest: bool) -> bool:
    """Whether a bound is infinite."""
    number = float(bound.reshape(-1)[0]) if bound.size else 0.0
    return number == (-np.inf if lowest else np.inf)


@_neutral("Pad")
def _unpadded(node: ir.Node, seen: Seen) -> int | None:
    pads = numbers(node, 1, "pads")
    return 0 if pads is not None and not pads.any() else None


@_neutral("Tile")
def _once(node: ir.Node, seen: Seen) -> int | None:
    times = numbers(node, 1)
    return 0 if times is not None and bool((times == 1).all()) else None


@_neutral("Expand")
def _not_expanded(node: ir.Node, seen: Seen) -> int | None:
    """To ones, to its own shape, or to a shape that it had in two runs. An open axis may be 1 in a third, and grow."""
    source, wanted = node.inputs[0], numbers(node, 1)
    shape = seen.shape(source)
    if shape is None:
        return None
    if wanted is not None and wanted.size <= len(shape) and bool((wanted == 1).all()):
        return 0
    maker = node.inputs[1].producer() if node.inputs[1] is not None else None
    own = maker is not None and maker.op_type == "Shape" and not maker.attributes and maker.inputs[0] is source
    closed = all(first == second for first, second in shape)
    return 0 if own or (closed and shape == seen.shape(node.outputs[0])) else None


@_neutral("Gather")
def _all_in_order(node: ir.Node, seen: Seen) -> int | None:
    """Every index of a static axis once, in order; not of a table, whose rows are positions or tokens."""
    source, indices = node.inputs[0], numbers(node, 1)
    shape = None if source is None or source.const_value is not None else seen.shape(source)
    if not shape or indices is None or indices.ndim != 1:
        return None
    size = indices.size
    held = shape[node.attributes.get_int("axis", 0) % len(shape)]
    return 0 if size and held == (size, size) and np.array_equal(indices % size, np.arange(size)) else None


@_neutral("Slice")
def _whole(node: ir.Node, seen: Seen) -> int | None:
    """From the start to the end of every axis, one by one. What is as long as the axis was in two runs may be shorter
    than it elsewhere: an axis that is open must be taken to its end in so many words.
    """
    starts, ends = numbers(node, 1, "starts"), numbers(node, 2, "ends")
    steps = numbers(node, 4)
    if starts is None or ends is None or starts.any() or not (is_left_out(node, 4) or _all_one(steps)):
        return None
    shape = seen.shape(node.inputs[0])
    if is_left_out(node, 3, "axes"):
        axes = list(range(ends.size))
    else:
        given = numbers(node, 3, "axes")
        if given is None:
            return None
        axes = [int(axis) for axis in given]
    for axis, end in zip(axes, map(int, ends.reshape(-1)), strict=True):
        first, second = shape[axis] if shape is not None else (0, 1)
        if end < ENDLESS and not (first == second and end >= first):
            return None
    return 0


def _all_one(steps: NDArray[np.generic] | None) -> bool:
    return steps is not None and bool((steps == 1).all())


def step_of(node: ir.Node, slot: int, seen: Seen) -> Step | None:
    """How a neutral node is spelled, without naming a size; None: not without one."""
    rank = seen.rank(node.inputs[slot])
    constants: dict[int, NDArray[np.generic] | None] = {}
    attributes = dict(node.attributes)
    for place, value in enumerate(node.inputs):
        if place == slot:
            continue
        free, purpose = _free_of_sizes(node, place, rank), slot_of(node, place)
        if free is not None:
            constants[place] = free
        elif value is None:
            constants[place] = None
        elif purpose in (Slot.SIZES, Slot.INDEX):
            return None
        elif value.const_value is not None and purpose is not Slot.PARTS:
            constants[place] = value.const_value.numpy()
        elif carries(node, slot, Move.CAST):
            return None
    if node.op_type == "Slice" and "ends" in attributes:
        attributes["ends"] = ir.AttrInt64s("ends", [ENDLESS] * len(attributes["ends"].as_ints()))
    if node.op_type == "Split":
        attributes.pop("split", None)
    if node.op_type == "Reshape":
        attributes.pop("allowzero", None)  # a zero is the source's size here, also where that is zero
    name, output = node.name or "", node.outputs[0].name or ""
    properties = dict(node.metadata_props)
    return Step(node.domain, node.op_type, name, tuple(attributes.values()), output, slot, constants, properties)


def _free_of_sizes(node: ir.Node, place: int, rank: int | None) -> NDArray[np.generic] | None:
    """What says the same as an input that names sizes."""
    if place != (2 if node.op_type == "Slice" else 1):
        return None
    if node.op_type == "Slice":
        ends = numbers(node, 2)
        return None if ends is None else np.full_like(ends, ENDLESS)
    if rank is None:
        return None
    if node.op_type == "Reshape":
        # What is left over stays so, and an axis of one element has no size to follow: at sizes of the input at which
        # nothing has run the node may do more than nothing, and then it does what it did.
        wanted = numbers(node, 1)
        return np.zeros(rank, np.int64) if wanted is None else np.where(np.isin(wanted, (-1, 1)), wanted, 0)
    return np.ones(rank, np.int64) if node.op_type == "Expand" else None
