"""A model file checked: by itself, by what a spec says of it, beside what it was made from."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from bot_onnx._analysis.passes import analyse
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._origins import Origin
from bot_onnx._progress import stage
from bot_onnx._proof import Way, settle
from bot_onnx._resample import make_options
from bot_onnx._structure import Structure
from bot_onnx._surgery.more_heads import with_key_heads
from bot_onnx._surgery.provenance import read_provenance
from bot_onnx._target import TargetSpec
from bot_onnx._verify import Expected, VerifyReport, expected_from_sizes, expected_from_spec, verify_model

_METHOD = "bot"  # any will do: sizes and their proof do not ask how weights are made


def verify_origin(
    origin: Origin, target: TargetSpec | None, against: Origin | None, given: Given | None
) -> VerifyReport:
    """Check a model; see :meth:`bot_onnx._model.Model.verify`."""
    stage(f"verifying {origin.label}")
    with origin.file() as path, nullcontext() if against is None else against.file() as other:

        def expected(structure: Structure) -> Expected:
            assert target is not None
            if other is None or not target.relative:
                return expected_from_spec(structure, target)
            return _from_source(path, other, target, given)

        made = verify_model(path, expected=None if target is None else expected, against=other, given=given)
    return replace(made, path=origin.label)


def _from_source(path: Path, source: Path, target: TargetSpec, given: Given | None) -> Expected:
    """What a resize of the source to the target comes to: keys that relate to it say nothing without it."""
    with open_model(path) as file:
        made = read_provenance({entry.key: entry.value for entry in file.proto.metadata_props})
    unproven = made.get("proof") == "failed"  # it was written all the same
    with open_model(source, given=None if given is None else replace(given, strict=False)) as original:
        analysis = with_key_heads(analyse(original.model()), target)
        settled = settle(analysis, target, Way(_METHOD, make_options(_METHOD)), unproven=unproven)
        return expected_from_sizes(settled.structure, settled.solution)
