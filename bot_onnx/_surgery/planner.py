"""From settled sizes to a Plan: decide the edits, try them, lay out the file. No weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx import __version__
from bot_onnx._align import Alignment, Choosing, Gradients, Kind, find_facts, plan_alignment
from bot_onnx._analysis.passes import Analysis
from bot_onnx._canonical.decompose import restore_casts
from bot_onnx._canonical.folded_norms import folded_note
from bot_onnx._canonical.spelling import restore_spelling
from bot_onnx._canonical.still_packed import quantised_weight
from bot_onnx._costs import sizing_of
from bot_onnx._onnxfile.byte_layout import Layout, TensorSlot, layout
from bot_onnx._onnxfile.input_overrides import given_to
from bot_onnx._resample import MethodOptions, get_method
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._shards import External
from bot_onnx._surgery.apply import apply
from bot_onnx._surgery.calibrated import Calibrated, going_on, holding
from bot_onnx._surgery.computed import computed, refuse_idle_samples, taught
from bot_onnx._surgery.edits import Edits, LayerChange, ReshapeEmpty, last_of_each, picks_of
from bot_onnx._surgery.emit import initializer_order, skeleton
from bot_onnx._surgery.held import Obeyed, obey
from bot_onnx._surgery.idle import idle_notes
from bot_onnx._surgery.joined import gathered, task_of, with_joints
from bot_onnx._surgery.joined import told as told_of_joints
from bot_onnx._surgery.kept_layers import moved_values, refuse_two_ways, staying_layers
from bot_onnx._surgery.laws import epsilon_edits
from bot_onnx._surgery.picked import picked
from bot_onnx._surgery.proven import LEARNED
from bot_onnx._surgery.provenance import describe, tolerance_of, unpromised
from bot_onnx._surgery.scales import check_branches, scale_edits
from bot_onnx._surgery.settled import Settled
from bot_onnx._surgery.sizes import size_edits
from bot_onnx._surgery.tasks import build_task
from bot_onnx._surgery.tokens import TokenUse, token_use
from bot_onnx._surgery.turns import notes_of_places
from bot_onnx._surgery.types import Asked, DimChange, Plan, StackPlan
from bot_onnx._surgery.undo import unchanged
from bot_onnx._target import Picks, TargetSpec
from bot_onnx.errors import GraphError, ResampleError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model comes from: for the plan, and for the metadata of what is made of it."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(slots=True)
class Prepared:
    """A plan with what the execution needs besides.

    Attributes:
        plan: the plan.
        proto: the target model without its weights.
        slots: the tensors to write, in file order.
        tensors: the source's tensors by name, unread.
        alignment: what happens to them before they are resampled.
        calibrated: what of the source's calibrated scales goes on.
        changed: numbers of a saved plan that are others than its request makes, in sentences.
        token_inputs: names of the inputs whose ids of tokens are others in the target.
    """

    plan: Plan
    proto: onnx.ModelProto
    slots: list[TensorSlot]
    tensors: dict[str, ir.TensorProtocol]
    alignment: Alignment
    calibrated: Calibrated
    changed: tuple[str, ...] = ()
    token_inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What the edits make of a graph: see :class:`Prepared`; ``notes`` are of the graph."""

    stacks: list[StackPlan]
    proto: onnx.ModelProto
    slots: list[TensorSlot]
    calibrated: Calibrated
    notes: tuple[str, ...]


_ASKED = Asked()
_NO_TOKENS = TokenUse()


