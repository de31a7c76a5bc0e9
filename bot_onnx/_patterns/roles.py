"""RoleStore of dims, from structure alone: what an axis is for follows from the ops it passes, never from a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from bot_onnx._axes.dims import Dim, MaybeDim
from bot_onnx._axes.facts import AxisFacts
from bot_onnx._axes.rules.elementwise import reduced_axes
from bot_onnx._ops import Move, carries, is_product, passes_on, record, reduces
from bot_onnx._ops.recurrent import STATE_WEIGHT
from bot_onnx._patterns.attention import Attention, heads_of
from bot_onnx._patterns.integer_inputs import from_integer_input
from bot_onnx._patterns.interface import Interface
from bot_onnx._patterns.layers import LayerChain
from bot_onnx._patterns.mixed_heads import join_mixed
from bot_onnx._patterns.output_roles import decides_output, give_alphabets, give_outputs
from bot_onnx._patterns.parameters import Parameter, table_rows
from bot_onnx._patterns.role_store import Roles, RoleStore
from bot_onnx._reasons import Reason, Why
from bot_onnx._structure import Role

_CUTTING = Move.CUT | Move.REPEATED | Move.PADDED | Move.RESHAPED


def assign_roles(
    graph: ir.Graph,
    context: AxisFacts,
    chains: Sequence[LayerChain],
    attentions: Sequence[Attention],
    parameters: Mapping[str, Parameter],
    interface: Interface,
) -> Roles:
    """Find hidden, heads, head_dim, vocab, positions, intermediate; freeze tables that nothing can resize."""
    roles = RoleStore(context.table)
    for attention in attentions:
        _attention_roles(context, roles, attention)
    recurrent = [node for node in graph if record(node).gates] if not attentions else []
    for node in recurrent:  # the state is what runs through such a network
        roles.give(context.axes_of(node.inputs[STATE_WEIGHT])[-1], Role.HIDDEN)
    for chain in chains:
        _give_stream(context, roles, chain.layers[0].start)
    embeddings = [p for p in parameters.values() if p.kind == "embedding"]
    if not chains and not recurrent:
        for embedding in embeddings:
            width, rows = context.axes_of(embedding.value)[-1], table_rows(embedding, context)
            if width is not None and rows is not None and context.table.find(width) != context.table.find(rows):
                roles.give(width, Role.HIDDEN)
    _table_roles(graph, context, roles, embeddings)
    give_alphabets(graph, context, roles)
    _fixed_row_roles(graph, context, roles, parameters)
    for dim in context.conv_groups:
        for leaf in context.table.leaves(dim):
            if context.table.frozen(leaf) is None:
                roles.give(leaf, Role.CONV_GROUPS)
    contracted = _contracted(context, parameters)
    _state_roles(context, roles, chains, parameters, contracted)
    _intermediate_roles(context, roles, chains, parameters)
    _expert_roles(graph, context, roles, contracted)
    _addressed_roles(context, roles, parameters, contracted)
    _token_roles(context, roles, parameters, attentions)
    give_outputs(graph, context, roles, parameters, interface)
    return roles.facts()


def _attention_roles(context: AxisFacts, roles: RoleStore, attention: Attention) -> None:
    table = context.table
    roles.give(attention.head_dim, Role.HEAD_DIM)
    if table.composite(attention.head_dim) is not None:
        for leaf in table.leaves(attention.head_dim):
            roles.give(leaf, Role.HALF_HEAD_DIM if table.frozen(leaf) is None else Role.COUNT)
    heads = attention.heads
    if heads is not None:
        leaves = table.leaves(heads)
        key_leaves = {
            leaf for value, part in attention.keys for leaf in _leaves_of_part(context, value, part, set(leaves))
        }
        if len(leaves) > 1:
            for leaf in leaves:
                roles.give(leaf, Role.KV_HEADS if leaf in key_leaves else Role.GROUP)
        for mixed in attention.mixed:
            join_mixed(context, heads, mixed)
            roles.give(mixed, Role.HEADS)
        roles.give(heads, Role.HEADS)
    roles.give(attention.value_dim, Role.V_HEAD_DIM)


def _leaves_of_part(context: AxisFacts, value: ir.Value, part: int | None, heads: set[Dim]) -> set[Dim]:
    """Leaves of a parameter's axes; of an axis that packs queries, keys and values, those of the keys."""
    leaves: set[Dim] = set()
    for dim in context.axes_of(value):
        if dim is None:
            continue
        composite = context.table.composite(dim)
        packed = part is not None and composite is not None and composite.kind == "concat"
        if packed and composite is not None and part is not None and part < len(composite.parts):
            leaves.update(context.table.leaves(composite.parts[part]))
        else:
            leaves.update(set(context.table.leaves(dim)) - _of_queries_alone(context, dim, heads))
    return leaves


