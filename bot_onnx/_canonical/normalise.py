"""Bring an exported graph into the one form that the analysis reads: structural passes only.

Functions are inlined, Constant nodes become initializers, Identity and unused nodes go. No optimiser runs: fusing
and folding untie shared weights and cost more than the analysis itself.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from bot_onnx._canonical.control_flow import lay_open
from bot_onnx._canonical.decompose import (
    Opened,
    Scheme,
    fold_casts,
    fold_reshapes,
    keep_storage,
    name_dequantisation,
    open_fused,
    open_quantised,
    read_scheme,
)
from bot_onnx._canonical.deduplicate import share_copies
from bot_onnx._canonical.folded_norms import folded_note
from bot_onnx._canonical.inline_functions import inline
from bot_onnx._canonical.lookups import gather_rows
from bot_onnx._canonical.spelling import spell_early
from bot_onnx._canonical.sums import write_out_sums
from bot_onnx._canonical.zero_states import drop_zero_states
from bot_onnx._onnxfile.reader import REPAIRS
from bot_onnx._ops.nodes import FLOATS, fresh_name, names_in, node_inputs

#: Integer initializers up to this many elements are cloned per use: exporters share equal small tensors (shape
#: constants) between unrelated consumers, and a shared tensor would tie dims that have nothing to do with each other.
SMALL = 64

#: Tensors up to this many elements are held as arrays.
HELD = 1024


_SCHEME, _OPENED = "bot_onnx.scheme", "bot_onnx.opened"
_FUSED, _COPIES = "bot_onnx.fused", "bot_onnx.copies"
_LITERAL = "bot_onnx.literal"


def normalise(model: ir.Model) -> ir.Model:
    """Normalise ``model`` in place and return it.

    Afterwards: no function calls, no Constant nodes, Identity nodes only where a value is an output under two names, no
    nodes that change nothing by what the file says, no unused nodes, bodies of control flow laid open, nodes in
    topological order, no small initializer with more than one use, no initial states that are zero anyway, no sums of
    other than two operands, no fused ones, no second copies of a weight, and no quantised ops but those that cannot be
    followed.
    """
    inline(model)
    lay_open(model.graph)
    _lift_tensor_constants(model.graph)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)  # constants of other kinds
    _drop_identities(model.graph)
    spell_early(model.graph)
    write_out_sums(model.graph)
    gather_rows(model.graph)
    name_dequantisation(model.graph)
    model.meta[_SCHEME] = read_scheme(model.graph)
    fold_reshapes(model.graph)
    fold_casts(model.graph)
    opened = open_quantised(model.graph)
    model.meta[_OPENED] = opened
    model.meta[_FUSED] = open_fused(model.graph)
    drop_zero_states(model.graph)  # those of layers that were quantised as well
    common.RemoveInitializersFromInputsPass()(model)
    tidy(model)
    for value, name in opened.weights:
        if value.is_initializer() and name not in model.graph.initializers:
            value.name = name
    model.graph.doc_string = None
    model.meta[_COPIES] = share_copies(model.graph)
    _hold_small(model.graph)
    _clone_shared_constants(model.graph)
    return model


def tidy(model: ir.Model) -> None:
    """Drop nodes that nothing reads, and put the others in their one order, in place."""
    presents = _presents(model.graph)
    common.RemoveUnusedNodesPass()(model)
    _keep_presents(presents)
    _canonical_sort(model.graph)


def scheme_of(model: ir.Model) -> Scheme | None:
    """How a normalised model was quantised before; None where it was not."""
    scheme: Scheme | None = model.meta.get(_SCHEME)
    return scheme


def opened_of(model: ir.Model) -> Opened:
    """Which weights and activations of a normalised model were quantised before."""
    opened: Opened = model.meta[_OPENED]
    return opened


def form_notes(model: ir.Model) -> tuple[str, ...]:
    """What was changed in the form of a normalised model, in sentences."""
    notes: list[str] = [*model.meta.get(REPAIRS, ())]
    scheme = scheme_of(model)
    if scheme is not None:
        notes.append(f"Quantised: {scheme.describe()}. The analysis is that of the weights in floating point.")
    fused: dict[str, int] = model.meta.get(_FUSED) or {}
    if fused:
        ops = ", ".join(f"{name} x {count}" for name, count in sorted(fused.items()))
        notes.append(f"Fused ops are written out: {ops}.")
    copies: int = model.meta.get(_COPIES) or 0
    if copies:
        notes.append(f"{copies} tensors were copies of others: weights that the network shares, written once now.")
    return (*notes, *folded_note(model.graph))


def _lift_tensor_constants(graph: ir.Graph) -> None:
    """Make initializers of Constant nodes that hold a tensor; exporters write thousands of them.

    The library's pass does the same at four times the cost, most of a large graph's normalisation.
    """
    lifted: list[ir.Node] = []
    for node in graph:
        held = node.attributes.get("value")
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or held is None:
            continue
        output = node.outputs[0]
        if output.is_graph_output():
            continue
        tensor: ir.TensorProtocol = held.value
        value = ir.Value(
            name=output.name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        value.meta[_LITERAL] = True
        for usage in tuple(output.uses()):
            usage.node.replace_input_with(usage.idx, value)
        graph.initializers[output.name or ""] = value
        lifted.append(node)
    graph.remove(lifted, safe=True)


def is_literal(value: ir.Value) -> bool:
    """Whether the file has the tensor in a Constant node, where exporters write what is no weight."""
    return bool(value.meta.get(_LITERAL))


def _drop_identities(graph: ir.Graph) -> None:
    """Remove Identity nodes; one that shows a graph input, a weight or another output as an output stays.

    The library's pass drops the name of an output that is shown under a second one.
    """
    dropped: list[ir.Node] = []
    for node in graph:
        if node.op_type != "Identity" or node.domain not in ("", "ai.onnx") or node.inputs[0] is None:
            continue
        source, shown = node.inputs[0], node.outputs[0]
        if shown.is_graph_output():
            if source.producer() is None or source.is_graph_output():
                continue
            places = [index for index, output in enumerate(graph.outputs) if output is shown]
            name, shown.name = shown.name, f"{shown.name}__shown"
            for index in places:
                graph.outputs[index] = source
            source.name, source.shape, source.type = name, shown.shape or source.shape, shown.type or source.type
        for usage in tuple(shown.uses()):
            usage.node.replace_input_with(usage.idx, source)
        dropped.append(node)
    graph.remove(dropped, safe=True)


def _presents(graph: ir.Graph) -> dict[ir.Node, list[str]]:
    """Names of the outputs of attentions that are given keys: the runtime wants them beside, whether they are read."""
    return {
        node: [output.name or "" for output in node.outputs]
        for node in graph
        if node.op_type == "Attention" and node.domain in ("", "ai.onnx") and any(node.inputs[4:6])
    }


def _keep_presents(presents: dict[ir.Node, list[str]]) -> None:
    for node, names in presents.items():
        if node.graph is None:
            continue
        node.resize_outputs(len(names))
        for output, name in zip(node.outputs, names, strict=True):
            output.name = name


def _hold_small(graph: ir.Graph) -> None:
    """Hold small tensors as arrays: the analysis asks for their shapes and values again and again."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.size <= HELD and tensor.dtype != ir.DataType.STRING:
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)


