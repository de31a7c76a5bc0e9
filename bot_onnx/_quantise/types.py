"""What is asked of a quantisation, and what came of it, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bot_onnx import _html
from bot_onnx._names import QuantiseKind
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._shards import External
from bot_onnx._verify.types import VerifyReport

Kind = QuantiseKind


@dataclass(frozen=True, slots=True)
class QuantiseRequest:
    """What is asked.

    Attributes:
        kind: what the weights become.
        calibration: an ``.npz`` file of samples, an array per input: scales of activations are calibrated on it
            (``int8``), and the files are compared on it; None: activations get their scales as the network runs.
        given: what the files are run and compared on where there is no calibration; None: inputs are made up.
        external: store the weights beside the model, in one file or several; None: as the source does.
        force: replace an existing output.
    """

    kind: Kind
    calibration: Path | None = None
    given: Given | None = None
    external: External | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """Float tensors that stay in 32 bits, for one reason.

    Attributes:
        why: ``small``: vectors and scalars, which quantisers leave (biases, gains of norms); ``op``: the ops that read
            them take no such numbers; ``kept``: the quantiser left them, though it took others of the same op.
        op: the op that reads them, with its domain unless that is ONNX's; empty for ``small``.
        tensors, numbers: how many.
    """

    why: Literal["small", "op", "kept"]
    op: str
    tensors: int
    numbers: int


@dataclass(frozen=True, slots=True)
class Closeness:
    """How far one output of the quantised file is from the floats', on the same inputs.

    Attributes:
        output: name.
        max_difference: largest absolute difference; None where the shapes differ, which follows from values.
        scale: largest absolute value of the floats' output.
        relative: the one over the other; None where there is none, or the scale is 0.
        agreement: share of rows whose largest element along the last axis is the same; None where it has fewer than
            two elements, or holds no floats.
        rows: that the share is of.
    """

    output: str
    max_difference: float | None
    scale: float
    relative: float | None
    agreement: float | None
    rows: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What one file costs.

    Attributes:
        what: ``float`` or ``quantised``, after ``source``, ``resized`` or ``recovered`` where the model was
            made of another one as well.
        size_bytes: of the file with its data. latency: median seconds of one run, on one thread.
        agreement: share of rows whose largest element along the last axis is that of the first file; None for that one,
            and where no output has the same shape.
        why_not: why it could not be had, or None.
    """

    what: str
    size_bytes: int | None
    latency: float | None
    agreement: float | None = None
    why_not: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Quantised:
    """A finished quantisation.

    Attributes:
        source, output: files. kind: what was asked for. scheme: how the output is quantised, in words.
        calibrated: samples on which scales of activations were calibrated; None: no scales were.
        compared_on: what both files were run on, in words. made_up: whether no data were given for that.
        tensors, numbers: how many were quantised. left: and which were not.
        closeness: of every output. costs: of the files, before and after.
        notes: what else is to be known, in sentences.
        report: the checks of the output. seconds: that all of it took.
    """

    source: str
    output: Path
    kind: Kind
    scheme: str
    calibrated: int | None
    compared_on: str
    made_up: bool
    tensors: int
    numbers: int
    left: tuple[Left, ...]
    closeness: tuple[Closeness, ...]
    costs: tuple[Spent, ...]
    notes: tuple[str, ...]
    report: VerifyReport
    seconds: float

    def __repr__(self) -> str:
        """The file, what it became and how far it is from the floats, in a line."""
        found = [entry.relative for entry in self.closeness if entry.relative is not None]
        far = f", at most {max(found):.2%} of an output's scale off" if found else ""
        return f"<Quantised {self.output}: {self.kind}, {self.tensors} tensors{far}; {self.report!r}>"

    def _repr_html_(self) -> str:
        facts = {"source": self.source, "output": self.output, "scheme": self.scheme, "calibrated on": self.calibrated,
                 "quantised": f"{self.tensors:,} tensors, {self.numbers:,} numbers", "compared on": self.compared_on,
                 "made-up inputs": "yes" if self.made_up else None, "seconds": f"{self.seconds:.1f}"}  # fmt: skip
        left = ((entry.why, entry.op, entry.tensors, entry.numbers) for entry in self.left)
        close = ((e.output, e.max_difference, e.scale, e.relative, e.agreement) for e in self.closeness)
        costs = ((e.what, e.size_bytes, e.latency, e.agreement, e.why_not) for e in self.costs)
        columns = ("output", "max diff", "scale", "diff / scale", "same largest")
        return _html.block(
            _html.facts("Quantised", facts),
            _html.table("Left in 32 bits", ("why", "op", "tensors", "numbers"), left) if self.left else "",
            _html.table("Beside the floats", columns, close),
            _html.table("Files", ("file", "bytes", "seconds a run", "same largest", ""), costs),
            *(_html.facts("", {"note": note}) for note in self.notes),
            self.report._repr_html_(),
        )