def _of_queries_alone(context: AxisFacts, dim: Dim, heads: set[Dim]) -> set[Dim]:
    """Leaves of the query heads that only some of the parts have that an axis packs: keys have what all have.

    Queries, keys and values in a row are kv heads x group, kv heads, kv heads; in one row a kv head they are group,
    1, 1.
    """
    composite = context.table.composite(dim)
    if composite is None:
        return set()
    found: set[Dim] = set()
    found.update(*(_of_queries_alone(context, part, heads) for part in composite.parts))
    if composite.kind == "concat":
        held = [heads.intersection(context.table.leaves(part)) for part in composite.parts]
        some = [one for one in held if one]
        common: set[Dim] = set.intersection(*some) if len(some) > 1 else set()
        found.update(*some)
        found -= common
    return found


def _give_stream(context: AxisFacts, roles: RoleStore, joint: ir.Node) -> None:
    """Hidden: the last static axis of the residual stream, one that can change before one that cannot.

    Where it is made of hidden already (the two directions of a recurrent layer) it needs no other name.
    """
    static = [
        dim for dim in reversed(context.axes_of(joint.outputs[0])) if dim is not None and context.table.is_static(dim)
    ]
    if static and any(roles.of(leaf) == Role.HIDDEN for leaf in context.table.leaves(static[0])):
        return
    free = [dim for dim in static if context.table.frozen(dim) is None]
    for dim in [*free, *static][:1]:
        roles.give(dim, Role.HIDDEN)


def _table_roles(graph: ir.Graph, context: AxisFacts, roles: RoleStore, embeddings: list[Parameter]) -> None:
    """Vocab and positions among the looked-up tables; the rows of all others are fixed by who addresses them."""
    table = context.table
    width = {*map(table.find, roles.dims(Role.HIDDEN))} | _token_widths(context, embeddings)
    given: list[tuple[int, MaybeDim, str]] = []
    computed: list[tuple[int, MaybeDim, str]] = []
    for parameter in embeddings:
        lookups = [node for node, slot in parameter.uses if node.op_type == "Gather" and slot == 0]
        rows = table_rows(parameter, context)
        row = (table.size(rows)[0], rows, parameter.name)
        if any(from_integer_input(node.inputs[1]) for node in lookups):
            given.append(row)
        elif any(dim is not None and table.find(dim) in width for dim in context.axes_of(parameter.value)):
            computed.append(row)
        else:
            table.freeze(rows, Reason.of(Why.LOOKED_UP, parameter.name))
            roles.give(rows, Role.COUNT)  # of buckets, of codewords
    _hold_picked(context, embeddings)
    for group, role in ((given, Role.VOCAB), (computed, Role.POSITIONS)):
        if not group:
            continue
        largest = max(size for size, _, _ in group)
        for size, rows, name in group:
            if size == largest:
                roles.give(rows, role)
            elif rows is not None and roles.of(rows) is None:
                table.freeze(rows, Reason.of(Why.ADDRESSED_ROWS, name))
                roles.give(rows, Role.COUNT)
    _follow_positions(graph, context, roles)


def _hold_picked(context: AxisFacts, embeddings: list[Parameter]) -> None:
    """Keep what computed indices pick from: they count in sizes, their own and those of what they pick from."""
    table = context.table
    tables = {node for parameter in embeddings for node, _ in parameter.uses}
    for node in context.gathers:
        if node in tables:
            continue
        data = context.axes_of(node.inputs[0])
        picked = data[node.attributes.get_int("axis", 0)]
        for dim in (picked, *context.axes_of(node.inputs[1])):  # batch x channels: all of them stay
            for leaf in table.leaves(dim) if dim is not None else ():
                if table.is_static(leaf):
                    table.freeze(leaf, Reason.at(Why.PICKED_AT_RUN_TIME, node))


