"""What can be said of an op: one record each, in words that are facts about the op and never about a network.

A record answers two kinds of question: what an op does with the numbers it is given (:class:`Move`, :class:`Calc`,
:class:`Function`, :class:`Reduction`, :class:`Linear`, :class:`Norm`), and what its inputs are for (:class:`Slot`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from types import MappingProxyType
from typing import Literal

from bot_onnx._ops.costs import Macs

#: ONNX's own domain, under its longer name, too.
ONNX = ("", "ai.onnx")
MICROSOFT = "com.microsoft"


class Move(Flag):
    """How an op passes numbers on without computing: where the elements of its data stand in its results."""

    KEPT = auto()  #: every one in its place
    CAST = auto()  #: every one in its place, in another type
    UNPACKED = auto()  #: every one in its place, as the number that a packed integer stands for
    RESHAPED = auto()  #: in the same order, along other axes
    TURNED = auto()  #: axes in another order
    CUT = auto()  #: runs of them
    PICKED = auto()  #: those that indices name
    REPEATED = auto()  #: each of them, maybe several times
    JOINED = auto()  #: those of several inputs, one behind the other
    CHOSEN = auto()  #: from one of several inputs, place by place
    SHUFFLED = auto()  #: between axes, or backwards
    PADDED = auto()  #: with constants around them
    RESIZED = auto()  #: with others in between that are made of them


#: Every element in its place.
IN_PLACE = Move.KEPT | Move.CAST
#: Every element once, in the same order.
IN_ORDER = IN_PLACE | Move.RESHAPED
#: Every element once: another form of the same tensor.
ONE_TO_ONE = IN_ORDER | Move.TURNED
#: Another form of the same weights.
VIEW = ONE_TO_ONE | Move.UNPACKED
#: A form of one tensor that may lack some of its elements, or have them several times.
FORM = ONE_TO_ONE | Move.CUT | Move.REPEATED
#: Whatever only moves numbers.
ANY_MOVE = ~Move(0)
NO_MOVE = Move(0)


class Calc(Enum):
    """What an op computes of its operands, element by element."""

    SUM = auto()
    DIFFERENCE = auto()
    PRODUCT = auto()
    QUOTIENT = auto()
    AVERAGE = auto()
    NEGATION = auto()
    POWER = auto()
    ROOT = auto()
    RECIPROCAL = auto()
    REMAINDER = auto()
    EXTREME = auto()  #: the largest, the smallest, or within bounds
    ROUNDING = auto()
    ORDER = auto()  #: which of two is larger
    EQUALITY = auto()  #: or of a special value
    LOGIC = auto()
    SINE = auto()  #: or cosine


class Axes(Enum):
    """Axes of the results, where no rule of its own is needed to say."""

    BROADCAST = auto()  #: those of all inputs, lined up from the right
    FIRST = auto()  #: those of the first input
    REDUCED = auto()  #: those of the first input, without some


class Slot(Enum):
    """What an input is for, if not to be worked on."""

    WEIGHT = auto()  #: of a linear map
    BIAS = auto()  #: added to what a linear map gives
    SCALE = auto()  #: multiplies what a norm gives
    SHIFT = auto()  #: added to what a norm gives
    MEAN = auto()  #: that a norm takes off
    VARIANCE = auto()  #: that a norm divides by
    TABLE = auto()  #: rows that indices look up
    INDEX = auto()
    SIZES = auto()  #: of the result, axis by axis
    PARTS = auto()  #: sizes of the pieces that an axis is cut into
    SETTING = auto()  #: says how the op works, per axis or per box
    ROTATION = auto()  #: sines or cosines by position
    STATE = auto()  #: of a recurrence, before its first step
    GATES = auto()  #: weights of a state that act on its elements one by one
    LENGTHS = auto()
    PAST = auto()  #: keys or values of earlier calls
    MASK = auto()
    FACTOR = auto()  #: of packed integers
    ZERO_POINT = auto()  #: of packed integers


@dataclass(frozen=True, slots=True)
class Function:
    """A function of single elements; further inputs and attributes are its settings.

    Attributes:
        zero: it gives 0 for 0. slope: and its derivative there is a number other than 0.
    """

    zero: bool = False
    slope: bool = False


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is made of the elements along the axes that go.

    Attributes:
        kind: ``extreme`` (the largest or smallest), ``mean``, ``sum``, ``squares`` (their sum), ``norm`` (the root of
            it), or ``other``.
        counts: equal elements give something else where there are more of them.
        spatial: the axes are all behind the first two.
        windows: it is made of neighbours, window by window; the axes stay.
    """

    kind: Literal["extreme", "mean", "sum", "squares", "norm", "other"]
    counts: bool = True
    spatial: bool = False
    windows: bool = False


