"""What was asked of a method and changes nothing, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bot_onnx._align import Alignment
from bot_onnx._resample import MethodOptions, get_method
from bot_onnx._stack.types import StackTask
from bot_onnx._structure import Structure
from bot_onnx._surgery.settled import Settled
from bot_onnx._surgery.tasks import build_task
from bot_onnx._surgery.types import StackPlan


def idle_notes(
    structure: Structure,
    settled: Settled,
    alignment: Alignment,
    stacks: Sequence[StackPlan],
    method: str,
    options: MethodOptions,
) -> list[str]:
    """A sentence an option that was given and has nothing to do.

    Args:
        structure: of the source, before its alignment.
        settled, alignment: the sizes, and what happens before the resampling.
        stacks: what happens to every tensor.
        method, options: of the resampling.
    """
    ask = get_method(method).idle_options
    orders = [stack.task for stack in stacks if stack.closed_form is None]
    idle = ask(options, orders)
    if not idle or alignment.kind == "none":
        return [f"Option {name} has nothing to do." for name in idle]
    still = ask(options, _unaligned(structure, settled, orders))
    way_out = f": alignment {alignment.kind} does it all; --align none leaves it to the method"
    return [f"Option {name} has nothing to do{'' if name in still else way_out}." for name in idle]


def _unaligned(structure: Structure, settled: Settled, orders: Sequence[StackTask]) -> list[StackTask]:
    """The work orders that there would be without an alignment."""
    solution, known = settled.solution, {stack.id: stack for stack in structure.stacks}
    return [
        replace(task, axes=build_task(structure, known[task.stack], solution.sizes, solution.layers, settled.laws).axes)
        for task in orders
    ]
