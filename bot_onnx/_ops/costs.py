"""What a run of an op costs: multiply-accumulates, by the sizes of what it reads and gives.

Only what contracts is counted: products of matrices, convolutions, recurrences, the two products of an attention. A
bias, a norm, an activation costs nothing here, as usual where networks are compared; a causal attention counts whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import onnx_ir as ir

from bot_onnx._ops.einsum import subscripts

#: Sizes along the axes of a tensor; None for an input that is left out.
Sizes = tuple[int, ...] | None
#: (node, sizes of its inputs, sizes of its outputs) -> multiply-accumulates.
Macs = Callable[[ir.Node, Sequence[Sizes], Sequence[Sizes]], int]


def product(flip: str | None = None) -> Macs:
    """The last axis of the first operand is contracted; its last but one where the attribute ``flip`` says so."""

    def macs(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
        left = _given(inputs, 0)
        turned = flip is not None and _integer(node, flip, 0) and len(left) > 1
        return prod(_given(outputs, 0)) * (left[-2] if turned else left[-1])

    return macs


def kernel(weight: int = 1, *, transposed: bool = False) -> Macs:
    """A convolution: every element of the result (of the input, if ``transposed``) meets one row of the kernel.

    Args:
        weight: input that holds the kernel, ``[out, in / groups, taps…]`` (``[in, out / groups, taps…]``).
        transposed: it is a transposed convolution.
    """

    def macs(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
        return prod(_given(inputs if transposed else outputs, 0)) * prod(_given(inputs, weight)[1:])

    return macs


def letters(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
    """An Einsum: one multiplication per combination of its letters and operand after the first."""
    shapes = [_given(inputs, slot) for slot in range(len(inputs))]
    terms, _ = subscripts(node, [len(shape) for shape in shapes])
    extents: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            extents[letter] = max(size, extents.get(letter, 1))  # what is 1 is repeated
    return prod(extents.values()) * (len(shapes) - 1)


def recurrent(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
    """Every step multiplies the input with ``W`` and the state with ``R``, of all gates and directions."""
    data = _given(inputs, 0)
    return prod(data[:-1]) * (prod(_given(inputs, 1)) + prod(_given(inputs, 2)))


def scores(past: int | None = None) -> Macs:
    """An attention: every query meets every key, every result is summed over every value.

    Args:
        past: input that holds the keys of earlier calls, their number along its last axis but one.
    """

    def macs(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
        earlier = _maybe(inputs, past) if past is not None else None
        keys = _given(inputs, 1)[-2] + (earlier[-2] if earlier else 0)
        return keys * (prod(_given(inputs, 0)) + prod(_given(outputs, 0)))

    return macs


def packed_or_scores(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
    """Attention of onnxruntime on keys in one of three forms: ``[batch, length, channels]``, 4-D, or packed in query.

    Keys ``[batch, heads, length, head_dim]`` hold their length along the last axis but one as well; ``[batch, length,
    heads, 2, head_dim]`` and a packed query ``[batch, length, heads, 3, head_dim]`` along their second.
    """
    query, key, result = _given(inputs, 0), _maybe(inputs, 1), _given(outputs, 0)
    past = _maybe(inputs, 6)
    length = query[1] if not key else key[1] if len(key) == 5 else key[-2]
    asked = prod(query) // 3 if len(query) == 5 else prod(query)
    return (length + (past[-2] if past else 0)) * (asked + prod(result))


def grouped(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
    """GroupQueryAttention: results are as many as queries; the keys of earlier calls come first."""
    past = _maybe(inputs, 3)
    return 2 * (_given(inputs, 0)[1] + (past[-2] if past else 0)) * prod(_given(outputs, 0))


def projected(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
    """Attention of onnxruntime with the projections of query, key and value inside."""
    data, weight, result = _given(inputs, 0), _given(inputs, 1), _given(outputs, 0)
    past = _maybe(inputs, 4)
    rows, queries = prod(data[:-1]), (weight[-1] - result[-1]) // 2
    return rows * prod(weight) + (data[1] + (past[-2] if past else 0)) * rows * (queries + result[-1])


def experts(node: ir.Node, inputs: Sequence[Sizes], outputs: Sequence[Sizes]) -> int:
    """A mixture of experts: every row meets the matrices of as many experts as are picked (``k``)."""
    data = _given(inputs, 0)
    matrices = [shape for slot in (2, 4, 6) if (shape := _maybe(inputs, slot))]
    return prod(data[:-1]) * _integer(node, "k", 1) * sum(prod(shape[1:]) for shape in matrices)


def _given(sizes: Sequence[Sizes], slot: int) -> tuple[int, ...]:
    found = sizes[slot]
    assert found is not None, "an input that no such node lacks"
    return found


def _maybe(sizes: Sequence[Sizes], slot: int) -> Sizes:
    return sizes[slot] if slot < len(sizes) else None


def _integer(node: ir.Node, name: str, default: int) -> int:
    found = node.attributes.get(name)
    return default if found is None else found.as_int()
