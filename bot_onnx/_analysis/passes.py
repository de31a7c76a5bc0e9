"""The analysis of a graph, whole: axes, layers, roles, stacks. ``analyse`` is the only entry.

The weights themselves are not read, but for tiny tables (rotary frequencies) and the pairs that may be copies of each
other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from bot_onnx._analysis.structure import build_structure
from bot_onnx._axes.dims import Dim, Pair
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._axes.walk import analyse_axes
from bot_onnx._canonical.form import Form
from bot_onnx._canonical.normalise import normalise
from bot_onnx._canonical.spelling import spell_seen
from bot_onnx._canonical.tidy import tidy
from bot_onnx._patterns.attention import Attention, Scalar, find_attentions, scalar_factors
from bot_onnx._patterns.closed_forms import match_scale
from bot_onnx._patterns.constant_tables import find_constants, freeze_constants
from bot_onnx._patterns.input_axes import release_inputs
from bot_onnx._patterns.layers import LayerChain, find_chains
from bot_onnx._patterns.parameters import find_parameters
from bot_onnx._patterns.roles import assign_roles
from bot_onnx._patterns.shared_heads import shared_heads
from bot_onnx._runs.declared_shapes import correct_outputs
from bot_onnx._runs.observe import observe, shape_values
from bot_onnx._structure import Role, Structure


@dataclass(frozen=True, slots=True)
class Scale:
    """A scalar factor that follows the size of a dim.

    Attributes:
        scalar: where it stands.
        dim: head_dim on the path of attention scores, hidden on the residual stream outside the layers.
        formula: of the dim's size; None for a factor of attention scores that no formula explains.
        stream: it stands on the residual stream, where no weight makes up for it.
    """

    scalar: Scalar
    dim: Dim
    formula: str | None
    stream: bool = False


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
        stored: tensors of the source, by name, whose shape the graph's initializers of these names do not have.
    """

    model: ir.Model
    form: Form
    context: AxisFacts
    chains: list[LayerChain]
    structure: Structure
    ids: dict[Dim, str]
    scales: list[Scale]
    repairs: tuple[str, ...] = ()
    attentions: list[Attention] = field(default_factory=list)
    stored: Mapping[str, ir.TensorProtocol] = field(default_factory=dict)

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
    graph = model.graph
    observed = observe(model)
    if spell_seen(graph, observed):
        tidy(model)
    declared = correct_outputs(graph, observed)
    context = analyse_axes(model, observed)
    chains = find_chains(graph, shape_values(graph), observed.shapes)
    for chain in chains:
        _align(context, chain)
    parameters = find_parameters(graph, context)
    constants = find_constants(parameters)
    freeze_constants(parameters, constants, context)
    attentions = find_attentions(graph, context)
    release_inputs(graph, context, chains, attentions, parameters)
    structure, ids = build_structure(
        graph,
        context,
        chains,
        attentions,
        parameters,
        lambda interface: assign_roles(graph, context, chains, attentions, parameters, interface),
        constants,
    )
    beside = [chain.beside() for chain in structure.chains if chain.strays]
    structure = replace(
        structure,
        notes=(*structure.notes, *form.notes(graph), *beside, *declared),
        single_kv_head=bool(shared_heads(context, attentions)),
    )
    hidden = {dim for dim, identity in ids.items() if structure.dims[identity].role == Role.HIDDEN}
    scales = [*_scales(context, attentions), *_stream_scales(graph, context, chains, hidden)]
    repairs = (*form.repairs, *declared)
    return Analysis(model, form, context, chains, structure, ids, scales, repairs, attentions)


def _align(context: AxisFacts, chain: LayerChain) -> None:
    """Merge the dims of corresponding values of all layers: a stack needs one size for all of them."""
    first = chain.layers[0]
    for layer in chain.layers[1:]:
        pairs = [
            (a, b)
            for left, right in zip(first.nodes, layer.nodes, strict=True)
            for a, b in zip(left.outputs, right.outputs, strict=True)
        ]
        pairs += list(zip(first.parameters, layer.parameters, strict=True))
        _merge(context, pairs)
    if chain.leading is not None:
        _merge(context, chain.leading.twins)


def _merge(context: AxisFacts, pairs: list[tuple[ir.Value, ir.Value]]) -> None:
    for a, b in pairs:
        if len(context.of(a)) != len(context.of(b)):  # one of them stands in a branch that could not be run
            continue
        for x, y in zip(context.of(a), context.of(b), strict=True):
            if context.table.size(x) == context.table.size(y):
                context.table.unify(x, y)


def _scales(context: AxisFacts, attentions: list[Attention]) -> list[Scale]:
    """Factors of attention scores: all but 1 and -1, explained or not."""
    scales: list[Scale] = []
    seen: set[tuple[ir.Node, int | str]] = set()
    for attention in attentions:
        size = context.table.size(attention.head_dim)[0]
        for scalar in attention.scalars:
            if (scalar.node, scalar.slot) in seen or scalar.value in (1.0, 0.0, -1.0):
                continue
            seen.add((scalar.node, scalar.slot))
            scales.append(Scale(scalar, context.table.find(attention.head_dim), match_scale(scalar.value, size)))
    return scales


def _stream_scales(graph: ir.Graph, context: AxisFacts, chains: list[LayerChain], hidden: set[Dim]) -> list[Scale]:
    """Factors of the embeddings and of what enters the head that are a root of hidden, or of one over hidden.

    Only outside the layers, and only these two formulas: there is nothing on this path that demands a factor, so one
    that no formula explains is taken for a constant.
    """
    inside = {node for chain in chains for layer in chain.layers for node in layer.nodes}
    inside |= {node for chain in chains if chain.leading is not None for node in chain.leading.nodes}
    scales: list[Scale] = []
    for node in graph:
        dims = context.of(node.outputs[0]) if node not in inside else ()
        last = context.table.find(dims[-1]) if dims and dims[-1] is not None else None
        if last not in hidden:
            continue
        for scalar in scalar_factors(node):
            formula = match_scale(scalar.value, context.table.size(last)[0], ("sqrt(n)", "1/sqrt(n)"))
            if formula is not None and last is not None:
                scales.append(Scale(scalar, last, formula, stream=True))
    return scales
