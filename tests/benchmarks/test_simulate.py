"""The simulated resize: sizes are those of the undivided network, machines are given all tasks once."""

from __future__ import annotations

import pytest

from benchmarks import simulate
from benchmarks.simulate import SOURCE, TARGET, Outcome, Task, spread


def test_a_divided_plan_comes_to_the_parameters_of_the_whole_one() -> None:
    plan = simulate.plan_of(SOURCE, TARGET, (4, 2))
    weights = [stack for stack in plan.stacks if stack.closed_form is None and stack.task.kind != "other"]
    for side, shape, layers in ((0, SOURCE, 4), (1, TARGET, 2)):
        names = [stack.sources if side == 0 else stack.targets for stack in weights]
        found = sum(len(name) * simulate.layer_bytes(stack)[side] for name, stack in zip(names, weights, strict=True))
        assert found == pytest.approx(2 * simulate.parameters(shape, layers), rel=1e-6)
    tasks = list(simulate.tasks_of(plan))
    assert len({task.name for task in tasks}) == len(tasks)
    assert sum(task.written for task in tasks) == pytest.approx(2 * simulate.parameters(TARGET, 2), rel=1e-6)
    # Of four layers two are read, and the embedding.
    assert sum(task.read for task in tasks) == pytest.approx(2 * simulate.parameters(SOURCE, 2), rel=1e-6)


def test_the_full_size_is_that_of_the_published_model() -> None:
    untied = simulate.parameters(SOURCE, simulate.LAYERS[0]) + SOURCE.vocab * SOURCE.hidden
    assert untied == pytest.approx(405.85e9, rel=1e-4)


def test_machines_take_the_longest_task_left() -> None:
    tasks = [Task(str(size), size, 0) for size in (7, 5, 4, 3, 1)]
    assert spread(tasks, 1, 2.0) == Outcome(1, 10.0, 1.0)
    assert spread(tasks, 2, 1.0) == Outcome(2, 10.0, 1.0)
    assert spread(tasks, 5, 1.0).seconds == 7.0 and spread(tasks, 5, 1.0).busy == pytest.approx(20 / 35)


def test_the_rate_is_measured() -> None:
    assert simulate.measured_rate(64) > 0