def prepare(
    analysis: Analysis,
    spec: TargetSpec,
    settled: Settled,
    origin: Origin,
    *,
    method: str,
    options: MethodOptions,
    seed: int,
    external: External,
    align: Kind | None = None,
    samples: Samples | None = None,
    gradients: Gradients | None = None,
    name: str = "model.onnx",
    asked: Asked = _ASKED,
    stored: Plan | None = None,
) -> Prepared:
    """Plan a resize. The analysed model is as it was afterwards.

    Args:
        analysis: of the source.
        spec: the target.
        settled: its sizes, proven.
        origin: of the source.
        method, options, seed: of the resampling, recorded in the plan.
        external: weights go to a file beside the model, or to several.
        align: alignment of the source before; None: as the method likes it.
        samples: that the source's activations are looked at on; recorded by their hash.
        gradients: who takes them, where units are chosen by them.
        name: file name of the output.
        asked: what else was asked for, recorded in the plan.
        stored: a saved plan whose edits are carried out, held against those that follow from all the rest. The
            request says whether a number that was changed in it may be taken unproven.

    Raises:
        SpecError, DimError, GraphError, ResampleError: the target cannot be had; nothing was written.
        PlanError: the edits of the saved plan are others.
    """
    analysis = settled.over(analysis)
    tensors = analysis.tensors()
    refuse_two_ways(analysis.structure, settled.solution, spec.layers_by, get_method(method).layers_asked(options))
    free = get_method(method).picks_layers(options)
    staying = staying_layers(analysis, settled.solution, spec.layers_by, samples, tensors, free=free)
    choosing = Choosing(spec.keep, spec.refit)
    alignment = plan_alignment(
        _wanted(align, method, options, choosing),
        analysis.structure,
        settled.solution.sizes,
        find_facts(analysis, samples, gradients),
        choosing,
        promised=settled.promise.kept is True,  # of the request: a number that was changed turns no tensors
    )
    if samples is not None:
        refuse_idle_samples(alignment, staying)
    use = token_use(analysis, settled.solution.tokens, settled.solution.vocabularies)
    decided = decide(analysis, spec, settled, staying.picks, use)
    obeyed = Obeyed(decided) if stored is None else obey(stored, decided, unproven=asked.unproven)
    settled = obeyed.of(settled)
    asked = replace(
        asked,
        spec=spec.model_dump(mode="json", exclude_none=True),
        align=align,
        calibration_sha256=None if samples is None else samples.digest(),
        file_name=name,
    )
    outline = replace(
        _outline(analysis, settled, origin, obeyed, alignment),
        name=spec.name or "",
        method=method,
        options=options.model_dump(mode="json"),
        seed=seed,
        asked=asked,
        computed=computed(alignment, asked),
    )
    notes = check_branches(analysis, settled.solution.layers, spec.constants or {})
    notes += notes_of_places(analysis, settled.solution.layers)
    joined = analysis.structure.qkv if get_method(method).joins_qkv(options) else ()
    drawn = _drawn(analysis, settled, alignment, outline, joined, use)
    _refuse_early(drawn.stacks, method, options, seed, asked.tokens)
    idle = idle_notes(analysis.structure, settled, alignment, drawn.stacks, method, options)
    placed = layout(drawn.proto, drawn.slots, name, external=external)
    plan = replace(
        outline,
        stacks=tuple(_placed(stack, placed) for stack in drawn.stacks),
        notes=(
            *analysis.repairs,
            *drawn.notes,
            *settled.solution.notes,
            *notes,
            *outline.notes,
            *staying.notes,
            *told_of_joints(drawn.stacks),
            *idle,
            *taught(asked),
        ),
        parameters=(analysis.structure.parameters, _parameters(drawn.stacks)),
        size_bytes=(origin.size_bytes, placed.total_bytes),
        external=bool(placed.data) and (external or True),
        promise=outline.promise if asked.learned is None else LEARNED,
    )
    return Prepared(plan, drawn.proto, drawn.slots, tensors, alignment, drawn.calibrated, obeyed.changed, use.inputs)


