"""Lengths that a trace has written into a graph, although its inputs call them open.

A loop over the sequence that an exporter unrolled takes each step by its number, and a list that it took for a
constant is split by its numbers. Such a graph runs at one length alone. Which, its constants tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import onnx

from bot_onnx._ops import Slot, slot_of

MAX_LENGTHS = 12  #: guesses, most often named first
_LONGEST = 4096
_FEW = 64  #: elements of a constant that may hold lengths or places


def baked_lengths(graph: onnx.GraphProto) -> Iterator[int]:
    """Yield lengths that ops of ``graph`` need by the numbers in their constants, likeliest first.

    The length of an axis whose last element is picked by number is that number + 1; of one that is split, the sum of
    the parts, or a divisor of it (where the axis is tokens x experts). Next come the numbers that Reshape and Expand
    name. The graph is not looked at before the first is asked for: most graphs run at other lengths.
    """
    constants = _small_integers(graph)
    highest: dict[tuple[str, int], int] = {}
    needed: Counter[int] = Counter()
    split: Counter[int] = Counter()
    named: Counter[int] = Counter()
    for node in graph.node:
        numbers = constants.get(node.input[1]) if len(node.input) > 1 else None
        if numbers is None or not numbers:
            continue
        purpose = slot_of(node, 1)
        if slot_of(node, 0) is Slot.TABLE and node.input[0] not in constants:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            place = node.input[0], int(axis)
            highest[place] = max(highest.get(place, 0), *numbers)
        elif purpose is Slot.PARTS:
            split[sum(numbers)] += 1
        elif purpose is Slot.SIZES:
            named.update({number for number in numbers if number > 1})
    needed.update(number + 1 for number in highest.values())
    ranked = [*_ranked(needed), *(part for number in _ranked(split) for part in _divisors(number)), *_ranked(named)]
    yield from islice(dict.fromkeys(ranked), MAX_LENGTHS)


def _ranked(counts: Counter[int]) -> list[int]:
    return [number for number, _ in counts.most_common() if 1 < number <= _LONGEST]


def _divisors(number: int) -> list[int]:
    """A number and its divisors but 1, largest first."""
    return [part for part in range(number, 1, -1) if number % part == 0]


def _small_integers(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Content of the small integer constants, by name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {
        name: [int(number) for number in onnx.numpy_helper.to_array(tensor).reshape(-1)]
        for name, tensor in tensors.items()
        if tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) and np.prod(tensor.dims) <= _FEW
    }
