"""From a spec to sizes that are proven, and to what can be promised of them."""

from __future__ import annotations

from dataclasses import replace

from bot_onnx._analysis.passes import Analysis
from bot_onnx._proof.keeping import keeping, leaves_alone
from bot_onnx._proof.miniature import scales_of
from bot_onnx._proof.promise import Way, laws_of
from bot_onnx._proof.prover import prove
from bot_onnx._reasons import Reason, Why
from bot_onnx._surgery.laws import nearly, untaken
from bot_onnx._surgery.proven import Fault, Promise
from bot_onnx._surgery.scales import check_scales
from bot_onnx._surgery.settled import Settled
from bot_onnx._target import Solution, TargetSpec, solve
from bot_onnx.errors import DimError, ProofError, SpecError, said

_ROUNDS = 12  #: times that dims are kept and the rest is tried again


def settle(analysis: Analysis, spec: TargetSpec, way: Way, *, unproven: bool = False) -> Settled:
    """Solve a spec and prove what comes out; dims that nobody asked for are kept where the proof fails for them.

    Args:
        analysis: of the source.
        spec: the target.
        way: how the weights are resampled.
        unproven: go on where the proof fails.

    Raises:
        SpecError, DimError, GraphError: the target cannot be had.
        ProofError: the proof fails for a dim that the spec asks for.
    """
    given = spec.constants or {}
    wanted = solve(analysis.structure, spec)
    solution = wanted.with_all_tokens
    check_scales(analysis, solution.sizes, given)
    proven = prove(analysis, solution.sizes, given)
    kept: list[str] = []
    for _ in range(_ROUNDS):
        fault = proven.proof.fault
        if fault is None or unproven:
            break
        culprits = _culprits(analysis, fault, solution)
        if not culprits:
            raise ProofError(_refusal(fault), fault)
        analysis = _with_frozen(analysis, culprits, fault)
        kept += [f"{_named(analysis, culprits)}: {_told(fault)}"]
        try:
            wanted = solve(analysis.structure, spec)
            solution = wanted.with_all_tokens
        except (DimError, SpecError) as error:
            raise ProofError(f"{error} {_refusal(fault)}", fault) from error
        proven = prove(analysis, solution.sizes, given)
    if proven.proof.fault is not None and not unproven:
        raise ProofError(_refusal(proven.proof.fault), proven.proof.fault)
    proof = replace(proven.proof, kept=tuple(kept))
    found = (scale for formula in proof.formulas for scale in scales_of(analysis, formula))
    analysis = replace(analysis, scales=(*analysis.scales, *found))
    if proven.miniature is not None:
        proven.miniature.learn(analysis.scales)
    promise, gains = keeping(analysis, solution, proven, way)
    if promise.kept is None and wanted.tokens and solution.keeps_sizes_of(analysis.structure) and leaves_alone(way):
        promise = Promise(True)  # the rows that stay are the source's own, and so is all else
    laws = laws_of(analysis, solution.sizes, way)
    told = (*nearly(analysis, solution.sizes), *untaken(analysis.structure, proof, solution.sizes))
    laws = replace(laws, notes=(*laws.notes, *told))
    return Settled(wanted, proof, promise, laws, gains, analysis.structure, analysis.scales)


def _culprits(analysis: Analysis, fault: Fault, solution: Solution) -> list[str]:
    """Ids of the dims that fail, unless the spec asks for one of them."""
    by_name = {dim.name: ident for ident, dim in analysis.structure.dims.items()}
    idents = [by_name[name] for name in fault.dims]
    return [] if solution.asked.intersection(idents) else idents


def _with_frozen(analysis: Analysis, idents: list[str], fault: Fault) -> Analysis:
    dims = dict(analysis.structure.dims)
    for ident in idents:
        dims[ident] = replace(dims[ident], frozen=_reason(fault))
    return replace(analysis, structure=replace(analysis.structure, dims=dims))


def _named(analysis: Analysis, idents: list[str]) -> str:
    return ", ".join(analysis.structure.dims[ident].name for ident in idents)


def _reason(fault: Fault) -> Reason:
    kind = Why.UNPROVEN if fault.op else Why.UNPROVEN_INPUT
    return Reason(kind, fault.op, fault.node or fault.value, seen=fault.difference)


def _told(fault: Fault) -> str:
    return said(_reason(fault))


def _refusal(fault: Fault) -> str:
    return (
        f"The proof fails for {', '.join(fault.dims)}: {_told(fault)}. Keep these dims at their size, or go on without "
        "the proof (--unproven)."
    )
