"""The processes of one training, as ``torchrun`` starts them: who they are, and what they add up and agree on.

Every process goes through the same course and computes its share of every batch. A batch's loss is the sum of what the
shares contribute, and its gradient the sum of theirs (:class:`Share` says how means and pairs go over a whole batch):
the training is that of one process, to the rounding of sums. Decisions are those of the first process, which alone
writes and tells.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from bot_onnx._recover.extras import torch
from bot_onnx._recover.types import Settings
from bot_onnx._resample.parallel import processor_count
from bot_onnx.errors import BotError, RecoverError

T = TypeVar("T")

_WORLD = "WORLD_SIZE"
_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
#: The others wait while the first measures and writes; who dies is noticed by its closed connection, not by this.
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Ranks:
    """One of the processes of a training.

    Attributes:
        rank: its number. world: how many there are, on all machines.
        local: its number on its machine. beside: how many there are on that.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    beside: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Ranks:
        """What ``torchrun`` says of this process; alone where nobody says anything.

        Raises:
            RecoverError: several processes are spoken of, and not all that is needed to find them is there.
        """
        told = environment.get(_WORLD, "")
        if told in ("", "0", "1"):
            return ALONE
        missing = [name for name in _NEEDED if not environment.get(name)]
        try:
            numbers = [int(environment.get(name) or 0) for name in (_WORLD, "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
        except ValueError:
            numbers = []
        if missing or not numbers or not 0 <= numbers[1] < numbers[0]:
            odd = f"{', '.join(missing)} is not set" if missing else "RANK or LOCAL_RANK is no number of one of them"
            raise RecoverError(
                f"the environment speaks of several processes ({_WORLD}={told}), and {odd}: start them with torchrun, "
                f"or unset {_WORLD} where that is about something else"
            )
        return cls(numbers[1], numbers[0], numbers[2], max(1, numbers[3]))

    @property
    def leads(self) -> bool:
        """Whether this is the first process: the one that decides, writes and tells."""
        return self.rank == 0

    def threads_of(self, settings: Settings) -> Settings:
        """Settings in which the processes of a machine share its processors, where nothing else is said."""
        if self.world == 1 or settings.threads:
            return settings
        return replace(settings, threads=max(1, processor_count() // self.beside))

    def share(self, count: int, unit: int = 1) -> Share:
        """The samples of a batch that this process computes.

        Args:
            count: samples of the batch. unit: a share is a multiple of this.

        Raises:
            RecoverError: there is not one unit for every process.
        """
        return self.shares(count, unit)[self.rank]

    def shares(self, count: int, unit: int = 1) -> list[Share]:
        """Those of all processes, one after the other; they differ by one unit at most."""
        if self.world == 1:
            return [Share(self, 0, count, count)]
        units = count // unit
        if units < self.world:
            told = f"a batch of {count} samples" + (f", {unit} at a time," if unit > 1 else "")
            raise RecoverError(
                f"{told} cannot be shared by {self.world} processes: start fewer, or give a larger --batch (and more "
                "samples, where there are no more)"
            )
        bounds = [units * place // self.world * unit for place in range(self.world)] + [count]
        return [Share(self, bounds[place], bounds[place + 1], count) for place in range(self.world)]

    # -- what the processes do together; nothing where there is one ----------------------------------------------------

    def sum(self, values: Any) -> Any:
        """The sum over all processes of a torch tensor, without gradients."""
        if self.world == 1:
            return values
        made = values.detach().clone()
        with _answered():
            torch().distributed.all_reduce(made)
        return made

    def total(self, value: float) -> float:
        """The sum over all processes, added up in their order: the same bits in each."""
        return sum(self._all(value)) if self.world > 1 else value

    def largest(self, value: int) -> int:
        """The largest over all processes."""
        return int(max(self._all(value))) if self.world > 1 else value

    def _all(self, value: float) -> list[float]:
        library = torch()
        found = [library.zeros(1, dtype=library.float64) for _ in range(self.world)]
        with _answered():
            library.distributed.all_gather(found, library.tensor([value], dtype=library.float64))
        return [float(one) for one in found]

    def first(self, work: Callable[[], T]) -> T:
        """What the first process makes, for all of them: it does the work, and the others wait.

        Raises:
            BotError: the first was refused; the others are in the same words. All else ends the first.
        """
        if self.world == 1:
            return work()
        box: list[Any] = [None, None]
        refusal: BotError | None = None
        if self.leads:
            try:
                box[0] = work()
            except BotError as error:
                refusal, box[1] = error, str(error)
        with _answered():
            torch().distributed.broadcast_object_list(box, src=0)
        if refusal is not None:
            raise refusal
        if box[1] is not None:
            raise RecoverError(box[1])
        made: T = box[0]
        return made

    def check_same(self, told: Mapping[str, Any]) -> None:
        """Refuse processes that would train something else than the first.

        Args:
            told: by name, what the training depends on.

        Raises:
            RecoverError: they differ; the process and the names are told.
        """
        if self.world == 1:
            return
        found: list[Any] = [None] * self.world
        with _answered():
            torch().distributed.all_gather_object(found, dict(told))
        for place, other in enumerate(found):
            odd = [name for name in {**found[0], **other} if found[0].get(name) != other.get(name)]
            if odd:
                raise RecoverError(
                    f"process {place} has another {', '.join(odd)} than process 0: give all of them the same models, "
                    "data and options (samples of a program in the same order)"
                )

    def level(self, parameters: Sequence[Any]) -> None:
        """Give torch parameters the values that they have in the first process."""
        if self.world > 1:
            with _answered():
                for parameter in parameters:
                    torch().distributed.broadcast(parameter.detach(), src=0)

    def add_gradients(self, parameters: Sequence[Any]) -> None:
        """Let the gradient of every torch parameter be the sum of all processes' (one sum of one row of numbers).

        A parameter that no process has a gradient of stays without one.
        """
        if self.world == 1:
            return
        library = torch()
        had = [parameter.grad is not None for parameter in parameters]
        rows = [parameter.grad if known else library.zeros_like(parameter)
                for parameter, known in zip(parameters, had, strict=True)]  # fmt: skip
        flags = library.tensor(had, dtype=rows[0].dtype, device=rows[0].device)
        summed = self.sum(library.cat([*(row.detach().flatten() for row in rows), flags]))
        found = summed[-len(had) :].tolist()
        for parameter, part, known in zip(
            parameters, summed.split([*(row.numel() for row in rows), len(had)]), found, strict=False
        ):
            parameter.grad = part.view_as(parameter) if known else None


ALONE = Ranks()


@dataclass(frozen=True, slots=True)
class Share:
    """The samples ``start`` to ``end`` of a batch of ``count``, and how numbers go over the whole of it.

    Attributes:
        ranks: the processes that have the shares.
    """

    ranks: Ranks = ALONE
    start: int = 0
    end: int = 1
    count: int = 1

    @property
    def part(self) -> float:
        """How much of the batch it is: what a mean over its samples counts in that over all."""
        return (self.end - self.start) / self.count

    def sum(self, values: Any) -> Any:
        """The sum over all shares, without gradients."""
        return self.ranks.sum(values)

    def average(self, values: Any, count: int) -> Any:
        """The mean over the batch of what are means over ``count`` rows here, without gradients where there are others.

        Of no rows here, ``values`` may be anything.
        """
        if self.ranks.world == 1:
            return values
        library = torch()
        row = values.detach().double().flatten() * count if count else library.zeros(values.numel()).to(values).double()
        summed = self.sum(library.cat([row, row.new_tensor([float(count)])]))
        return (summed[:-1] / summed[-1].clamp_min(1.0)).to(values.dtype).view_as(values)

    def rows(self, own: Any) -> Any:
        """The rows of all shares, ``[count, …]`` of ``[end - start, …]``; gradients go to one's own."""
        if self.ranks.world == 1:
            return own
        whole = own.new_zeros(self.count, *own.shape[1:])
        whole[self.start : self.end] = own.detach()
        whole = self.sum(whole)
        return torch().cat([whole[: self.start], own, whole[self.end :]])

    def once(self, loss: Any) -> Any:
        """What a share contributes to the sum of a loss that every share has computed of :meth:`rows`.

        The value counts once among all; its gradients, which differ, count whole.
        """
        if self.ranks.world == 1:
            return loss
        return loss - loss.detach() * (1 - 1 / self.ranks.world)


WHOLE = Share()


@contextmanager
def joined(ranks: Ranks, kind: str) -> Iterator[None]:
    """Inside the block the processes are a group of ``torch.distributed``; one that there is already is used.

    Args:
        ranks: this process. kind: of the device: NCCL adds up on ``cuda``, Gloo on the CPU.

    Raises:
        RecoverError: PyTorch cannot do that here, or the others are not found.
    """
    if ranks.world == 1:
        yield
        return
    library = torch()
    if not library.distributed.is_available():
        raise RecoverError(f"PyTorch {library.__version__} is built without torch.distributed: start one process")
    if library.distributed.is_initialized():
        yield
        return
    if kind == "cuda":
        library.cuda.set_device(ranks.local)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    try:
        library.distributed.init_process_group(
            backend, rank=ranks.rank, world_size=ranks.world, init_method="env://", timeout=_PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        raise RecoverError(f"the {ranks.world} processes of the training do not find each other: {error}") from error
    try:
        yield
    finally:
        library.distributed.destroy_process_group()


def check_alone(what: str) -> None:
    """Refuse several processes for what is done in one.

    Raises:
        RecoverError: ``torchrun`` started several, each of which would do the whole and write one output.
    """
    if Ranks.of(os.environ).world > 1:
        raise RecoverError(f"{what} runs in one process, and torchrun started several: start one (recover takes more)")


@contextmanager
def _answered() -> Iterator[None]:
    """Put into words that another process did not answer: it has ended."""
    try:
        yield
    except RuntimeError as error:
        raise RecoverError(
            "another process of the training ended before this one: what ended it stands in its own messages"
        ) from error
