"""The analysis of a graph, whole: one tuple of passes, from a normalised model to its structure.

The weights themselves are not read, but for tiny tables (rotary frequencies) and the pairs that may be copies of each
other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from bot_onnx._analysis.facts import (
    Aligned,
    Attentions,
    Constants,
    Grouped,
    Layers,
    Merged,
    Named,
    Normalised,
    Parameters,
    Released,
    Scale,
    Scales,
    Spelled,
    Stacks,
    Tables,
    Twins,
)
from bot_onnx._analysis.merging import align_layers, merge_equal_composites
from bot_onnx._analysis.names import chain_names, name_dims
from bot_onnx._analysis.pipeline import analysis_pass, in_order, run_passes
from bot_onnx._analysis.scales import count_scales, learned_factors, score_scales, stream_scales, sum_scales
from bot_onnx._analysis.stacks import StackBuilder
from bot_onnx._analysis.structure import assemble
from bot_onnx._analysis.tables import find_tables
from bot_onnx._axes.dims import Dim, Pair
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._axes.walk import analyse_axes
from bot_onnx._canonical.form import Form
from bot_onnx._canonical.normalise import normalise
from bot_onnx._canonical.spelling import spell_seen
from bot_onnx._canonical.spelling.seen import Observation
from bot_onnx._canonical.tidy import tidy
from bot_onnx._onnxfile.input_overrides import given_to
from bot_onnx._patterns.attention import Attention, find_attentions
from bot_onnx._patterns.closed_forms import UNIFORM
from bot_onnx._patterns.constant_tables import find_constants, freeze_constants
from bot_onnx._patterns.counts import Count, find_counts
from bot_onnx._patterns.grouped_norms import hold_normed_groups, note_joint_statistics
from bot_onnx._patterns.input_axes import release_inputs
from bot_onnx._patterns.interface import Interface, find_interface
from bot_onnx._patterns.layers import LayerChain, find_chains
from bot_onnx._patterns.parameters import find_parameters
from bot_onnx._patterns.role_store import Roles
from bot_onnx._patterns.roles import assign_roles
from bot_onnx._patterns.ties import find_twins
from bot_onnx._runs.declared_shapes import correct_outputs
from bot_onnx._runs.observe import observe, shape_values
from bot_onnx._structure import Role, Structure


@analysis_pass()
def run_twice(source: Normalised) -> Observation:
    """Shapes and small values of all values, in two runs."""
    return observe(source.model)


@analysis_pass("graph")
def spell(source: Normalised, observed: Observation) -> Spelled:
    """Drop what is neutral by the shapes of the runs; correct the shapes that outputs declare."""
    if spell_seen(source.graph, observed):
        tidy(source.model)
    return Spelled(tuple(correct_outputs(source.graph, observed)))


@analysis_pass("merges", "freezes", after=(Spelled,))
def walk_axes(source: Normalised, observed: Observation) -> AxisFacts:
    """A dim for every axis of every value, and the numbers that must follow them."""
    return analyse_axes(source.model, observed)


@analysis_pass(after=(Spelled,))
def find_layers(source: Normalised, observed: Observation) -> Layers:
    """Chains of structurally equal layers."""
    chains = find_chains(source.graph, shape_values(source.graph), observed.shapes)
    return Layers(tuple(chains), tuple(chain_names(chains)))


@analysis_pass("merges", "freezes")
def align(axes: AxisFacts, layers: Layers) -> Aligned:
    """One dim for corresponding axes of all layers of a chain."""
    for chain in layers.chains:
        align_layers(axes, chain)
    return Aligned()


@analysis_pass("freezes", after=(Aligned,))
def describe_parameters(source: Normalised, axes: AxisFacts) -> Parameters:
    """What every parameter is for; what only constant operands bring along keeps its size."""
    return Parameters(find_parameters(source.graph, axes))


@analysis_pass("freezes")
def set_constants_apart(axes: AxisFacts, parameters: Parameters) -> Constants:
    """Which parameters are constant tables; they keep their axes."""
    names = find_constants(parameters.by_name)
    freeze_constants(parameters.by_name, names, axes)
    return Constants(names)


@analysis_pass(after=(Aligned,))
def recognise_attentions(source: Normalised, axes: AxisFacts) -> Attentions:
    """Attentions, with what makes their queries, keys and values."""
    return Attentions(tuple(find_attentions(source.graph, axes)))


@analysis_pass("freezes", after=(Constants,))
def count_groups(source: Normalised, axes: AxisFacts, attentions: Attentions) -> Grouped:
    """Groups of channels that a norm written out in ops has keep their number."""
    hold_normed_groups(source.graph, axes, attentions.found)
    note_joint_statistics(source.graph, axes)
    return Grouped()


@analysis_pass("releases", after=(Grouped,))
def release(
    source: Normalised, axes: AxisFacts, layers: Layers, attentions: Attentions, parameters: Parameters
) -> Released:
    """Axes of graph inputs that belong to the inside may change."""
    told = given_to(source.model)
    linked = frozenset[str]() if told is None else told.linked
    release_inputs(source.graph, axes, layers.chains, attentions.found, parameters.by_name, linked)
    return Released()


@analysis_pass("merges", "freezes", after=(Released,))
def tie(axes: AxisFacts, parameters: Parameters) -> Twins:
    """Matrices that are the transpose of an embedding have its dims."""
    return Twins(find_twins(parameters.by_name, axes))


@analysis_pass("merges", "freezes", after=(Twins,))
def merge_composites(axes: AxisFacts) -> Merged:
    """Composites of the same parts are one."""
    merge_equal_composites(axes)
    return Merged()


@analysis_pass(after=(Merged,))
def look_at_outputs(source: Normalised, axes: AxisFacts, parameters: Parameters, constants: Constants) -> Interface:
    """Which dims outputs show, and which weights read."""
    return find_interface(source.graph, axes, parameters.by_name, constants.names)


@analysis_pass("merges", "freezes")
def give_roles(
    source: Normalised,
    axes: AxisFacts,
    layers: Layers,
    attentions: Attentions,
    parameters: Parameters,
    interface: Interface,
) -> Roles:
    """What every dim is for; rows that only other numbers address keep their count."""
    return assign_roles(source.graph, axes, layers.chains, attentions.found, parameters.by_name, interface)


@analysis_pass("freezes", after=(Roles,))
def recognise_tables(source: Normalised, axes: AxisFacts, parameters: Parameters, attentions: Attentions) -> Tables:
    """Formulas of tables; those without one keep their axes."""
    return Tables(find_tables(source.graph, axes, parameters.by_name, learned_factors(axes, attentions.found)))


@analysis_pass()
def group_stacks(
    source: Normalised,
    axes: AxisFacts,
    layers: Layers,
    attentions: Attentions,
    parameters: Parameters,
    twins: Twins,
    tables: Tables,
) -> Stacks:
    """What stands in the same place of all layers, as one."""
    return StackBuilder(
        source.graph, axes, layers, attentions.found, parameters.by_name, twins.originals, tables.forms
    ).build()


@analysis_pass()
def name(axes: AxisFacts, roles: Roles, stacks: Stacks, interface: Interface) -> Named:
    """Ids and names of the dims that weights carry."""
    return Named(*name_dims(axes, roles, stacks.stacks, stacks.axes, interface.outputs))


@analysis_pass()
def describe(
    source: Normalised,
    spelled: Spelled,
    axes: AxisFacts,
    layers: Layers,
    attentions: Attentions,
    parameters: Parameters,
    twins: Twins,
    stacks: Stacks,
    named: Named,
) -> Structure:
    """All of it as plain values."""
    return assemble(source, spelled, axes, layers, attentions, parameters, twins, stacks, named)


@analysis_pass()
def explain_scales(
    source: Normalised, axes: AxisFacts, layers: Layers, attentions: Attentions, stacks: Stacks, named: Named
) -> Scales:
    """Factors of attention scores and of the stream, and counts of means, with their formulas."""
    hidden = {dim for dim, identity in named.ids.items() if named.dims[identity].role == Role.HIDDEN}
    counts = tuple(find_counts(source.graph, axes))
    uniform = {name for stack in stacks.stacks if stack.closed_form == UNIFORM for name in stack.tensors}
    stream = stream_scales(source.graph, axes, layers.chains, hidden, uniform)
    found = [*score_scales(axes, attentions.found, uniform), *stream, *count_scales(counts)]
    known = {(scale.scalar.node, scale.scalar.slot) for scale in found}
    sums = sum_scales(source.graph, axes, attentions.found)
    return Scales((*found, *(one for one in sums if (one.scalar.node, one.scalar.slot) not in known)), counts)


#: All passes, in order.
PASSES = in_order(
    (Normalised,),
    run_twice,
    spell,
    walk_axes,
    find_layers,
    align,
    describe_parameters,
    set_constants_apart,
    recognise_attentions,
    count_groups,
    release,
    tie,
    merge_composites,
    look_at_outputs,
    give_roles,
    recognise_tables,
    group_stacks,
    name,
    describe,
    explain_scales,
)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a graph. ``structure`` is the plain part; the rest is for the surgery.

    Attributes:
        model: the normalised model.
        form: what it was before.
        context: axes of every value and the numbers that must follow them.
        chains: layers, in the order of ``structure.chains``.
        structure: dims, chains and stacks as plain values.
        ids: id in ``structure`` of every dim that has one.
        scales: scalar factors that follow a size.
        repairs: what was wrong in the file and is right in what is written, in sentences.
        attentions: in graph order.
        counts: numbers by which means are corrected, in graph order.
        stored: tensors of the source, by name, whose shape the graph's initializers of these names do not have.
    """

    model: ir.Model
    form: Form
    context: AxisFacts
    chains: tuple[LayerChain, ...]
    structure: Structure
    ids: Mapping[Dim, str]
    scales: tuple[Scale, ...]
    repairs: tuple[str, ...] = ()
    attentions: tuple[Attention, ...] = ()
    counts: tuple[Count, ...] = ()
    stored: Mapping[str, ir.TensorProtocol] = field(default_factory=dict)

    def tensors(self) -> dict[str, ir.TensorProtocol]:
        """The source's tensors by name, unread."""
        held = self.model.graph.initializers.items()
        tensors = {name: value.const_value for name, value in held if value.const_value is not None}
        return {**tensors, **self.stored}

    def size(self, dim: Dim) -> Pair:
        """Size pair of ``dim`` in the source."""
        return self.new_size(dim, {identity: known.size for identity, known in self.structure.dims.items()})

    def new_size(self, dim: Dim, sizes: dict[str, int]) -> Pair:
        """Size pair of ``dim`` when the leaves of the structure have the sizes given by id."""
        table = self.context.table
        composite = table.composite(dim)
        if composite is None:
            identity = self.ids.get(table.find(dim))
            size = sizes.get(identity) if identity is not None else None
            return table.size(dim) if size is None else (size, size)
        parts = [self.new_size(part, sizes) for part in composite.parts]
        first, second = parts[0]
        for a, b in parts[1:]:
            first, second = (first * a, second * b) if composite.kind == "product" else (first + a, second + b)
        return first, second


def analyse(model: ir.Model) -> Analysis:
    """Understand ``model`` (normalised in place).

    Raises:
        GraphError: it does not run in onnxruntime.
    """
    return understand(model, normalise(model))


def understand(model: ir.Model, form: Form) -> Analysis:
    """Understand a model that is normalised already, and had ``form`` before; see :func:`analyse`."""
    facts = run_passes(PASSES, Normalised(model, form))
    return Analysis(
        model,
        form,
        facts[AxisFacts],
        facts[Layers].chains,
        facts[Structure],
        facts[Named].ids,
        facts[Scales].found,
        (*form.repairs, *facts[Spelled].notes),
        facts[Attentions].found,
        facts[Scales].counts,
    )
