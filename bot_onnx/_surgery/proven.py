"""What a proof says: plain frozen values, parts of the Plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["proven", "failed", "nothing to prove"]


@dataclass(frozen=True, slots=True)
class Formula:
    """A constant that follows a dim by a formula, as the proof found it.

    Attributes:
        value: what the node makes that multiplies with it or divides by it; in the other layers of a chain, too.
        slot: the input or attribute of the node.
        formula: of the dim's size ``n``; a key of :data:`bot_onnx._patterns.closed_forms.SCALES`.
        dims: ids of the leaves whose product is the dim.
    """

    value: str
    slot: int | str
    formula: str
    dims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gain:
    """A factor that weights take where a network grows, so that its function stays.

    Attributes:
        stack: id of the stack, or empty where the factor stands for weights that are tied to others and cannot take it.
        value: name of the value that shows it.
        exponent: of the ratio (new size over old) of every leaf in ``dims``.
        dims: ids of leaves.
    """

    stack: str
    value: str
    exponent: float
    dims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """The first value in graph order that a larger network computes otherwise than as copies.

    Attributes:
        node, op: the node that makes it. value: its name.
        dims: names of the dims for which it happens.
        difference: what was seen, for people.
    """

    node: str
    op: str
    value: str
    dims: tuple[str, ...]
    difference: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof of a plan: a miniature of the graph, grown by exact duplication, computes copies of what it computed.

    Attributes:
        status: ``nothing to prove`` where no dim changes.
        dims: names of the dims that grew. left_out: names of changing dims of which it is not followed which channels
            belong together (they are shuffled, or their groups hold others then): nothing is shown of them by copies.
        values: number of values compared. nodes: number of nodes of the miniature.
        formulas: constants that follow dims, found by the proof.
        gains: factors that weights take, or would have to.
        fault: where it failed.
        kept: dims that stay because the proof fails for them, with what was seen, for people.
        seconds: time that it took.
    """

    status: Status
    dims: tuple[str, ...] = ()
    values: int = 0
    nodes: int = 0
    formulas: tuple[Formula, ...] = ()
    gains: tuple[Gain, ...] = ()
    fault: Fault | None = None
    kept: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Promise:
    """What the target's outputs are to the source's, as planned.

    Attributes:
        kept: True: equal through the operators of the axes; False: another function, as planned (shrinking, or growth
            that cannot be exact); None: nothing is known.
        why: where it is not kept: the reason, for people.
        factors: (output name, number): outputs that are the source's times a number (a unit vector of twice the
            length).
        outputs: names of the outputs that are kept; None: all of them.
        way: what would keep it, for people; empty if nothing is known.
    """

    kept: bool | None = None
    why: str = ""
    factors: tuple[tuple[str, float], ...] = ()
    outputs: tuple[str, ...] | None = None
    way: str = ""

    def keeps(self, output: str) -> bool:
        """Whether an output is kept."""
        return self.kept is True and (self.outputs is None or output in self.outputs)


UNTRIED = Proof("nothing to prove")
UNKNOWN = Promise()
#: Of what is quantised again: its floats were held against the source, not what rounds them.
QUANTISED = Promise(why="quantised again")
#: Of what learned operators make.
LEARNED = Promise(why="the operators are learned")
