"""In which way a file is quantised, read from its ops before they are decomposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from bot_onnx._ops import record

Kind = Literal["dynamic", "static", "weights", "blocks"]

#: Kinds, the one first that decides where a file has ops of several.
_FIRST: tuple[Kind, ...] = ("static", "dynamic", "blocks", "weights")
_WORDS = {
    "dynamic": "weights quantised, activations at run time",
    "static": "weights and activations quantised by calibrated scales",
    "weights": "weights quantised, activations in floating point",
    "blocks": "weights quantised in blocks, activations in floating point",
}


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a file is quantised.

    Attributes:
        kind: ``dynamic``, ``static``, ``weights`` (DequantizeLinear alone) or ``blocks`` (MatMulNBits and its kin).
        types: data types of packed weights, ``4-bit`` for packed bytes.
        ops: quantised ops and how many there are, most frequent first.
        per_channel: whether any weight has several scales.
        block: numbers that share a scale, of the first op that works in blocks; 0: none.
        symmetric: whether no packed weight has a zero point other than the middle.
        bits: of numbers packed in bytes; 7: integers of 8 bits leave one free, so that no sum of products saturates on
            processors whose instructions add them in 16 bits.
        accuracy: ``accuracy_level`` of the ops that have one; 0: not given.
    """

    kind: Kind
    types: tuple[str, ...]
    ops: tuple[tuple[str, int], ...]
    per_channel: bool
    block: int = 0
    symmetric: bool = True
    bits: int = 8
    accuracy: int = 0

    def describe(self) -> str:
        """In words."""
        scales = f"blocks of {self.block}" if self.block else "per channel" if self.per_channel else "per tensor"
        ops = ", ".join(f"{name} x {count}" for name, count in self.ops)
        return f"{'/'.join(self.types) or 'integers'} {scales}, {_WORDS[self.kind]} ({ops})"


def read_scheme(graph: ir.Graph) -> Scheme | None:
    """The scheme of a graph, or None where nothing is quantised."""
    nodes = [node for node in graph if record(node).packing is not None]
    packed = [value for node in nodes for value in node.inputs if _is_packed(value)]
    if not nodes or not packed:
        return None
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    present = {packing.scheme for node in nodes if (packing := record(node).packing) is not None}
    kind = next(kind for kind in _FIRST if kind in present)
    blocks = [b for node in nodes if (b := node.attributes.get_int("block_size", 0))]
    types = dict.fromkeys(_type(node, value) for node in nodes for value in node.inputs if _is_packed(value))
    return Scheme(
        kind,
        tuple(name for name in types if name),
        tuple(sorted(counts.items(), key=lambda item: -item[1])),
        any(_has_channel_scales(node) for node in nodes),
        blocks[0] if blocks else 0,
        not any(_has_zero_point(node) for node in nodes),
        next((node.attributes.get_int("bits", 4) for node in nodes if _in_blocks(node)), 8),
        next((a for node in nodes if (a := node.attributes.get_int("accuracy_level", 0))), 0),
    )


def _is_packed(value: ir.Value | None) -> bool:
    """Whether a value is an initializer of several small numbers."""
    tensor = value.const_value if value is not None else None
    return tensor is not None and tensor.size > 1 and len(tensor.shape) > 1 and tensor.dtype.bitwidth <= 8


def _type(node: ir.Node, value: ir.Value | None) -> str:
    tensor = value.const_value if value is not None else None
    packing = record(node).packing
    if tensor is None or packing is None or (_in_blocks(node) and value is not node.inputs[packing.weight]):
        return ""
    bits = node.attributes.get_int("bits", 4 if _in_blocks(node) else 0)
    return f"{bits}-bit" if bits else tensor.dtype.name


def _in_blocks(node: ir.Node) -> bool:
    packing = record(node).packing
    return packing is not None and packing.scheme == "blocks"


def _has_channel_scales(node: ir.Node) -> bool:
    """Whether scales are a vector, or the zero points are: of products of integers the scales stand behind."""
    known = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.INT8, ir.DataType.UINT8)
    return any(
        tensor.dtype in known and len(tensor.shape) == 1 and tensor.size > 1
        for value in node.inputs
        if value is not None and (tensor := value.const_value) is not None
    )


def _has_zero_point(node: ir.Node) -> bool:
    packing = record(node).packing
    slot = None if packing is None else packing.zero_point
    if slot is None or slot >= len(node.inputs) or node.inputs[slot] is None:
        return False
    tensor = node.inputs[slot].const_value  # type: ignore[union-attr]
    return tensor is not None and (_in_blocks(node) or bool(tensor.numpy().astype("float32").any()))
