"""The passes, in the order in which they run, each with what it requires and ensures."""

from __future__ import annotations

import onnx_ir as ir

from bot_onnx._canonical.spelling.computed import fold_numbers, restore_numbers
from bot_onnx._canonical.spelling.learned import learned_scalars
from bot_onnx._canonical.spelling.neutral import neutral_input, step_of
from bot_onnx._canonical.spelling.products import spell_products
from bot_onnx._canonical.spelling.repeats import spell_repeats
from bot_onnx._canonical.spelling.seen import Observation, Pair, Seen, types_of
from bot_onnx._canonical.spelling.source_spelling import Step, restore_steps, see_through, steps_before
from bot_onnx._canonical.spelling.views import way_back
from bot_onnx._ops import MARKS


def spell_early(graph: ir.Graph) -> None:
    """See through what is neutral by what the file says alone, in place.

    Requires: constants are initializers; nodes stand in order. Ensures: no Dropout, cast, padding or scalar that
    changes nothing stands between what the passes after it look at.
    """
    _drop_neutral(graph, _seen(graph, {}))


def spell_seen(graph: ir.Graph, observed: Observation) -> bool:
    """See through what is neutral by the shapes of two runs, and write products and repetitions in one form, in place.

    Requires: the shapes of the values of ``graph``. Ensures: no node hands on what it is given, and no views or
    transpositions lead back to where they started, but where an output shows them; an Einsum or FusedMatMul is none
    that a MatMul could be, and a Gather none that repeats an axis; a number that is made of constants alone is a
    constant.

    Returns:
        Whether anything changed: nodes that nothing reads may be left.
    """
    folded = fold_numbers(graph, observed)
    seen = _seen(graph, observed.shapes, observed)
    changed = _drop_neutral(graph, seen) or folded
    if spell_products(graph, seen):
        _drop_neutral(graph, seen)  # a product that turns what was turned before
        changed = True
    return spell_repeats(graph, seen) or changed


def restore_spelling(graph: ir.Graph) -> None:
    """Spell everything as the source does, in place; a second time there is nothing left to do."""
    restore_numbers(graph)
    restore_steps(graph)


def _seen(graph: ir.Graph, shapes: dict[str, tuple[Pair, ...]], observed: Observation | None = None) -> Seen:
    return Seen(
        shapes,
        observed.values if observed is not None else {},
        types_of(graph),
        learned_scalars(graph),
        any(node.domain == MARKS for node in graph),
    )


def _drop_neutral(graph: ir.Graph, seen: Seen) -> bool:
    """Drop every node that hands on a value before it, in place; whether there was one."""
    changed = False
    for node in list(graph):
        found = _handed_on(node, seen) or way_back(node, seen)
        if found is None:
            continue
        source, steps = found
        shown, shape = node.outputs[0].name or "", seen.shape(source)
        # Bodies of control flow are inlined: a step before what ends one would stand in the wrong one.
        if see_through(graph, node, source, None if seen.flows else steps):
            changed = True
            if shape is not None and source.name == shown:
                seen.shapes[shown] = shape
    return changed


def _handed_on(node: ir.Node, seen: Seen) -> tuple[ir.Value, tuple[Step, ...] | None] | None:
    """The input that a neutral node hands on, with the steps through it."""
    slot = neutral_input(node, seen)
    source = None if slot is None else node.inputs[slot]
    if slot is None or source is None:
        return None
    step = step_of(node, slot, seen)
    return source, None if step is None else (*steps_before(node, slot), step)