def _outline(analysis: Analysis, settled: Settled, origin: Origin, obeyed: Obeyed, alignment: Alignment) -> Plan:
    """What a plan says before its edits are tried: no tensors yet, no bytes, no request."""
    sizing, solution = sizing_of(analysis), settled.solution
    return Plan(
        source=origin.path,
        name="",
        method="",
        options={},
        seed=0,
        align=alignment.kind,
        dims=DimChange.of(analysis.structure, solution.sizes),
        layers=obeyed.edits.layers,
        constants=obeyed.edits.constants,
        stacks=(),
        notes=(
            *alignment.notes,
            *settled.laws.notes,
            *(f"The plan was changed: {one}." for one in obeyed.changed),
        ),
        parameters=(0, 0),
        size_bytes=(0, 0),
        external=False,
        costs=(sizing.costs(), sizing.costs(solution.sizes, solution.layers)),
        proof=settled.proof,
        promise=settled.promise,
        source_sha256=origin.sha256,
        version=__version__,
        empties=obeyed.edits.empties,
        two_heads=bool(analysis.stored),
    )


def decide(analysis: Analysis, spec: TargetSpec, settled: Settled, picks: Picks, use: TokenUse = _NO_TOKENS) -> Edits:
    """What happens to the graph at the sizes that were settled: it is looked at, and not changed.

    Args:
        analysis, spec, settled: see :func:`prepare`.
        picks: per chain whose layers are chosen, the source's layer for every layer of the target.
        use: where the graph meets the tokens that stay.

    Raises:
        GraphError, DimError, SpecError: a number cannot be made to follow.
    """
    solution = settled.solution
    sized = size_edits(analysis, solution.sizes)
    numbers = [edit for edit in sized if not isinstance(edit, ReshapeEmpty)]
    epsilons = epsilon_edits(analysis, solution.sizes, settled.laws)
    factors = scale_edits(analysis, solution.sizes, solution.layers, spec.constants or {})
    return Edits(
        last_of_each([*epsilons, *numbers, *factors, *use.edits]),
        tuple(edit for edit in sized if isinstance(edit, ReshapeEmpty)),
        tuple(
            LayerChange(c.name, c.count, solution.layers[c.name], c.leading, picks.get(c.name, ()))
            for c in analysis.structure.chains
        ),
    )


def _drawn(
    analysis: Analysis,
    settled: Settled,
    alignment: Alignment,
    plan: Plan,
    joined: tuple[tuple[str, ...], ...],
    use: TokenUse,
) -> _Drawn:
    """The target without its weights: the edits of the plan are tried, and what they made is written down.

    ``joined``: stacks that are made together, by their ids.
    """
    structure, solution = analysis.structure, settled.solution
    picks = picks_of(plan.layers)
    moved = moved_values(analysis, picks)
    held = [(value, grid) for value, grid in holding(analysis, settled) if value not in moved]
    tolerance = tolerance_of(analysis, (stack.dtype for stack in structure.stacks), cut=_only_cut(analysis, settled))
    with unchanged(analysis):
        depth = apply(analysis, plan.edits)
        graph = analysis.model.graph
        stacks = with_joints(_stacks(analysis, settled, alignment, depth.targets, picks), joined)
        written = {n for stack in structure.stacks for n in (*stack.tensors, *depth.targets[stack.id])}
        ports = (*use.inputs, *use.outputs)
        provenance = {**_begun(plan), **describe(analysis, settled, depth.partners, tolerance, ports)}
        if plan.asked.learned is not None:
            provenance = {**unpromised(provenance, LEARNED.why), "learned": plan.asked.learned}
        calibrated = going_on(analysis, held, ((stack.sources, stack.targets) for stack in stacks))
        restore_spelling(graph)
        restore_casts(graph, written)
        proto = skeleton(analysis, solution.sizes, written, provenance)
        return _Drawn(stacks, proto, _slots(analysis, stacks), calibrated, folded_note(graph))


def _only_cut(analysis: Analysis, settled: Settled) -> bool:
    """Whether tokens go, and nothing else changes."""
    solution, structure = settled.solution, analysis.structure
    rest = solution.with_all_tokens.keeps_sizes_of(structure)
    return bool(solution.tokens) and rest


