"""What can be seen of one model file: each thing is worked out when a check first asks for it, and once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bot_onnx._analysis.passes import Analysis, analyse
from bot_onnx._onnxfile.reader import Source
from bot_onnx._onnxfile.tensor_protos import one_line
from bot_onnx._progress import stage
from bot_onnx._structure import Structure
from bot_onnx._verify.dequantised import floating
from bot_onnx._verify.descent import UNKNOWN, Descent, find_descent
from bot_onnx._verify.expected import Expected
from bot_onnx._verify.locate import first_difference
from bot_onnx._verify.outputs import output_axes
from bot_onnx._verify.trial import Compared, Trial, compare_with, run_model
from bot_onnx._verify.types import Check
from bot_onnx._verify.validity import Shapes, check_validity
from bot_onnx.errors import MissingRuntimeError


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a file is to be checked; see :func:`bot_onnx._verify.verify_model`."""

    expected: Expected | Callable[[Structure], Expected] | None = None
    against: str | None = None
    against_sha256: str | None = None
    deep_shapes: bool = True
    allow_nonfinite: bool = False
    seed: int = 0
    scratch: Path | None = None
    cuda: bool = False


class Examination:
    """One model file, opened, and what it is compared with.

    Args:
        source: the file. opened: path that opens it.
        original: what it is compared with, or None.
        wanted: how it is checked.
        stack: what is opened on the way is closed with it.

    The errors of the properties are those of :func:`bot_onnx._verify.verify_model`.
    """

    def __init__(
        self, source: Source, opened: str, original: Source | None, wanted: Wanted, stack: contextlib.ExitStack
    ) -> None:
        self.source, self.opened, self.original, self.wanted = source, opened, original, wanted
        self._stack = stack

    @cached_property
    def validity(self) -> tuple[list[Check], Shapes]:
        """What onnx says of it, and the shapes of the outputs."""
        stage("checking the format")
        return check_validity(self.source, deep_shapes=self.wanted.deep_shapes)

    @cached_property
    def analysed(self) -> tuple[Analysis | None, Check]:
        """Its analysis (None where that fails), and the check that says so."""
        stage("analysing the structure")
        try:
            analysis = analyse(self.source.model())
        except MissingRuntimeError:
            raise
        except Exception as error:  # a file that breaks the analysis is a finding, whatever it breaks
            return None, Check("structure", "fail", f"it cannot be analysed: {one_line(error)}")
        structure = analysis.structure
        counts = f"{len(structure.chains)} chains, {len(structure.dims)} dims, {len(structure.stacks)} stacks"
        return analysis, Check("structure", "pass", f"{structure.nodes} nodes: {counts}")

    @property
    def analysis(self) -> Analysis | None:
        """Its analysis, or None where that fails."""
        return self.analysed[0]

    @property
    def structure(self) -> Structure | None:
        """Its structure, or None where the analysis fails."""
        return None if self.analysis is None else self.analysis.structure

    @cached_property
    def descent(self) -> Descent:
        """What it says of how it was made from what it is compared with."""
        if self.original is None:
            return UNKNOWN
        return find_descent(self.source, self.original, self.wanted.against_sha256)

    @cached_property
    def run(self) -> tuple[Trial | None, list[Check]]:
        """Its runs at two input sizes (None where it does not run), and the checks of these."""
        observed = None if self.analysis is None else self.analysis.context.observed.shapes
        descent = self.descent
        stage("running it")
        return run_model(
            self.source,
            self.opened,
            observed=observed,
            reference=self.original,
            seed=self.wanted.seed,
            descent=descent,
            cuda=self.wanted.cuda,
        )

    @property
    def trial(self) -> Trial | None:
        """Its runs at two input sizes, or None where it does not run."""
        return self.run[0]

    @cached_property
    def reference(self) -> tuple[Source, str] | None:
        """What its outputs are held against, and the path that opens it: the floats, of a quantised original."""
        if self.original is None or self.wanted.against is None:
            return None
        if not self.descent.held_in_floats:
            return self.original, self.wanted.against
        floats = self._stack.enter_context(floating(self.original, self.wanted.scratch))
        return floats, os.fspath(floats.path)

    @cached_property
    def compared(self) -> Compared:
        """Its outputs beside those of the reference; nothing where there is none."""
        if self.reference is None:
            return Compared()
        axes = {} if self.analysis is None else output_axes(self.analysis)
        return compare_with(*self.reference, self.trial, self.source.proto.graph, axes, self.descent)

    def locate(self, wrong: Sequence[str]) -> str | None:
        """Say where outputs, given by name, part from those of the reference."""
        if self.trial is None or self.reference is None:
            return None
        return first_difference(self.source, self.opened, *self.reference, self.trial, self.descent, wrong)
