"""The ways through a graph: back along the data, back to everything a value is made of, and on to all that reads it.

Every walk is a generator, goes past the nodes that ``through`` names, and hands out what it comes by in a fixed order:
depth first, the first input first. Values are met once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import onnx_ir as ir

Start = ir.Value | Iterable[ir.Value | None] | None
Use = tuple[ir.Node, int]  #: a node, and its input


def first_input(node: ir.Node) -> ir.Value | None:
    """What most ops have their data from."""
    return node.inputs[0] if node.inputs else None


def all_inputs(node: ir.Node) -> Iterable[ir.Value | None]:
    """All that a node reads, without what its bodies capture."""
    return node.inputs


def producer_chain(
    value: ir.Value | None,
    through: Callable[[ir.Node], bool],
    read: Callable[[ir.Node], ir.Value | None] = first_input,
) -> Iterator[ir.Value]:
    """A value, what its maker ``read``, and so on, as far as ``through`` names the makers."""
    while value is not None:
        yield value
        node = value.producer()
        value = read(node) if node is not None and through(node) else None


def behind(
    value: ir.Value | None,
    through: Callable[[ir.Node], bool],
    read: Callable[[ir.Node], ir.Value | None] = first_input,
) -> ir.Value | None:
    """Where :func:`producer_chain` ends; None where a maker on the way reads nothing."""
    while value is not None and (node := value.producer()) is not None and through(node):
        value = read(node)
    return value


def backward(
    start: Start,
    through: Callable[[ir.Node], bool],
    reads: Callable[[ir.Node], Iterable[ir.Value | None]] = all_inputs,
    *,
    most: int | None = None,
) -> Iterator[ir.Value]:
    """Values, and what their makers ``reads``, as far as ``through`` names the makers.

    Args:
        start: where to begin; handed out as well.
        through: the makers to go behind.
        reads: what of a maker's inputs counts.
        most: number of values after which the walk ends.
    """
    return islice(_backward(start, through, reads), most)


def _backward(
    start: Start, through: Callable[[ir.Node], bool], reads: Callable[[ir.Node], Iterable[ir.Value | None]]
) -> Iterator[ir.Value]:
    pending, seen = _pending(start), set[ir.Value]()
    while pending:
        value = pending.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        yield value
        node = value.producer()
        if node is not None and through(node):
            pending.extend(reversed(list(reads(node))))


def forward(start: Start, through: Callable[[ir.Node, int], bool], *, most: int | None = None) -> Iterator[ir.Value]:
    """Values, and what is made of them by the uses that ``through`` names.

    Args:
        start: where to begin; handed out as well.
        through: the uses to go on behind.
        most: number of values after which the walk ends.
    """
    return islice(_forward(start, through), most)


def _forward(start: Start, through: Callable[[ir.Node, int], bool]) -> Iterator[ir.Value]:
    pending, seen = _pending(start), set[ir.Value]()
    while pending:
        value = pending.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        yield value
        pending.extend(output for node, slot in value.uses() if through(node, slot) for output in node.outputs)


def uses(start: Start, through: Callable[[ir.Node, int], bool]) -> Iterator[Use]:
    """What reads values in the end: the uses of all that :func:`forward` meets, but for those it goes through."""
    return ((node, slot) for value in forward(start, through) for node, slot in value.uses() if not through(node, slot))


def _pending(start: Start) -> list[ir.Value | None]:
    return [start] if isinstance(start, ir.Value) or start is None else list(start)[::-1]