def _fixed_row_roles(
    graph: ir.Graph, context: AxisFacts, roles: RoleStore, parameters: Mapping[str, Parameter]
) -> None:
    """What constant indices pick from (relative positions) is a number of things, unless it is channels of a weight."""
    table = context.table
    channels = {
        leaf
        for parameter in parameters.values()
        if parameter.kind not in ("embedding", "table")
        for dim in context.axes_of(parameter.value)
        if dim is not None
        for leaf in table.leaves(dim)
    }
    for node in graph:
        if node.op_type != "Gather" or node.inputs[1] is None or node.inputs[1].const_value is None:
            continue
        dims = context.axes_of(node.inputs[0])
        picked = dims[node.attributes.get_int("axis", 0)] if dims else None
        for leaf in table.leaves(picked) if picked is not None else ():
            if leaf not in channels and table.frozen(leaf) is not None:
                roles.give(leaf, Role.COUNT)


def _token_widths(context: AxisFacts, embeddings: list[Parameter]) -> set[Dim]:
    """Last dims of the tables that inputs look up: where they are not hidden yet, a projection follows."""
    return {
        context.table.find(last)
        for parameter in embeddings
        for node, slot in parameter.uses
        if node.op_type == "Gather" and slot == 0 and from_integer_input(node.inputs[1])
        if (last := context.axes_of(node.inputs[0])[-1]) is not None
    }


def _follow_positions(graph: ir.Graph, context: AxisFacts, roles: RoleStore) -> None:
    """Integer buffers that are cut to the runtime length (position ids) must be as long as the position table."""
    positions = roles.dims(Role.POSITIONS)
    if not positions:
        return
    size = context.table.size(positions[0])
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is None or not (tensor.dtype.is_integer() or tensor.dtype == ir.DataType.BOOL):
            continue
        sliced = any(carries(usage.node, usage.idx, Move.CUT | Move.PICKED) for usage in value.uses())
        for dim in context.axes_of(value) if sliced else ():
            if dim is not None and context.table.size(dim) == size and context.table.frozen(dim) is None:
                context.table.unify(positions[0], dim)


def _state_roles(
    context: AxisFacts,
    roles: RoleStore,
    chains: Sequence[LayerChain],
    parameters: Mapping[str, Parameter],
    contracted: set[Dim],
) -> None:
    """What two activations of a layer contract, be it no attention score, or what is summed over without weights.

    Its size is no width of the network: more of it is more memory, and weights alone cannot make up for a longer sum.
    """
    weighted = {node for parameter in parameters.values() for node, _ in parameter.uses}
    for chain in chains:
        for node in chain.layers[0].nodes:
            inner = context.contracted.get(node)
            if not is_product(node) or node in weighted or inner is None or not context.table.is_static(inner):
                continue
            heads = heads_of(context, node)
            whole = all(context.table.composite(dim) is None for dim in (inner, heads) if dim is not None)
            if whole and context.table.frozen(inner) is None:
                roles.give(inner, Role.STATE)
                roles.give(heads, Role.HEADS)
    for node in (node for chain in chains for node in chain.layers[0].nodes if reduces(node, "sum")):
        dims = context.axes_of(node.inputs[0])
        for axis in reduced_axes(context, node, len(dims)):
            leaves = context.table.leaves(dim) if (dim := dims[axis]) is not None else []
            for leaf in set(leaves) - contracted if len(leaves) == 1 else ():
                if context.table.frozen(leaf) is None:
                    roles.give(leaf, Role.STATE)


