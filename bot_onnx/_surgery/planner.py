"""From settled sizes to a Plan: change the graph, lay out the file. No weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from bot_onnx import __version__
from bot_onnx._align import Alignment, Kind, find_facts, plan_alignment
from bot_onnx._analysis.passes import Analysis
from bot_onnx._canonical.decompose import restore_casts
from bot_onnx._canonical.folded_norms import folded_note
from bot_onnx._canonical.spelling import restore_spelling
from bot_onnx._canonical.still_packed import quantised_weight
from bot_onnx._costs import sizing_of
from bot_onnx._onnxfile.byte_layout import Layout, TensorSlot, layout
from bot_onnx._resample import MethodOptions, get_method
from bot_onnx._runs.sample_arrays import Samples
from bot_onnx._surgery.calibrated import Calibrated, going_on, holding
from bot_onnx._surgery.emit import initializer_order, skeleton
from bot_onnx._surgery.kept_layers import kept_layers, moved_values
from bot_onnx._surgery.laws import patch_epsilons
from bot_onnx._surgery.picked import picked
from bot_onnx._surgery.provenance import describe, tolerance_of
from bot_onnx._surgery.scales import check_branches, patch_scales
from bot_onnx._surgery.settled import Settled
from bot_onnx._surgery.sizes import patch_sizes
from bot_onnx._surgery.stacked import resize_depth
from bot_onnx._surgery.tasks import build_task
from bot_onnx._surgery.types import DimChange, LayerChange, Plan, StackPlan
from bot_onnx._target import TargetSpec
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
    """

    plan: Plan
    proto: onnx.ModelProto
    slots: list[TensorSlot]
    tensors: dict[str, ir.TensorProtocol]
    alignment: Alignment
    calibrated: Calibrated


def prepare(
    analysis: Analysis,
    spec: TargetSpec,
    settled: Settled,
    origin: Origin,
    *,
    method: str,
    options: MethodOptions,
    seed: int,
    external: bool,
    align: Kind | None = None,
    samples: Samples | None = None,
    name: str = "model.onnx",
) -> Prepared:
    """Plan a resize. The analysed model is changed in place: analyse anew for another plan.

    Args:
        analysis: of the source.
        spec: the target.
        settled: its sizes, proven.
        origin: of the source.
        method, options, seed: of the resampling, recorded in the plan.
        external: weights go to a file beside the model.
        align: alignment of the source before; None: as the method likes it.
        samples: that the alignment looks at the source's activations on; recorded by their hash.
        name: file name of the output.

    Raises:
        SpecError, DimError, GraphError, ResampleError: the target cannot be had; nothing was written.
    """
    structure = analysis.structure
    solution = settled.solution
    sizing = sizing_of(analysis)
    facts = find_facts(analysis, samples)
    served = spec.layers_by == "influence"
    alignment = plan_alignment(
        _wanted(align, method, options, spec),
        structure,
        solution.sizes,
        facts,
        spec.keep,
        served=served,
        promised=settled.promise.kept is True,
    )
    tensors = {n: v.const_value for n, v in analysis.model.graph.initializers.items() if v.const_value is not None}
    tensors |= analysis.stored
    picks = kept_layers(analysis, solution, spec.layers_by, samples, tensors)
    given = spec.constants or {}
    scaled = check_branches(analysis, solution.layers, given)
    constants = [
        *patch_epsilons(analysis, solution.sizes, settled.laws),
        *patch_sizes(analysis, solution.sizes),
        *patch_scales(analysis, solution.sizes, solution.layers, given),
    ]
    moved = moved_values(analysis, picks)
    held = [(value, grid) for value, grid in holding(analysis, settled) if value not in moved]
    depth = resize_depth(analysis, solution.layers, picks)
    targets = depth.targets
    used = set(initializer_order(analysis.model.graph))  # a table of its own may go with the layer that read it
    stacks = [
        StackPlan(
            build_task(alignment.structure, stack, solution.sizes, solution.layers, settled.laws, picks),
            stack.tensors,
            targets[stack.id],
            stack.dtype,
            stack.closed_form,
            stack.positive,
            settled.gains.get(stack.id, 1.0),
            stack.twin_of,
        )
        for stack in structure.stacks
        if not used.isdisjoint(targets[stack.id])
    ]
    _refuse_early(stacks, method, options, seed)
    written = {n for stack in structure.stacks for n in (*stack.tensors, *targets[stack.id])}
    provenance = {
        "version": __version__,
        "source_sha256": origin.sha256,
        "spec": spec.model_dump(exclude_none=True),
        "method": method,
        "options": options.model_dump(mode="json"),
        "seed": seed,
        "align": alignment.kind,
        "proof": settled.proof.status,
        **({} if samples is None else {"calibration_sha256": samples.digest()}),
        **describe(analysis, settled, depth.partners, tolerance_of(analysis, (s.dtype for s in structure.stacks))),
    }
    graph = analysis.model.graph
    calibrated = going_on(analysis, held, ((stack.sources, stack.targets) for stack in stacks))
    restore_spelling(graph)
    restore_casts(graph, written)
    proto = skeleton(analysis, solution.sizes, written, provenance)
    slots = _slots(analysis, stacks)
    placed = layout(proto, slots, name, external=external)
    plan = Plan(
        source=origin.path,
        name=spec.name or "",
        method=method,
        options=options.model_dump(mode="json"),
        seed=seed,
        align=alignment.kind,
        dims=_dim_changes(analysis, solution.sizes),
        layers=tuple(
            LayerChange(c.name, c.count, solution.layers[c.name], c.leading, picks.get(c.name, ()))
            for c in structure.chains
        ),
        constants=tuple(constants),
        stacks=tuple(_placed(stack, placed) for stack in stacks),
        notes=(*analysis.repairs, *folded_note(graph), *solution.notes, *scaled, *alignment.notes, *settled.laws.notes),
        parameters=(structure.parameters, _parameters(stacks)),
        size_bytes=(origin.size_bytes, placed.total_bytes),
        external=placed.data_name is not None,
        costs=(sizing.costs(), sizing.costs(solution.sizes, solution.layers)),
        proof=settled.proof,
        promise=settled.promise,
    )
    return Prepared(plan, proto, slots, tensors, alignment, calibrated)


def _wanted(align: Kind | None, method: str, options: MethodOptions, spec: TargetSpec) -> Kind:
    """The alignment that is asked for; where none is, the method's, or one that chooses if the spec says by what."""
    if align is not None:
        return align
    own: Kind = get_method(method).default_alignment(options)
    return "select" if spec.keep is not None and own == "none" else own


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


def _refuse_early(stacks: list[StackPlan], method: str, options: MethodOptions, seed: int) -> None:
    """Let the method judge every task now: it checks when called and reads when iterated."""
    for stack in stacks:
        if stack.closed_form is None and stack.twin_of is None:
            readers = [_unread] * len(stack.sources)
            task, chosen = picked(stack.task, readers)
            get_method(method).resample(task, chosen, options, xp=np, seed=seed)


def _unread() -> NDArray[np.generic]:
    raise AssertionError("a plan reads no weight")


def _dim_changes(analysis: Analysis, sizes: Mapping[str, int]) -> tuple[DimChange, ...]:
    dims = analysis.structure.dims.values()
    return tuple(DimChange(d.id, d.name, d.role, d.kind, d.size, sizes[d.id]) for d in dims)


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
