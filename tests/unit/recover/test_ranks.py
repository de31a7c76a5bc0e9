"""Processes that share a batch: what each takes, and that what they add up to is the whole batch's.

The processes are threads here that add up by hand; ``tests/system/cli/test_recover_processes.py`` starts real ones.
"""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot_onnx._learn.asked import check_learnable
from bot_onnx._recover.answer_store import AnswerStore
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.first_look import check_shared
from bot_onnx._recover.losses import Objective, Pair
from bot_onnx._recover.ranks import ALONE, Ranks, check_alone, joined
from bot_onnx._recover.rows import Padded, Places, starts_of
from bot_onnx._recover.types import Settings
from bot_onnx.errors import BotError, RecoverError
from tests.unit.recover.test_training import SHORT, run

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.exporter
TOLD = {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # fmt: skip


class Table:
    """Where threads put numbers down, and read those of all."""

    def __init__(self, world: int) -> None:
        self._barrier, self._rows = threading.Barrier(world, timeout=20), [None] * world

    def shown(self, rank: int, value: Any) -> list[Any]:
        self._rows[rank] = value
        self._barrier.wait()
        found = list(self._rows)
        self._barrier.wait()
        return found


@dataclass(frozen=True, slots=True)
class Threads(Ranks):
    """One of several threads in the place of a process."""

    table: Any = field(default=None)

    def sum(self, values: Any) -> Any:
        return torch.stack(self.table.shown(self.rank, values.detach().clone())).sum(0)

    def _all(self, value: float) -> list[float]:
        return self.table.shown(self.rank, value)


def together(world: int, work: Any) -> list[Any]:
    """What ``work`` gives in each of some threads, for the ranks that it is given."""
    table = Table(world)
    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(lambda rank: work(Threads(rank, world, table=table)), range(world)))