def _intermediate_roles(
    context: AxisFacts, roles: RoleStore, chains: Sequence[LayerChain], parameters: Mapping[str, Parameter]
) -> None:
    """Leaves made by one matrix and contracted by the next, inside a layer."""
    for chain in chains:
        made: list[Dim] = []
        contracted: set[Dim] = set()
        # By who computes with them: a view of shared weights that an exporter wrote once stands outside of all layers.
        nodes = set(chain.layers[0].nodes)
        for parameter in parameters.values():
            if parameter.kind not in ("matrix", "kernel") or not any(node in nodes for node, _ in parameter.uses):
                continue
            for dim, direction in zip(context.axes_of(parameter.value), parameter.directions, strict=True):
                if dim is None or roles.of(dim) is not None:
                    continue
                for leaf in context.table.leaves(dim):
                    if direction == "in":
                        contracted.add(leaf)
                    elif direction == "out" and leaf not in made:
                        made.append(leaf)
        for leaf in made:
            if leaf in contracted and roles.of(leaf) is None and context.table.frozen(leaf) is None:
                roles.give(leaf, Role.INTERMEDIATE)


def _token_roles(
    context: AxisFacts, roles: RoleStore, parameters: Mapping[str, Parameter], attentions: Sequence[Attention]
) -> None:
    """What only tables have that are added or joined to activations: a number of learned tokens, of queries.

    No weight makes or reads these indices, so they are no channels; ``width`` leaves their number alone. Where one does
    (it mixes tokens), they are still what an attention attends to.
    """
    table = context.table
    attended = {
        leaf
        for attention in attentions
        for dim in context.axes_of(attention.score.outputs[0])[-2:]
        if dim is not None
        for leaf in table.leaves(dim)
    }
    rows: dict[Dim, None] = {}
    channels: set[Dim] = set()
    for parameter in parameters.values():
        dims = [dim for dim in context.axes_of(parameter.value) if dim is not None]
        leaves = [leaf for dim in dims for leaf in table.leaves(dim)]
        if parameter.kind == "table" and len(dims) > 1:
            rows.update(dict.fromkeys(leaves))
            for leaf in (leaf for dim in dims[:-1] for leaf in table.leaves(dim)):
                if leaf in attended and table.frozen(leaf) is None:
                    roles.give(leaf, Role.TOKENS)
        elif parameter.kind == "other":  # cut to the length that is needed, or of an op that is not known
            cut = all(passes_on(node, _CUTTING) or record(node).bodies for node, _ in parameter.uses)
            rows.update(dict.fromkeys(leaf for leaf in leaves if cut or table.frozen(leaf) is not None))
        else:
            channels.update(leaves)
    for leaf in rows:
        if leaf not in channels:
            roles.give(leaf, Role.TOKENS if table.frozen(leaf) is None else Role.COUNT)


def _contracted(context: AxisFacts, parameters: Mapping[str, Parameter]) -> set[Dim]:
    """Leaves that some parameter reads: it sums over them or is looked up along them."""
    return {
        leaf
        for parameter in parameters.values()
        for dim, direction in zip(context.axes_of(parameter.value), parameter.directions, strict=True)
        if dim is not None and direction in ("in", "index")
        for leaf in context.table.leaves(dim)
    }


def _expert_roles(graph: ir.Graph, context: AxisFacts, roles: RoleStore, contracted: set[Dim]) -> None:
    """What a router scores to choose from: made by a matrix, ranked by TopK, and read by no matrix afterwards.

    Channels that TopK makes sparse are read by one, and are channels that cannot change, not a number of experts.
    """
    table = context.table
    for node in graph:
        if (scores := record(node).experts) is not None:
            roles.give(context.axes_of(node.inputs[scores])[-1], Role.EXPERTS)
        if node.op_type == "TopK" and not decides_output(node) and (dims := context.axes_of(node.inputs[0])):
            ranked = dims[node.attributes.get_int("axis", -1)]
            for leaf in table.leaves(ranked) if ranked is not None else ():
                if leaf not in contracted:
                    roles.give(leaf, Role.EXPERTS)


def _addressed_roles(
    context: AxisFacts, roles: RoleStore, parameters: Mapping[str, Parameter], contracted: set[Dim]
) -> None:
    """What else of a weight is addressed by computed positions, and read by no weight: distances, buckets."""
    table = context.table
    made = {
        leaf: None
        for parameter in parameters.values()
        for dim in context.axes_of(parameter.value)
        if dim is not None
        for leaf in table.leaves(dim)
    }
    for leaf in made:
        reason = table.frozen(leaf)
        if leaf not in contracted and reason is not None and reason.kind is Why.POSITION:
            roles.give(leaf, Role.COUNT)
