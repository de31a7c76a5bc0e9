"""What the analysis asks of an op. Each takes a node, as a message or as an object."""

from __future__ import annotations

from bot_onnx._ops.costs import Macs
from bot_onnx._ops.record import (
    ANY_MOVE,
    IN_PLACE,
    ONE_TO_ONE,
    Axes,
    Calc,
    Function,
    Linear,
    Move,
    Norm,
    Op,
    Reduction,
    Slot,
)
from bot_onnx._ops.registry import Node, record

#: Names under which PyTorch's modules keep what is in an input.
_LEAVES = {
    Slot.WEIGHT: "weight",
    Slot.TABLE: "weight",
    Slot.SCALE: "weight",
    Slot.BIAS: "bias",
    Slot.SHIFT: "bias",
    Slot.MEAN: "running_mean",
    Slot.VARIANCE: "running_var",
}


def passes_on(node: Node, moves: Move = ANY_MOVE) -> bool:
    """Whether an op passes its data on without computing, in no other way than ``moves``."""
    op = record(node)
    return bool(op.moves) and op.moves in moves and not (op.training is not None and _trains(node, op.training))


def _trains(node: Node, slot: int) -> bool:
    """Whether the input that makes a Dropout drop something is given, and not false for certain."""
    given = getattr(node, "inputs", None)
    if given is None:
        names = getattr(node, "input", ())
        return len(names) > slot and bool(names[slot])
    value = given[slot] if len(given) > slot else None
    return value is not None and (value.const_value is None or bool(value.const_value.numpy().any()))


def data_slots(node: Node) -> tuple[int, ...]:
    """Inputs whose elements an op passes on, or works on: all, of an op with any number of operands."""
    op = record(node)
    if not op.variadic:
        return op.data
    given = getattr(node, "inputs", None)
    return tuple(range(len(getattr(node, "input", ()) if given is None else given)))


def carries(node: Node, slot: int, moves: Move = ANY_MOVE) -> bool:
    """Whether an op passes on what is in input ``slot``, in no other way than ``moves``."""
    return passes_on(node, moves) and slot in data_slots(node)


def computes(node: Node, *wanted: Calc) -> bool:
    """Whether an op computes one of ``wanted`` of its operands, element by element."""
    return record(node).calc in wanted


def keeps_sign(node: Node) -> bool:
    """Whether an op makes no negative number of numbers none of which is one (see :func:`operands_of`)."""
    op = record(node)
    return (
        passes_on(node, ANY_MOVE & ~Move.PADDED & ~Move.RESIZED & ~Move.UNPACKED)
        or reduces(node, "mean", "sum", "extreme")
        or computes(node, Calc.SUM, Calc.PRODUCT, Calc.AVERAGE)
        or (op.calc is Calc.EXTREME and op.variadic)
    )


def operands_of(node: Node) -> tuple[int, ...]:
    """Inputs that an op works on: data, and no sizes, indices, axes."""
    op = record(node)
    if op.calc is not None and not op.moves and op.axes is Axes.BROADCAST:
        given = getattr(node, "inputs", None)
        return tuple(range(len(getattr(node, "input", ()) if given is None else given)))
    return data_slots(node)


def keeps_indices(node: Node) -> bool:
    """Whether the first input of an op names the same things behind it: another form of it, or held within bounds."""
    return passes_on(node, ONE_TO_ONE | Move.REPEATED) or (computes(node, Calc.EXTREME) and not record(node).variadic)


def is_sum(node: Node) -> bool:
    """Whether an op adds up its operands."""
    return computes(node, Calc.SUM)


def function_of(node: Node) -> Function | None:
    """What is known of an op that is a function of single elements."""
    return record(node).function


def is_steady(node: Node) -> bool:
    """Whether an op is a function that gives 0 for 0, with a slope there: what is behind a zero can be trained."""
    found = record(node).function
    return found is not None and found.zero and found.slope


def is_activation(node: Node) -> bool:
    """Whether an op is a function of single elements that is no arithmetic."""
    op = record(node)
    return op.function is not None and op.calc is None


