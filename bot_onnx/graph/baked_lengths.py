"""Lengths that a trace has written into a graph, although its inputs call them open.

A loop over the sequence that an exporter unrolled takes each step by its number, and a list that it took for a
constant is split by its numbers. Such a graph runs at one length alone. Which, its constants tell.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx

MAX_LENGTHS = 12  #: guesses, most often named first
_LONGEST = 4096
_FEW = 64  #: elements of a constant that may hold lengths or places


def baked_lengths(graph: onnx.GraphProto) -> tuple[int, ...]:
    """Lengths that ops of ``graph`` need by the numbers in their constants, likeliest first.

    The length of an axis whose last element is picked by number is that number + 1; of one that is split, the sum of
    the parts. Next come the numbers that Reshape and Expand name.
    """
    constants = _small_integers(graph)
    highest: dict[tuple[str, int], int] = {}
    needed: Counter[int] = Counter()
    named: Counter[int] = Counter()
    for node in graph.node:
        numbers = constants.get(node.input[1]) if len(node.input) > 1 else None
        if numbers is None or not numbers:
            continue
        if node.op_type == "Gather" and node.input[0] not in constants:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            place = node.input[0], int(axis)
            highest[place] = max(highest.get(place, 0), *numbers)
        elif node.op_type == "Split":
            needed[sum(numbers)] += 1
        elif node.op_type in ("Reshape", "Expand"):
            named.update({number for number in numbers if number > 1})
    needed.update(number + 1 for number in highest.values())
    ranked = [*_ranked(needed), *_ranked(named)]
    return tuple(dict.fromkeys(ranked))[:MAX_LENGTHS]


def _ranked(counts: Counter[int]) -> list[int]:
    return [number for number, _ in counts.most_common() if 1 < number <= _LONGEST]


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
