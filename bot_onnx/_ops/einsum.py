"""The letters of an Einsum: which axis of which operand is which, and which are summed over."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

Letters = tuple[str, ...]


def subscripts(node: ir.Node, ranks: Sequence[int]) -> tuple[list[Letters], Letters | None]:
    """Letters of every operand's axes and of the result's (None where the equation leaves them out).

    Axes under an ellipsis get names of their own, counted from the right: ``...0``, ``...1``.

    Args:
        node: an Einsum.
        ranks: number of axes of every operand.
    """
    equation = node.attributes["equation"].as_string().replace(" ", "")
    operands, arrow, outcome = equation.partition("->")
    terms = [_spelled(term, rank) for term, rank in zip(operands.split(","), ranks, strict=True)]
    if not arrow:
        return terms, None
    hidden = max((sum(letter.startswith("...") for letter in term) for term in terms), default=0)
    return terms, _spelled(outcome, len(outcome.replace("...", "")) + (hidden if "..." in outcome else 0))


def _spelled(term: str, rank: int) -> Letters:
    head, dots, tail = term.partition("...")
    covered = rank - len(head) - len(tail) if dots else 0
    return (*head, *(f"...{place}" for place in reversed(range(covered))), *tail)


def summed_axes(node: ir.Node, slot: int, ranks: Sequence[int]) -> list[int]:
    """Axes of operand ``slot`` that the result does not have."""
    terms, outcome = subscripts(node, ranks)
    return [axis for axis, letter in enumerate(terms[slot]) if outcome is not None and letter not in outcome]