def attends(node: Node) -> bool:
    """Whether an op is an attention, or makes the shares of one."""
    op = record(node)
    return op.attention or op.distribution


def is_statistic(node: Node) -> bool:
    """Whether an op is a norm, or what one is written out with: a mean, or a sum of squares, over whole axes."""
    op = record(node)
    return op.norm is not None or (
        op.reduction is not None and not op.reduction.windows and op.reduction.kind in ("mean", "squares", "norm")
    )


def is_bounded(node: Node) -> bool:
    """Whether the results of an op lie between two numbers."""
    return record(node).bounded


def linear_of(node: Node) -> Linear | None:
    """What an op contracts, if it is a linear map of numbers that are not quantised."""
    return record(node).linear


def is_linear(node: Node) -> bool:
    """Whether an op contracts its input with a weight, or with another activation."""
    return record(node).linear is not None


def is_affine(node: Node) -> bool:
    """Whether an op contracts its input with a weight, and can add a bias to what it gives."""
    op = record(node)
    return op.linear is not None and not op.attention and Slot.BIAS in op.slots.values()


def contraction_of(node: Node) -> Linear | None:
    """What an op contracts: of plain numbers, or of integers that lie where plain numbers would."""
    op = record(node)
    return op.linear or (None if op.packing is None else op.packing.like)


def contracts(node: Node) -> bool:
    """Whether an op is a linear map, of quantised numbers or of others."""
    op = record(node)
    return op.linear is not None or (op.packing is not None and op.packing.contracts)


def is_product(node: Node) -> bool:
    """Whether an op can be the product of two activations."""
    found = record(node).linear
    return found is not None and found.operands


def norm_of(node: Node) -> Norm | None:
    """What an op normalises over, if it is a norm in one op."""
    return record(node).norm


def is_layer_norm(node: Node) -> bool:
    """Whether an op normalises over its last axes (a LayerNorm, an RMSNorm)."""
    found = record(node).norm
    return found is not None and found.over == "trailing"


def norm_parameters(node: Node) -> tuple[int, ...]:
    """Inputs that hold a norm's scale, and what is added behind it."""
    return record(node).inputs_for(Slot.SCALE, Slot.SHIFT)


def reduction_of(node: Node) -> Reduction | None:
    """What an op makes of the elements along the axes that it takes away."""
    return record(node).reduction


def reduces(node: Node, *kinds: str) -> bool:
    """Whether an op takes axes away by one of these kinds of :class:`bot_onnx._ops.record.Reduction`."""
    found = record(node).reduction
    return found is not None and found.kind in kinds


def keeps_shape(node: Node, operands: int) -> bool:
    """Whether the first result has the axes of the first of ``operands`` inputs, whatever the others hold."""
    op = record(node)
    return op.keeps_shape or op.axes is Axes.FIRST or (op.axes is Axes.BROADCAST and operands == 1)


def works_place_by_place(op: Op) -> bool:
    """Whether a result depends on the elements of the inputs at its own place alone, lined up from the right."""
    return op.axes is Axes.BROADCAST or (
        op.axes is Axes.FIRST and (op.function is not None or (bool(op.moves) and op.moves in IN_PLACE))
    )


def slot_of(node: Node, slot: int) -> Slot | None:
    """What an input is for, if not to be worked on."""
    return record(node).slots.get(slot)


def leaf_of(node: Node, slot: int) -> str | None:
    """Name under which frameworks keep what is in an input, where they have one for it."""
    op: Op = record(node)
    found = op.slots.get(slot) if op.leaves else None
    return None if found is None else _LEAVES.get(found)


def reads_weights(node: Node) -> bool:
    """Whether an op computes with weights: a linear map, a recurrence, a lookup."""
    op = record(node)
    return op.linear is not None or op.gates > 0 or Slot.TABLE in op.slots.values()


def measures(node: Node) -> bool:
    """Whether an op makes numbers of the shape of its input, and of nothing else."""
    op = record(node)
    return op.measures and not op.keeps_shape


def macs_of(node: Node) -> Macs | None:
    """What a run of an op costs, by the sizes of what it reads and gives; None where nothing is contracted."""
    return record(node).macs
