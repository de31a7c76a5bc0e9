"""Mixing of blocks: every weight matrix of a layer made of all of them (Mango, arXiv:2310.10699).

Mango writes a transformer layer's matrices as B blocks of hidden x hidden and carries the tensor (blocks, out, layers,
in) over by one operator for each of its axes. The operators of width and depth are as they are without it; here is
that of the blocks, one matrix S a chain, the same for all of its layers, with ranks of 1:

    X'_b = Σ_c S_bc X_c,   S = I before the first step

on the blocks X of the target, inputs first. A matrix whose sides are whole multiples of hidden is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot_onnx._recover.extras import torch
from bot_onnx._surgery.types import StackPlan


@dataclass(frozen=True, slots=True)
class Member:
    """A stack of matrices of a chain: its id, whether outputs come first, and its numbers of blocks (in, out)."""

    stack: str
    turned: bool
    blocks: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mixing:
    """The matrices of one chain that are cut into blocks of ``[hidden, hidden]``."""

    chain: str
    hidden: int
    members: tuple[Member, ...]

    @property
    def count(self) -> int:
        """Number of blocks a layer."""
        return sum(member.blocks[0] * member.blocks[1] for member in self.members)

    def apply(self, mix: Any, made: Mapping[str, Any]) -> dict[str, Any]:
        """The stacks ``[layers, …]`` by id, their blocks mixed.

        Args:
            mix: S, ``[count, count]``.
            made: the stacks of the members, ``[layers, *shape]`` each.
        """
        blocks = torch().cat([self._cut(made[member.stack], member) for member in self.members], dim=1)
        mixed = torch().einsum("bc,lcij->lbij", mix, blocks)
        found, start = {}, 0
        for member in self.members:
            stop = start + member.blocks[0] * member.blocks[1]
            found[member.stack] = self._joined(mixed[:, start:stop], member)
            start = stop
        return found

    def _cut(self, stack: Any, member: Member) -> Any:
        into, out = member.blocks
        given = stack.transpose(1, 2) if member.turned else stack
        cut = given.reshape(len(stack), into, self.hidden, out, self.hidden).transpose(2, 3)
        return cut.reshape(len(stack), into * out, self.hidden, self.hidden)

    def _joined(self, blocks: Any, member: Member) -> Any:
        into, out = member.blocks
        whole = blocks.reshape(len(blocks), into, out, self.hidden, self.hidden).transpose(2, 3)
        whole = whole.reshape(len(blocks), into * self.hidden, out * self.hidden)
        return whole.transpose(1, 2) if member.turned else whole


def find_mixings(stacks: Sequence[StackPlan], chains: Mapping[str, str], hidden: Mapping[str, int]) -> list[Mixing]:
    """What can be mixed, chain by chain.

    Args:
        stacks: that are learned, all tensors of each.
        chains: by stack the name of the chain that it stands in, one tensor a layer.
        hidden: by dim the target size of what is the stream.
    """
    found: dict[tuple[str, int, int], list[Member]] = {}
    for stack in stacks:
        task = stack.task
        if task.stack not in chains or task.kind != "matrix" or sorted(task.directions) != ["in", "out"]:
            continue
        sizes = {hidden[axis.dim] for axis in task.axes if axis.dim in hidden}
        turned = task.directions[0] == "out"
        into, out = task.target_shape[::-1] if turned else task.target_shape
        for size in sizes:
            if into % size == 0 and out % size == 0:
                member = Member(task.stack, turned, (into // size, out // size))
                found.setdefault((chains[task.stack], size, len(stack.targets)), []).append(member)
    made = [Mixing(chain, size, tuple(members)) for (chain, size, _), members in found.items()]
    return [mixing for mixing in made if mixing.count > 1]
