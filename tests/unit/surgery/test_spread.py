"""How a plan is shared among processes, and what a process that is not like the others refuses."""

from __future__ import annotations

import importlib
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.weight_files import MappedTensor, WeightFile
from bot_onnx._resample import parallel
from bot_onnx._stack.types import Axis, StackTask
from bot_onnx._surgery import spread
from bot_onnx._surgery.execute import Piece
from bot_onnx._surgery.spread import Work, make, shares
from bot_onnx._surgery.types import StackPlan
from bot_onnx.errors import BotError, GraphError, OutputError
from tests.graphs import residual_mlp_model, save


def piece(name: str, layers: int, start: int = 0) -> Piece:
    names = tuple(f"{name}{layer}" for layer in range(layers))
    task = StackTask(name, name, "matrix", (Axis("leaf", 4, 2),), ("none",))
    return Piece((StackPlan(task, names, names, "FLOAT"),), start, layers)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_every_layer_is_in_one_task_and_tasks_are_alike(workers: int) -> None:
    wanted = [piece("a", 5), piece("b", 9, start=3), piece("c", 1)]
    sizes = {name: 10 * len(one.members[0].targets) for one in wanted for name in one.members[0].targets}
    tasks = shares(wanted, sizes, workers)
    made = [p.members[0].targets[layer] for task in tasks for p in task for layer in range(p.start, p.stop)]
    assert sorted(made) == sorted(name for one in wanted for name in one.members[0].targets[one.start :])
    loads = [sum(sizes[p.members[0].targets[n]] for p in task for n in range(p.start, p.stop)) for task in tasks]
    total, largest = sum(loads), max(sizes.values())
    assert loads == sorted(loads, reverse=True)
    assert loads[0] <= max(largest, -(-total // (4 * workers)))
    assert all(len({id(p.members) for p in task}) == len(task) for task in tasks)  # runs of layers, not single ones


def test_a_layer_that_is_larger_than_a_share_is_a_task() -> None:
    sizes = {"a0": 1 << 30, "b0": 4, "b1": 4}
    assert [len(task) for task in shares([piece("a", 1), piece("b", 2)], sizes, 2)] == [1, 1]


def test_tensors_of_an_open_file_go_to_a_process_that_has_the_same_file(tmp_path: Path) -> None:
    path = save(residual_mlp_model(hidden=64, inner=256), tmp_path)
    with open_model(path) as source:
        name, tensor = next(
            (name, value.const_value)
            for name, value in source.model().graph.initializers.items()
            if isinstance(value.const_value, MappedTensor)
        )
        sent = pickle.dumps(tensor)
        there = pickle.loads(sent)
        np.testing.assert_array_equal(there.numpy(), tensor.numpy())
        assert there.name == name and isinstance(there.file, WeightFile)
        there.file.close()
    os.utime(path, ns=(1, 1))
    with pytest.raises(GraphError, match="another file here"):
        pickle.loads(sent)
    path.unlink()
    with pytest.raises(GraphError, match="cannot read"):
        pickle.loads(sent)


def laid(folder: Path, **other: Any) -> tuple[str, str]:
    work = Work(None, None, None, {}, {}, spread.__version__, parallel.arithmetic())  # type: ignore[arg-type]
    content = importlib.import_module("cloudpickle").dumps(replace(work, **other))
    path = folder / "work"
    path.write_bytes(content)
    return str(path), spread.hashlib.sha256(content).hexdigest()


def test_a_worker_that_is_not_like_the_command_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cloudpickle", reason="needs the extra 'sweep'")
    assert make(*laid(tmp_path), []) == []
    with pytest.raises(BotError, match=r"the command 0\.0\.1: install the same"):
        make(*laid(tmp_path, version="0.0.1"), [])
    with pytest.raises(BotError, match=r"threads of BLAS is .*, not 77; give both the same OMP_NUM_THREADS"):
        make(*laid(tmp_path, arithmetic={**parallel.arithmetic(), "threads of BLAS": 77}), [])
    path, _ = laid(tmp_path)
    with pytest.raises(OutputError, match="is another file where a worker runs"):
        make(path, "0" * 64, [])
    with pytest.raises(OutputError, match="needs that folder under this path"):
        make(str(tmp_path / "elsewhere"), "0" * 64, [])


def test_arithmetic_is_told_of_as_blas_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert parallel.arithmetic()["threads of BLAS"] == parallel.arithmetic()["threads"] == 3
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert parallel.arithmetic()["threads of BLAS"] == 1
