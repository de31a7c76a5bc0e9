"""How much of every stack's energy halving would keep: :meth:`bot_onnx._model.Model.energy`."""

from __future__ import annotations

from bot_onnx._align import Kind, find_facts, plan_alignment
from bot_onnx._align import align as align_tensors
from bot_onnx._align.energy import EnergyTable, halved
from bot_onnx._align.energy import energy as measure_energy
from bot_onnx._analysis.passes import analyse
from bot_onnx._inspecting import opened
from bot_onnx._onnxfile.input_overrides import Given
from bot_onnx._origins import Origin
from bot_onnx._progress import stage
from bot_onnx._resample import shrinking_operators
from bot_onnx.errors import ResampleError


def energies(origin: Origin, given: Given | None) -> tuple[EnergyTable, ...]:
    """What halving would keep; see :meth:`bot_onnx._model.Model.energy`."""
    stage(f"analysing {origin.label}")
    with opened(origin, given) as source:
        source.check_resizable()
        loaded = source.model()
        analysis = analyse(loaded)
        structure, facts = analysis.structure, find_facts(analysis)
        tensors = analysis.tensors()
        tables: list[EnergyTable] = []
        kinds: tuple[Kind, ...] = ("none", "permute", "rotate")
        for kind in kinds:
            stage(f"measuring energies, alignment {kind}")
            try:
                alignment = plan_alignment(kind, structure, halved(structure), facts)
                aligned = align_tensors(alignment, tensors)
                tables.extend(measure_energy(structure, alignment, aligned, shrinking_operators()))
            except ResampleError:
                if kind != "rotate":  # which is for pre-norm networks alone
                    raise
        source.check_unchanged()
        return tuple(tables)
