"""Which float tensors a quantiser took, and which it left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from bot_onnx._onnxfile.reader import Source
from bot_onnx._ops import op_key
from bot_onnx._quantise.types import Kind, Left


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tensors and numbers were quantised, and which were left."""

    tensors: int
    numbers: int
    left: tuple[Left, ...]


def tally(source: Source, packed: Source) -> Tally:
    """Compare the tensors of both: one that is still there in 32 bits was left."""
    floats = {name: prod(stored.shape) for name, stored in source.tensors.items() if _is_float(stored.dtype)}
    still = {name for name in floats if name in packed.tensors and _is_float(packed.tensors[name].dtype)}
    readers: dict[str, str] = {}
    for node in source.proto.graph.node:
        for name in node.input:
            readers.setdefault(name, op_key(node))
    taken = {readers.get(name, "") for name in floats if name not in still}
    tensors: Counter[tuple[str, str]] = Counter()
    numbers: Counter[tuple[str, str]] = Counter()
    for name in still:
        op = readers.get(name, "")
        small = len(source.tensors[name].shape) < 2
        group = ("small", "") if small else ("kept" if op in taken else "op", op)
        tensors[group] += 1
        numbers[group] += floats[name]
    left = [Left(why, op, tensors[why, op], count) for (why, op), count in numbers.most_common()]  # type: ignore[arg-type]
    return Tally(len(floats) - len(still), sum(floats.values()) - sum(numbers.values()), tuple(left))


def says_why(left: Left, kind: Kind) -> str:
    """The reason in words."""
    if left.why == "small":
        return "vectors and scalars (biases, gains of norms), which stay floats"
    reader = f"read by {left.op}" if left.op else "read inside of other graphs"
    if left.why == "op":
        return f"{reader}, which onnxruntime quantises no weights of to {kind} this way"
    return f"{reader}: the quantiser left these, and took others"


def _is_float(dtype: ir.DataType) -> bool:
    return dtype == ir.DataType.FLOAT