def normal(*shape: int, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_who_a_process_is_stands_in_its_environment() -> None:
    assert Ranks.of({}) == Ranks.of({"WORLD_SIZE": "1", "RANK": "0"}) == Ranks.of({"WORLD_SIZE": ""}) == ALONE
    found = Ranks.of(TOLD)
    assert (found.rank, found.world, found.local, found.beside, found.leads) == (1, 3, 1, 2, False)
    assert found.threads_of(Settings(threads=5)).threads == 5 and found.threads_of(Settings()).threads >= 1
    assert ALONE.threads_of(Settings()).threads == 0
    with pytest.raises(RecoverError, match=r"\(WORLD_SIZE=2\), and RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not"):
        Ranks.of({"WORLD_SIZE": "2"})
    for odd in ({"RANK": "3"}, {"RANK": "one"}, {"WORLD_SIZE": "many"}):
        with pytest.raises(RecoverError, match="unset WORLD_SIZE where that is about something else"):
            Ranks.of({**TOLD, **odd})


def test_shares_are_all_of_a_batch_and_as_even_as_can_be() -> None:
    for count, unit in ((16, 1), (17, 1), (5, 1), (24, 4)):
        shares = Ranks(0, 3).shares(count, unit)
        assert [shares[0].start, *(one.end for one in shares)] == [0, *(one.start for one in shares[1:]), count]
        sizes = [one.end - one.start for one in shares]
        assert max(sizes) - min(sizes) <= unit and min(sizes) > 0 and all(size % unit == 0 for size in sizes)
        assert sum(one.part for one in shares) == pytest.approx(1) and Ranks(2, 3).share(count, unit).end == count
    with pytest.raises(
        RecoverError, match=r"a batch of 8 samples, 4 at a time, cannot be shared by 3 processes: start"
    ):
        Ranks(0, 3).share(8, 4)


CASES: dict[str, dict[str, Any]] = {
    "divergence": {"logits": True},
    "divergence of tokens": {"logits": True, "tokens": True},
    "probabilities": {"chances": True, "tokens": True},
    "squares": {},
    "squares of tokens": {"tokens": True},
    "a map and similarity": {"width": 5, "tokens": True},
    "similarity": {"loss": "similarity"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("world", [2, 3])
def test_shares_add_up_to_the_loss_and_the_gradient_of_the_whole_batch(case: str, world: int) -> None:
    """To the rounding of float32 sums, in another order: 1e-5 of the largest. One sample counts no token."""
    asked = CASES[case]
    count, tokens, width = 7, ([4] if asked.get("tokens") else []), asked.get("width", 6)
    first, theirs = normal(count, *tokens, width), normal(count, *tokens, 6, seed=1) * 2 + 1
    if asked.get("chances"):
        first, theirs = first.softmax(-1), theirs.softmax(-1)
    mask = None
    if tokens:
        mask = torch.ones(count, 4)
        mask[2, 1:], mask[5, 2:], mask[6] = 0, 0, 0
    pair = Pair("output", "y", "y", asked.get("logits", False), False, asked.get("chances", False))
    settings = Settings(output_loss=asked.get("loss", "auto"))
    made = Objective([pair], settings, [({"y": first}, {"y": theirs}, mask)])
    maps = {name: value.detach() + 0.1 for name, value in made.parameters.items()}  # not where gradients cancel

    def gradients(ranks: Ranks) -> tuple[float, list[Any], Any]:
        own = Objective([pair], settings, [({"y": first}, {"y": theirs}, mask)])
        share = ranks.share(count)
        part = slice(share.start, share.end)
        ours = first[part].clone().requires_grad_()
        for name, value in own.parameters.items():
            value.data = maps[name]
        loss = own({"y": ours}, {"y": theirs[part]}, None if mask is None else mask[part], share)
        loss.backward()
        if own.parameters:
            ranks.add_gradients(list(own.parameters.values()))
        return ranks.total(float(loss.detach())), [value.grad for value in own.parameters.values()], ours.grad

    loss, of_maps, of_values = gradients(ALONE)
    for found, added, _ in (results := together(world, gradients)):
        assert found == pytest.approx(loss, rel=1e-5)
        for one, wanted in zip(added, of_maps, strict=True):
            assert torch.allclose(one, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    joint = torch.cat([part for *_, part in results])
    assert torch.allclose(joint, of_values, rtol=1e-5, atol=1e-5 * float(of_values.abs().max()))
    assert float(of_values.abs().max()) > 1e-4


def test_a_gradient_is_the_sum_and_one_that_nobody_has_stays_away() -> None:
    def work(ranks: Ranks) -> list[Any]:
        given = [
            torch.nn.Parameter(torch.zeros(2, 3)),
            torch.nn.Parameter(torch.zeros(4)),
            torch.nn.Parameter(normal(1)),
        ]
        given[0].grad = torch.full((2, 3), 1.0 + ranks.rank)
        if ranks.rank == 1:
            given[1].grad = torch.arange(4.0)
        ranks.add_gradients(given)
        return [parameter.grad for parameter in given]

    for both, one, none in together(2, work):
        assert torch.equal(both, torch.full((2, 3), 3.0)) and torch.equal(one, torch.arange(4.0)) and none is None


def test_what_is_decided_is_decided_alike() -> None:
    assert together(3, lambda ranks: ranks.total(0.1 + ranks.rank)) == [0.1 + 1.1 + 2.1] * 3
    assert together(3, lambda ranks: ranks.largest(15 if ranks.rank == 1 else 0)) == [15] * 3
    assert (ALONE.total(0.1), ALONE.largest(2), ALONE.first(lambda: "made")) == (0.1, 2, "made")
    with joined(ALONE, "cpu"):
        assert not torch.distributed.is_initialized()


def test_a_signal_is_not_lost_while_the_others_are_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []

    def largest(ranks: Ranks, value: int) -> int:
        asked.append(value)
        if len(asked) == 2:
            signal.raise_signal(signal.SIGINT)
        return value

    monkeypatch.setattr(Ranks, "largest", largest)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out.onnx", SHORT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == [0, 0, signal.SIGINT]  # behind the next step, which the others stop behind too
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx.recover"]


def test_a_share_is_padded_as_its_batch() -> None:
    lengths = np.array([2, 5, 1, 3])
    rows = {"ids": Padded(np.arange(11), starts_of(lengths), lengths, 0, np.dtype(np.int64)),
            "mask": Places(lengths, np.dtype(np.int64))}  # fmt: skip
    data = Dataset(rows, {"flag": np.array(1.0)}, lengths, ("ids", "mask"), "mask")
    batch = np.array([0, 1, 2, 3])
    whole = data.feeds(batch)
    for start, end in ((0, 2), (2, 4)):
        part = data.feeds(batch[start:end], batch)
        assert np.array_equal(part["ids"], whole["ids"][start:end]) and part["ids"].shape == (2, 5)
        assert np.array_equal(part["mask"], whole["mask"][start:end]) and part["flag"] == 1.0
    assert data.feeds(batch[2:]).keys() == whole.keys() and data.feeds(batch[2:])["ids"].shape == (2, 3)


def test_values_that_samples_do_not_have_by_themselves_are_refused() -> None:
    class Mixing:
        def look(self, feeds: dict[str, Any]) -> dict[str, Any]:
            values = torch.from_numpy(feeds["x"])
            return {"y": values - values.mean(0)} if self.mixes else {"y": values * 2}

        mixes = True

    student: Any = Mixing()
    data, chosen = Dataset({"x": normal(8, 3).numpy()}), np.arange(8)
    with pytest.raises(RecoverError, match=r"'y' of a batch is not made of its samples' .*start one"):
        check_shared(student, student.look(data.feeds(chosen)), data, chosen, Ranks(0, 2).shares(8))
    student.mixes = False
    check_shared(student, student.look(data.feeds(chosen)), data, chosen, Ranks(0, 2).shares(8))


def test_processes_share_the_room_for_answers(tmp_path: Path) -> None:
    answer = {"y": np.zeros((1, 64), np.float32)}
    assert AnswerStore(tmp_path / "one", "t", 1000).put("ab", answer)
    assert not AnswerStore(tmp_path / "two", "t", 1000, writers=3).put("ab", answer)


def test_what_several_processes_do_not_do_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    check_alone("a recipe")
    for name, value in TOLD.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BotError, match="a recipe runs in one process, and torchrun started several: start one"):
        check_alone("a recipe")
    nothing: Any = None
    with pytest.raises(RecoverError, match="--learn runs in one process"):
        check_learnable(nothing, nothing, "model.onnx")
