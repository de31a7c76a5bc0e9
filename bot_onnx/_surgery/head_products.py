"""How a second key and value head goes through the ops that compute with it: products, norms, whole attentions."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from bot_onnx._ops import Axes, Slot, is_layer_norm, record
from bot_onnx._surgery.head_walk import COPIES, IMAGE, UNIT, Doubled, HeadWalk, Misfit, walks


@walks("MatMul", "com.microsoft::FusedMatMul")
def matmul(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """A weight makes both heads; keys and values that meet more query heads are repeated for them."""
    out = node.outputs[0]
    ranks = [len(walk.shape(value)) for value in node.inputs[:2]]
    turned = any(bool(node.attributes.get_int(name, 0)) for name in ("transBatchA", "transBatchB"))
    for slot, label in held.items():
        place, other = label.axis - ranks[slot], 1 - slot
        value, theirs = node.inputs[slot], walk.shape(node.inputs[other])
        assert value is not None
        if place >= -2 and len(theirs) >= 3 and theirs[-3] != UNIT and walk.unfolds(value, label, ranks[slot] - 3):
            label = walk.unfold(node, slot, ranks[slot] - 3)
            place = -3
        if place >= -2:
            flipped = node.attributes.get_int("transA" if slot == 0 else "transB", 0)
            kept = (-2 if slot == 0 else -1) if not flipped else (-1 if slot == 0 else -2)
            if place != kept or label.grouped:
                raise Misfit("sums over the heads")
            walk.put(out, replace(label, axis=len(walk.shape(out)) + (-2 if slot == 0 else -1)))
            continue
        if turned or label.grouped or label.folded:
            raise Misfit("multiplies heads in a way that is not followed")
        size = theirs[place] if len(theirs) >= -place else UNIT
        if size == UNIT:
            walk.put(out, replace(label, axis=len(walk.shape(out)) + place))
        else:
            walk.repeat(node, slot, label, size[0])


@walks("Gemm")
def gemm(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """A weight and its bias make both heads."""
    kept = 0 if node.attributes.get_int("transB", 0) else 1
    if 0 in held or 1 not in held or held[1].axis != kept:
        raise Misfit("sums over the heads")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        rank = len(walk.shape(node.inputs[2]))
        if walk.shape(node.inputs[2])[-1] != UNIT:
            walk.demand(node.inputs[2], replace(held[1], axis=rank - 1))
    walk.put(node.outputs[0], replace(held[1], axis=1))


@walks(
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare",
    "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "Softmax", "LpNormalization",
)  # fmt: skip
def along_others(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Norms and sums over a head's channels work on each head by itself."""
    if set(held) != {0} or held[0].grouped:
        raise Misfit("has a weight for every head")
    label, rank = held[0], len(walk.shape(node.inputs[0]))
    if record(node).axes is Axes.REDUCED:
        given = walk.told(node, 1, "axes")
        axes = {axis % rank for axis in given} if given else set(range(rank))
        kept = node.attributes.get_int("keepdims", 1)
        gone = 0 if kept else sum(axis < label.axis for axis in axes)
    else:
        first = node.attributes.get_int("axis", -1) % rank
        axes = set(range(first, rank)) if is_layer_norm(node) else {first}
        gone = 0
    if label.axis in axes:
        raise Misfit("sums over the heads")
    for output in node.outputs:
        if output.name:
            walk.put(output, replace(label, axis=label.axis - gone))


@walks("RotaryEmbedding", "com.microsoft::RotaryEmbedding")
def rotary(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Both heads turn alike."""
    if set(held) != {0}:
        raise Misfit("turns heads by a table of heads")
    _whole_heads(walk, node, 0, held[0])
    if len(walk.shape(node.inputs[0])) == 3 and node.attributes.get_int("num_heads", 0) > 0:
        node.attributes["num_heads"] = ir.AttrInt64("num_heads", COPIES)
    walk.put(node.outputs[0], held[0])


def _whole_heads(walk: HeadWalk, node: ir.Node, slot: int, label: Doubled) -> None:
    """An operand ``[batch, sequence, head_dim]`` or ``[batch, 1, sequence, head_dim]``."""
    sizes = walk.shape(node.inputs[slot])
    wanted = Doubled(1) if len(sizes) == IMAGE else Doubled(2, ((0, sizes[-1][0]),))
    if label != wanted:
        raise Misfit("has its heads elsewhere")


@walks("Attention", "com.microsoft::GroupQueryAttention")
def attention(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """An op that is a whole attention is told the number; its caches have as many heads."""
    grouped = node.op_type == "GroupQueryAttention"
    packed = grouped and node.inputs[1] is None
    if not packed:
        if not {1, 2} <= set(held) or 0 in held:
            raise Misfit("would have one head where the others have two")
        for slot in (1, 2):
            _whole_heads(walk, node, slot, held[slot])
    for slot in record(node).inputs_for(Slot.PAST):
        past = node.inputs[slot] if slot < len(node.inputs) else None
        if past is not None:
            walk.demand(past, Doubled(1))
    if node.attributes.get_int("kv_num_heads", 0):
        node.attributes["kv_num_heads"] = ir.AttrInt64("kv_num_heads", COPIES)
    for output in node.outputs[1:3]:
        if output.name:
            walk.put(output, Doubled(1))


@walks("Shape", "Size")
def measure(walk: HeadWalk, node: ir.Node, held: dict[int, Doubled]) -> None:
    """Numbers have no heads; what is reshaped by them is given its shape anew."""