def _canonical_sort(graph: ir.Graph) -> None:
    """Order the nodes by a depth-first walk from the outputs: topological, and independent of the order in the file."""
    done: set[ir.Node] = set()
    ordered: list[ir.Node] = []
    for output in graph.outputs:
        stack = [(output.producer(), False)]
        while stack:
            node, expanded = stack.pop()
            if node is None or node in done or node.graph is not graph:
                continue
            if expanded:
                done.add(node)
                ordered.append(node)
                continue
            stack.append((node, True))
            stack.extend((value.producer(), False) for value in reversed(node_inputs(node)))
    if len(ordered) == len(graph):
        graph.remove(ordered)
        graph.extend(ordered)
    else:  # nodes that reach no output are kept in a valid order
        graph.sort()


def _clone_shared_constants(graph: ir.Graph) -> None:
    """Give every use of a small or constant-valued initializer a tensor of its own."""
    taken = names_in(graph)
    outputs = {id(value) for value in graph.outputs}
    for value in list(graph.initializers.values()):
        uses = list(value.uses())
        if len(uses) < 2 or id(value) in outputs or not _clonable(value):
            continue
        for number, usage in enumerate(uses[1:], start=1):
            name = fresh_name(f"{value.name}__use{number}", taken)
            clone = ir.Value(name=name, shape=value.shape, type=value.type, const_value=_renamed(value, name))
            keep_storage(value, clone)
            clone.meta[_LITERAL] = is_literal(value)
            owner = usage.node.graph
            if isinstance(owner, ir.Graph) and owner is graph:
                graph.initializers[name] = clone
                usage.node.replace_input_with(usage.idx, clone)


def _clonable(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None:
        return False
    if tensor.size <= SMALL and tensor.dtype not in FLOATS:
        return True
    # Float tensors are shared for good reason if their values differ; one value throughout (a zero bias, a norm's ones,
    # a scalar) says nothing. Whatever the length: a resized file is to be read as its source was.
    if len(tensor.shape) > 1:
        return tensor.size == 1
    array = tensor.numpy().reshape(-1)
    return bool(np.all(array == array[0])) if array.size else True


def _renamed(value: ir.Value, name: str) -> ir.TensorProtocol:
    assert value.const_value is not None
    tensor = value.const_value
    if tensor.dtype == ir.DataType.STRING:
        return tensor  # its content is never patched, so the clone may share it
    return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=name)