def _stacks(
    analysis: Analysis, settled: Settled, alignment: Alignment, targets: Mapping[str, tuple[str, ...]], picks: Picks
) -> list[StackPlan]:
    """What happens to the tensors of every stack, once the graph has its new depth."""
    solution = settled.solution
    used = set(initializer_order(analysis.model.graph))  # a table of its own may go with the layer that read it
    told = given_to(analysis.model)
    keys: Mapping[str, str] = {} if told is None else told.shared
    return [
        StackPlan(
            replace(
                build_task(alignment.structure, stack, solution.sizes, solution.layers, settled.laws, picks),
                shared=keys.get(stack.tensors[0], ""),
            ),
            stack.tensors,
            targets[stack.id],
            stack.dtype,
            stack.closed_form,
            stack.positive,
            settled.gains.get(stack.id, 1.0),
            stack.twin_of,
            refitted=not alignment.refitted.isdisjoint(stack.tensors),
        )
        for stack in analysis.structure.stacks
        if not used.isdisjoint(targets[stack.id])
    ]


def _begun(plan: Plan) -> dict[str, object]:
    """What the file says of how it was made."""
    calibration = plan.asked.calibration_sha256
    return {
        "version": plan.version,
        "source_sha256": plan.source_sha256,
        "spec": plan.asked.spec,
        "method": plan.method,
        "options": plan.options,
        "seed": plan.seed,
        "align": plan.align,
        "proof": plan.proof.status,
        **({} if calibration is None else {"calibration_sha256": calibration}),
    }


def _wanted(align: Kind | None, method: str, options: MethodOptions, choosing: Choosing) -> Kind:
    """The alignment that is asked for; where none is, the method's, or one that chooses if the spec says by what."""
    if align is not None:
        return align
    own: Kind = get_method(method).default_alignment(options)
    return "select" if choosing.asked and own == "none" else own


def check_exact(prepared: Prepared) -> None:
    """Refuse an alignment that would break what the plan promises: sizes that stay gain nothing by it.

    Raises:
        ResampleError: says what to ask for instead.
    """
    if prepared.plan.promise.kept and (prepared.alignment.chooses or not prepared.alignment.exact):
        raise ResampleError(
            f"these sizes keep the function, and alignment '{prepared.alignment.kind}' would not: this network follows "
            "it in part; it serves a hidden size that shrinks: leave --align out"
        )


def refuse_quantised(analysis: Analysis, path: str) -> None:
    """Refuse a file with weights that are packed in a way that is not understood.

    Raises:
        GraphError: names the tensor.
    """
    packed = quantised_weight(analysis.model.graph)
    if packed is not None:
        raise GraphError(
            f"the weights of {path} are quantised, and {packed[0]!r} ({packed[1]}) is packed in a way that is "
            "not understood; resize the floating-point model and quantise the result"
        )


def _refuse_early(
    stacks: list[StackPlan], method: str, options: MethodOptions, seed: int, tokens: tuple[int, ...]
) -> None:
    """Let the method judge every task now: it checks when called and reads when iterated."""
    for members in gathered(stacks):
        if members[0].closed_form is None:
            readers = [_unread] * len(members[0].sources)
            task, chosen = picked(task_of(members), readers, tokens)
            get_method(method).resample(task, chosen, options, xp=np, seed=seed)


def _unread() -> NDArray[np.generic]:
    raise AssertionError("a plan reads no weight")


def _slots(analysis: Analysis, stacks: list[StackPlan]) -> list[TensorSlot]:
    shapes = {name: (stack.dtype, stack.task.target_shape) for stack in stacks for name in stack.targets}
    return [
        TensorSlot(name, ir.DataType[shapes[name][0]], shapes[name][1])
        for name in initializer_order(analysis.model.graph)
        if name in shapes
    ]


def _placed(stack: StackPlan, placed: Layout) -> StackPlan:
    return replace(stack, offsets=tuple(placed.placements[name].offset for name in stack.targets))


def _parameters(stacks: list[StackPlan]) -> int:
    floats = [stack for stack in stacks if not stack.dtype.startswith(("INT", "UINT", "BOOL"))]
    return sum(prod(stack.task.target_shape) * len(stack.targets) for stack in floats)
