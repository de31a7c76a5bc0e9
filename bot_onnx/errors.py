"""Every error that bot-onnx raises on purpose, and the words for every reason.

Each one carries a message for a person: what was refused, the place (node, tensor or key), and a way out. What a
program wants to know of it stands beside the message as attributes; no message has to be read for data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from bot_onnx._reasons import Reason, Why


class BotError(Exception):
    """Base of all of them: the CLI prints its message and exits with code 1.

    Attributes:
        kind: what failed, in a word that stays: the ``kind`` of ``--json``.
        node: name of the node of the graph that it is about, or None.
        dim: name of the dim that it is about, or None.
        report: the :class:`bot_onnx.VerifyReport` of checks that failed, or None.
        alternatives: what would do instead, best first: sizes, names or keys; empty where nothing is known.
    """

    kind: ClassVar[str] = "refused"

    def __init__(
        self,
        message: str = "",
        *,
        node: str | None = None,
        dim: str | None = None,
        report: Any = None,
        alternatives: Iterable[int | str] = (),
    ) -> None:
        super().__init__(message)
        self.node = node
        self.dim = dim
        self.report = report
        self.alternatives: tuple[int | str, ...] = tuple(alternatives)


class SpecError(BotError):
    """The target spec is malformed, contradictory, or asks for a size the graph cannot take."""

    kind = "spec"


class GraphError(BotError):
    """The model file cannot be read, or its structure cannot be understood."""

    kind = "graph"


class DimError(SpecError):
    """A dim that does not exist, is frozen, or does not admit the requested size."""

    kind = "dim"


class ProofError(SpecError):
    """A resize that could not be proven: ``fault`` says where (a :class:`bot_onnx._surgery.proven.Fault`)."""

    kind = "proof"

    def __init__(self, message: str = "", fault: Any = None) -> None:
        node = None if fault is None else fault.node or fault.value or None
        super().__init__(message, node=node, dim=fault.dims[0] if fault is not None and fault.dims else None)
        self.fault = fault


class PlanError(BotError):
    """A saved plan that cannot be read, or must not be run: it is of another source or version, or was changed."""

    kind = "plan"


class ResampleError(BotError):
    """A resampling method refuses its options, a direction, or a tensor."""

    kind = "method"


class VerifyError(BotError):
    """The written model failed a check, see ``report``; nothing was kept."""

    kind = "check"


class OutputError(BotError):
    """The output path cannot be written, or must not be."""

    kind = "output"


class MissingRuntimeError(BotError):
    """A library that runs or trains models is not installed; the message names the extra that brings it."""

    kind = "runtime"


class CheckpointError(BotError):
    """Weights cannot be matched between a graph and a framework's checkpoint, or the checkpoint cannot be read."""

    kind = "checkpoint"


class DataError(BotError):
    """Samples for a model cannot be read, or do not suit it."""

    kind = "data"


class RecoverError(BotError):
    """A student cannot be taught: the converter cannot carry it, the data do not suit it, or a run cannot go on."""

    kind = "recover"


