"""Why something must stay as it is: a kind and what it is about, as a value. :func:`bot_onnx.errors.said` words it.

Passes decide by the kind. No text of a reason is ever made, or read, anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


class Why(StrEnum):
    """Kinds of reasons; the sentence of each stands in :mod:`bot_onnx.errors`."""

    # -- a dim keeps its size ----------------------------------------------------------------------------------
    INPUT = auto()  #: an axis of a graph input: the one reason that can be taken back
    # it counts things
    EQUAL_PARTS = auto()
    DIRECTIONS = auto()
    FEATURES = auto()
    PICKED = auto()
    PICKED_AT_RUN_TIME = auto()
    CLASSES = auto()
    # taps of kernels, sizes of images
    KERNEL = auto()
    SPATIAL = auto()
    POSITION = auto()  #: computed positions address it
    CONSTANT = auto()  #: a table that no training made
    # what an op makes of it
    SIZES_DIFFER = auto()
    SPLITS_DIFFER = auto()
    UNKNOWN_SHAPE = auto()
    UNKNOWN_SIZE = auto()
    NO_FORMULA = auto()
    LOOKED_UP = auto()
    ADDRESSED_ROWS = auto()
    RANKED = auto()
    GATE_PACKED = auto()
    NO_RULE = auto()
    RESIZES = auto()
    MIXES = auto()
    WEIGHS = auto()
    ONE_SIZE = auto()
    OP_SETS_SIZE = auto()
    BRANCH_SIZES = auto()
    BRANCH_RANKS = auto()
    SCANNED = auto()
    CARRIED = auto()
    COLLECTED = auto()
    ITERATIONS = auto()
    GROUPED = auto()
    ALTERED = auto()
    BLOCKS = auto()
    STANDARDISED = auto()
    SLICE_BOUNDS = auto()
    SLICE_STEP = auto()
    SLICE_FIXED = auto()
    SLICE_ELEMENT = auto()
    SPLIT = auto()
    SPLIT_PART = auto()
    ATTRIBUTE = auto()
    FIXED_RANGE = auto()
    TURNED = auto()
    REGROUPED = auto()
    REPEATS = auto()
    CONCAT_ELEMENT = auto()
    PADDED = auto()
    NO_EINSUM_OUTPUT = auto()
    HEADS = auto()
    HEADS_PACKED = auto()
    OWN_ROTATION = auto()
    KEYS_AND_VALUES = auto()
    TURNS_PART = auto()
    TURNS_PAIRS = auto()
    ROWS_BY_POSITION = auto()
    CHOSEN = auto()
    SEQUENCE = auto()
    UNRUN = auto()
    UNPROVEN = auto()
    UNPROVEN_INPUT = auto()

    # -- a chain of layers keeps its depth ---------------------------------------------------------------------
    STAGES = auto()
    SHARED_IRREGULARLY = auto()
    USED_ELSEWHERE = auto()
    OWN_TABLES = auto()
    TWO_CHAINS = auto()

    # -- a dim keeps the order of its indices ------------------------------------------------------------------
    ORDERED = auto()
    ROTATED = auto()
    CAPTURED = auto()
    SHUFFLED = auto()
    DEALT = auto()
    SHOWN = auto()
    GIVEN = auto()
    MEANT = auto()
    TABLE_ALONG = auto()
    NO_WEIGHT = auto()

    # -- a residual stream is not turned, or not widened -------------------------------------------------------
    NO_HIDDEN = auto()
    COMPOSED = auto()
    NO_SCALE = auto()
    STREAM_INPUT = auto()
    STREAM_OUTPUT = auto()
    STREAM_LINKED = auto()
    STREAM_SHARED = auto()
    NORM_OUTPUT = auto()
    PART_OF_AXIS = auto()
    TWO_SCALES = auto()
    BODY = auto()
    MADE = auto()
    ELEMENTWISE = auto()
    ADDRESSES = auto()
    TAKEN_APART = auto()
    PICKS_CHANNELS = auto()
    JOINS_OTHER = auto()
    JOINS_KINDS = auto()
    ADDS_ACTIVATED = auto()
    ADDS_OTHER = auto()
    ADDS_KINDS = auto()
    ADDS_ALIKE = auto()
    SCALES_ELEMENTS = auto()
    SCALED = auto()
    MULTIPLIES = auto()
    MULTIPLIES_MANY = auto()
    MULTIPLIES_TIED = auto()
    DIVIDES = auto()
    UNKNOWN_NORM = auto()
    OTHER_NORM = auto()
    NORM_OF_OTHER = auto()
    NORM_OF_UNKNOWN = auto()
    NORM_OF_MORE = auto()
    NORM_WITHOUT_SCALE = auto()
    NORM_HALFWAY = auto()
    NORM_STANDS = auto()
    UNKNOWN_READER = auto()
    READS_OTHER = auto()
    UNKNOWN_WORK = auto()
    COUNTS_CHANNELS = auto()
    REDUCES_MORE = auto()
    MEAN_OF_CHANNELS = auto()
    FILTERS = auto()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something stays as it is.

    Attributes:
        kind: what anything decides upon.
        op, node: the op (with its domain where that is not ONNX's) and the name of the node that it is about.
        name: of the tensor, graph input or output, or role that it is about.
        number: for ``SLICE_STEP``, its step.
        sizes: for ``STAGES``, the shapes that a layer is given and gives.
        seen: for ``UNPROVEN``, what the proof saw, for people.
    """

    kind: Why
    op: str = ""
    node: str = ""
    name: str = ""
    number: int = 0
    sizes: tuple[tuple[int, ...], ...] = ()
    seen: str = ""

    @classmethod
    def at(cls, kind: Why, node: ir.Node, name: str | None = "", *, number: int = 0) -> Reason:
        """What a node does is the reason."""
        return cls(kind, node.op_type, node.name or "", name or "", number)

    @classmethod
    def of(cls, kind: Why, name: str | None) -> Reason:
        """What a tensor or a port is for is the reason."""
        return cls(kind, name=name or "")


class Obstacle(Exception):
    """A walk over the graph ends here, for a reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.kind)
        self.reason = reason
