"""A teacher answers the same whoever asks, and only what may be put together is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._recover.answer_store import AnswerStore
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.form import Form
from bot_onnx._recover.network import Frozen
from bot_onnx._recover.teacher import Teacher

LENGTHS = np.arange(40) % 6 + 2


class Counting(Frozen):
    runs = 0

    def run(self, *arguments: Any, **named: Any) -> Any:
        Counting.runs += 1
        return super().run(*arguments, **named)


def tokens() -> Dataset:
    rng = np.random.default_rng(0)
    mask = (np.arange(7) < LENGTHS[:, None]).astype(np.int64)
    return Dataset({"ids": rng.integers(0, 9, (40, 7)) * mask, "mask": mask}, {}, LENGTHS, ("ids", "mask"), "mask")


def model(kind: str) -> bytes:
    """Means of tokens by the mask, added to every token; or without the mask, or with the tokens first."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["x", "column"], ["counted"] if kind != "maskless" else ["unused"]),
        helper.make_node("ReduceSum", ["counted" if kind != "maskless" else "x", "one"], ["total"], keepdims=1),
        helper.make_node("ReduceSum", ["column", "one"], ["count"], keepdims=1),
        helper.make_node("Div", ["total", "count"], ["mean"]),
        helper.make_node("Add", ["x", "mean"], ["y" if kind != "turned" else "straight"]),
    ]
    if kind == "turned":
        nodes.append(helper.make_node("Transpose", ["straight"], ["y"], perm=[1, 0, 2]))
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in ("ids", "mask")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 3)],
        [
            numpy_helper.from_array(rng.normal(size=(9, 4)).astype(np.float32), "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def teacher(kind: str, store: AnswerStore | None = None) -> Teacher:
    import onnx

    message = onnx.load_from_string(model(kind))
    return Teacher(lambda threads: Counting(Form(message), ["y"], threads=threads), tokens(), store=store, threads=2)


def test_answers_put_together_are_those_of_the_batch() -> None:
    asked = teacher("masked")
    assert asked.alone
    chosen, data = np.array([3, 7, 30, 12]), tokens()
    feeds = data.feeds(chosen)
    found = asked.answers(chosen)["y"]
    whole = asked._model.run(feeds)["y"]
    counts = feeds["mask"] > 0
    assert found.shape == whole.shape == (4, int(LENGTHS[chosen].max()), 4)
    assert np.abs(found[counts] - whole[counts]).max() < 1e-6
    assert not found[~counts].any()


def test_the_same_bits_whatever_else_is_in_the_batch(tmp_path: Path) -> None:
    first, second = teacher("masked"), teacher("masked", AnswerStore(tmp_path, "t", 1 << 20))
    second.answers(np.array([5, 6, 7, 8]))
    one, other = first.answers(np.array([8, 3]))["y"], second.answers(np.array([3, 8]))["y"]
    assert one[0].tobytes() == other[1].tobytes() and one[1].tobytes() == other[0].tobytes()


def test_a_second_teacher_runs_nothing_that_the_first_has_answered(tmp_path: Path) -> None:
    everything = np.arange(40)
    first = teacher("masked", AnswerStore(tmp_path, "t", 1 << 20)).answers(everything)["y"]
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert stored < LENGTHS.sum() * 4 * 4 + 40 * 200  # no padding
    again = teacher("masked", AnswerStore(tmp_path, "t", 1 << 20))
    Counting.runs = 0
    assert again.answers(everything)["y"].tobytes() == first.tobytes() and Counting.runs == 0
    damaged = next(path for path in tmp_path.rglob("*") if path.is_file())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    other = teacher("masked", AnswerStore(tmp_path, "t", 1 << 20))
    assert other.answers(everything)["y"].tobytes() == first.tobytes()


def test_what_depends_on_the_batch_is_answered_with_it(tmp_path: Path) -> None:
    for kind in ("maskless", "turned"):
        asked = teacher(kind, AnswerStore(tmp_path / kind, kind, 1 << 20))
        assert not asked.alone
        chosen = np.array([1, 4, 5])
        assert np.array_equal(asked.answers(chosen)["y"], asked._model.run(tokens().feeds(chosen))["y"])


def test_a_fixed_number_of_samples_is_answered_together(tmp_path: Path) -> None:
    import onnx

    message = onnx.load_from_string(model("masked"))
    data = Dataset({name: array[:, :2] for name, array in tokens().arrays.items()}, mask="mask")
    store = AnswerStore(tmp_path, "t", 1 << 20)
    asked = Teacher(lambda threads: Frozen(Form(message), ["y"], threads=threads, chunk=3), data, store=store, chunk=3)
    chosen = np.array([39, 0, 17])  # the last group is not full
    assert asked.alone
    assert np.abs(asked.answers(chosen)["y"] - asked._model.run(data.feeds(chosen))["y"]).max() < 1e-6