#: What is said of each kind of reason. ``{at}`` is the op and its node.
_SENTENCES: Final[dict[Why, str]] = {
    Why.INPUT: "an axis of a graph input",
    Why.EQUAL_PARTS: "a number of equal parts",
    Why.DIRECTIONS: "a number of equal parts: the directions of {at}",
    Why.FEATURES: "features of the constant {name}",
    Why.PICKED: "{at} picks elements of it by constant indices",
    Why.PICKED_AT_RUN_TIME: "{at} picks elements of it by computed indices",
    Why.CLASSES: "{at} has a fixed number of classes",
    Why.KERNEL: "taps of a kernel",
    Why.SPATIAL: "a spatial size, which follows from the input",
    Why.POSITION: "{at} indexes this axis by computed positions",
    Why.CONSTANT: "{name} is a constant table, no trained weight",
    Why.SIZES_DIFFER: "two axes of different sizes meet here",
    Why.SPLITS_DIFFER: "two incompatible ways of splitting this axis meet",
    Why.UNKNOWN_SHAPE: "the shape of this value is not understood",
    Why.UNKNOWN_SIZE: "its size is computed in a way that is not understood",
    Why.NO_FORMULA: "table {name} follows no formula that is known here",
    Why.LOOKED_UP: "{name} is looked up by computed indices",
    Why.ADDRESSED_ROWS: "rows of {name}, addressed by an input or a fixed table",
    Why.RANKED: "{at} picks among them by rank",
    Why.GATE_PACKED: "{at} packs its gate in a way that is not understood",
    Why.NO_RULE: "no rule for op {at}",
    Why.RESIZES: "op {at} changes it to another size",
    Why.MIXES: "op {at} mixes the indices along it",
    Why.WEIGHS: "op {at} sums over it with a factor of its own",
    Why.ONE_SIZE: "op {at} admits no other size of it",
    Why.OP_SETS_SIZE: "op {at} sets its size",
    Why.BRANCH_SIZES: "the branches of {at} give different sizes",
    Why.BRANCH_RANKS: "the branches of {at} differ in rank",
    Why.SCANNED: "{at} runs along it",
    Why.CARRIED: "{at} changes it from one iteration to the next",
    Why.COLLECTED: "values collected by a loop whose shape is not understood",
    Why.ITERATIONS: "a number of iterations",
    Why.GROUPED: "grouped {at}",
    Why.ALTERED: "{at} changes this axis",
    Why.BLOCKS: "{at} takes blocks of it",
    Why.STANDARDISED: "{at} standardises weights along it, by its size",
    Why.SLICE_BOUNDS: "{at} takes a part of it by bounds that are not understood",
    Why.SLICE_STEP: "{at} takes every {number}th element",
    Why.SLICE_FIXED: "{at} takes a part of it that cannot follow another size",
    Why.SLICE_ELEMENT: "a single element that {at} takes",
    Why.SPLIT: "{at} splits it in a way that is not understood",
    Why.SPLIT_PART: "a part that {at} makes",
    Why.ATTRIBUTE: "{at} fixes it in an attribute",
    Why.FIXED_RANGE: "{at} counts to a fixed number",
    Why.TURNED: "the axes that are turned are not those that there are",
    Why.REGROUPED: "{at} regroups this axis in a way that is not understood",
    Why.REPEATS: "repeats of {at}",
    Why.CONCAT_ELEMENT: "a single element of {at}",
    Why.PADDED: "{at} pads this axis",
    Why.NO_EINSUM_OUTPUT: "{at} has no explicit output",
    Why.HEADS: "{at}: its heads are not understood",
    Why.HEADS_PACKED: "{at} packs queries, keys and values in a way that is not understood",
    Why.OWN_ROTATION: "{at} rotates it by a table of its own",
    Why.KEYS_AND_VALUES: "keys and values",
    Why.TURNS_PART: "{at} turns a part of it",
    Why.TURNS_PAIRS: "{at} turns pairs of it",
    Why.ROWS_BY_POSITION: "{at} looks its rows up by position",
    Why.CHOSEN: "the number of elements that {at} chooses",
    Why.SEQUENCE: "{at} handles a sequence of tensors",
    Why.UNRUN: "{at} stands in a branch that could not be run",
    Why.UNPROVEN: "a larger one is no copy of it at {op} (node '{node}': {seen})",
    Why.UNPROVEN_INPUT: "{seen}",
    Why.STAGES: "its layers change the shape of what they are given ({sizes}): each is a stage of its own",
    Why.SHARED_IRREGULARLY: "the layers share {name} in an irregular pattern",
    Why.USED_ELSEWHERE: "other nodes use the weights of its layers as well (node '{node}')",
    Why.OWN_TABLES: "each layer has a table of its own, by a formula not known here ({name})",
    Why.TWO_CHAINS: "the layers share {name} with one chain of layers, and others with another",
    Why.ORDERED: "{at} looks at positions along it",
    Why.ROTATED: "{at} turns pairs along it",
    Why.CAPTURED: "the body of {at} reads it",
    Why.SHUFFLED: "its channels are shuffled among those of another axis",
    Why.DEALT: "it is normalised together with others, in groups that end within it",
    Why.SHOWN: "the output {name} carries it",
    Why.GIVEN: "the input {name} carries it",
    Why.MEANT: "the order of a dim of role {name} has a meaning",
    Why.TABLE_ALONG: "{name} is a table along it",
    Why.NO_WEIGHT: "{name} along it is no weight",
    Why.NO_HIDDEN: "no dim of role hidden",
    Why.COMPOSED: "its channels are put together from other dims",
    Why.NO_SCALE: "a norm has no scale of its own",
    Why.STREAM_INPUT: "input '{name}' is part of the stream",
    Why.STREAM_OUTPUT: "output '{name}' shows hidden element by element",
    Why.STREAM_LINKED: "'{name}' shows hidden to another model, which is resized with this one and is not turned",
    Why.STREAM_SHARED: "'{name}' is a tensor of another model as well, which is resized with this one",
    Why.NORM_OUTPUT: "output '{name}' shows the inside of a norm",
    Why.PART_OF_AXIS: "value '{name}' has channels of the stream as a part of an axis",
    Why.TWO_SCALES: "what '{name}' writes is scaled in two ways",
    Why.BODY: "the body of {at} reads values of the stream",
    Why.MADE: "{at} makes values of the stream without a weight",
    Why.ELEMENTWISE: "{at} works on the stream element by element",
    Why.ADDRESSES: "{at} addresses by values of the stream",
    Why.TAKEN_APART: "{at} takes channels of the stream apart",
    Why.PICKS_CHANNELS: "{at} picks channels of the stream",
    Why.JOINS_OTHER: "{at} joins the stream with something that is no part of it",
    Why.JOINS_KINDS: "{at} joins values of different kinds",
    Why.ADDS_ACTIVATED: "{at} adds what an activation gave to the stream",
    Why.ADDS_OTHER: "{at} adds something to the stream that no weight wrote",
    Why.ADDS_KINDS: "{at} adds values of different kinds",
    Why.ADDS_ALIKE: "{at} adds the same to every channel",
    Why.SCALES_ELEMENTS: "{at} scales the stream element by element",
    Why.SCALED: "'{name}' scales the stream element by element ({at})",
    Why.MULTIPLIES: "{at} multiplies values of the stream",
    Why.MULTIPLIES_MANY: "{at} multiplies more than two values",
    Why.MULTIPLIES_TIED: "{at} multiplies the stream with what is written into it",
    Why.DIVIDES: "{at} divides by the stream",
    Why.UNKNOWN_NORM: "{at} is a norm of an unknown kind",
    Why.OTHER_NORM: "{at} is a norm of another kind than the others",
    Why.NORM_OF_OTHER: "{at} does not normalise the stream itself",
    Why.NORM_OF_UNKNOWN: "{at} normalises what is not understood",
    Why.NORM_OF_MORE: "{at} normalises over more than channels of the stream",
    Why.NORM_WITHOUT_SCALE: "{at} is a norm without a scale of its own",
    Why.NORM_HALFWAY: "'{name}' reads a norm halfway ({at})",
    Why.NORM_STANDS: "what a norm gives is part of the stream ({at})",
    Why.UNKNOWN_READER: "'{name}' reads the stream in a way that is not understood ({at})",
    Why.READS_OTHER: "{at} reads what is no stream",
    Why.UNKNOWN_WORK: "{at} works on the stream in a way that is not understood",
    Why.COUNTS_CHANNELS: "{at} counts channels",
    Why.REDUCES_MORE: "{at} reduces more than channels",
    Why.MEAN_OF_CHANNELS: "{at} takes the mean over channels",
    Why.FILTERS: "{at} filters every channel by itself",
}


def said(reason: Reason) -> str:
    """A reason in words, as a part of a sentence: with names of nodes and tensors, for people."""
    return _SENTENCES[reason.kind].format(
        at=f"{reason.op} (node '{reason.node}')",
        op=reason.op,
        node=reason.node,
        name=reason.name,
        number=reason.number,
        sizes=" to ".join("x".join(map(str, shape)) for shape in reason.sizes),
        seen=reason.seen,
    )