@dataclass(frozen=True, slots=True)
class Linear:
    """A map that contracts an axis of its data with one of a weight (or of a second operand).

    Attributes:
        form: ``product`` (the last axis of the first operand, the last but one of the second), ``kernel`` (channels,
            and taps along further axes), ``letters`` (as an equation says), or ``attention`` (projections inside).
        contracted: axis of the weight that goes, before any transposition that attributes ask for.
        factors: how many of the first inputs are multiplied; 0: all of them.
        operands: both may be activations.
        flips: names of the attributes that swap the two last axes of the operands.
    """

    form: Literal["product", "kernel", "letters", "attention"]
    contracted: int = -2
    factors: int = 2
    operands: bool = True
    flips: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Norm:
    """A normalisation.

    Attributes:
        over: what it measures over: ``trailing`` axes from its ``axis`` on, the positions of every channel (``space``),
            the ``batch`` as well, or ``groups`` of channels.
        centred: the mean is taken off. groups: name of the attribute that counts groups.
    """

    over: Literal["trailing", "space", "batch", "groups"]
    centred: bool = True
    groups: str | None = None


@dataclass(frozen=True, slots=True)
class Packing:
    """What an op has to do with quantised numbers.

    Attributes:
        scheme: what its presence says of a file: ``dynamic`` (activations are quantised at run time), ``static`` (by
            calibrated scales), ``blocks`` (weights, in blocks), or ``weights``.
        meant: inputs of packed numbers whose scale and zero point are the two inputs behind; ``every`` third one.
        packs: ops whose weights a quantiser packs, where this one stands in the result.
        contracts: it multiplies with a weight, or another operand, as a linear map does. like: and its first inputs are
            those of such a map of plain numbers.
        weight: the input that holds the packed weight. zero_point: the input that holds its zero point, if any.
    """

    scheme: Literal["dynamic", "static", "blocks", "weights"]
    meant: tuple[int, ...] = ()
    every: bool = False
    packs: tuple[str, ...] = ()
    contracts: bool = False
    like: Linear | None = None
    weight: int = 1
    zero_point: int | None = None


_NO_SLOTS: Mapping[int, Slot] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """What is known of one op.

    Attributes:
        name, domain: of the op; ONNX's own domain is empty.
        axes: see :class:`Axes`; None: a rule says it, or nothing does. unary: it has one operand. variadic: it has any
            number of them, all alike.
        data: inputs whose elements it passes on; of a variadic op these are all.
        moves: how it passes them on; nothing: it computes. training: the input that makes it compute all the same.
        calc, function: of elements. commutative: operands may change places. bounded: results lie between two numbers.
        positive: no result is below 0.
        linear, norm, reduction: see there. distribution: results are shares of 1 along an axis.
        chooses: it picks among the elements along an axis: that axis where no attribute names one, else None.
        ordered: which element stands where along an axis matters. random: results differ from run to run.
        measures: only the shape of its input matters. fills: it makes equal elements, as many as its input says.
        alike: on quantised numbers it does the same as on those that they stand for.
        keeps_shape: its first result has the axes of its first input, whatever else it does to them.
        slots: what inputs are for. leaves: frameworks keep what is in them under names of their own.
        gates: how many gates a recurrence packs along one axis. attention: it is a whole attention.
        experts: the input whose last axis counts the experts that it picks among, by rank.
        bodies: attributes with graphs that may be inlined. sequences: it makes sequences of tensors, or optional ones.
        packing: see :class:`Packing`.
        shapes: integers that it computes are worth following: sizes are worked out with it.
        whole: what it computes of single whole numbers.
        macs: what a run costs, in multiply-accumulates, by the sizes of inputs and outputs; None: nothing that counts.
    """

    name: str
    domain: str = ""
    axes: Axes | None = None
    unary: bool = False
    variadic: bool = False
    data: tuple[int, ...] = (0,)
    moves: Move = NO_MOVE
    training: int | None = None
    calc: Calc | None = None
    function: Function | None = None
    bounded: bool = False
    positive: bool = False
    commutative: bool = False
    linear: Linear | None = None
    norm: Norm | None = None
    reduction: Reduction | None = None
    distribution: bool = False
    chooses: int | None = None
    ordered: bool = False
    fills: bool = False
    measures: bool = False
    random: bool = False
    alike: bool = False
    keeps_shape: bool = False
    slots: Mapping[int, Slot] = field(default_factory=lambda: _NO_SLOTS)
    leaves: bool = False
    gates: int = 0
    attention: bool = False
    experts: int | None = None
    bodies: tuple[str, ...] = ()
    sequences: bool = False
    packing: Packing | None = None
    shapes: bool = False
    whole: Callable[..., int] | None = None
    macs: Macs | None = None

    @property
    def key(self) -> str:
        """``Op`` in ONNX's own domain, ``domain::Op`` elsewhere."""
        return f"{self.domain}::{self.name}" if self.domain else self.name

    def inputs_for(self, *wanted: Slot) -> tuple[int, ...]:
        """Numbers of the inputs that are for one of ``wanted``."""
        return tuple(number for number, slot in self.slots.items() if slot in wanted)
