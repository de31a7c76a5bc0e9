"""A cut of the vocabulary: rows that stay are the source's own, and what a graph says of ids follows or is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import bot_onnx
from bot_onnx._proof import Way
from bot_onnx._proof.keeping import leaves_alone
from bot_onnx._resample import make_options
from bot_onnx._surgery.edits import SetToken
from bot_onnx.errors import BotError, GraphError, SpecError
from tests.graphs import GraphBuilder

ROWS, HIDDEN = 60, 8
KEPT = (0, 3, 5, 9, 20, 41, 42, 59)
Extra = Callable[[GraphBuilder, str, str], Sequence[str]]  #: of ids and what was looked up: more outputs


def network(extra: Extra | None = None, *, tied: bool = True, head: bool = True) -> onnx.ModelProto:
    b = GraphBuilder()
    table = b.weight(ROWS, HIDDEN, name="words")
    ids = "tokens"
    looked_up = b.op("Gather", table, ids)
    x = b.op("Tanh", b.op("MatMul", looked_up, b.weight(HIDDEN, HIDDEN)))
    outputs = [x]
    if head:
        matrix = b.op("Transpose", table, perm=[1, 0]) if tied else b.weight(HIDDEN, ROWS, name="head")
        outputs.append(b.op("Add", b.op("MatMul", x, matrix), b.weight(ROWS, name="bias")))
    outputs += extra(b, ids, outputs[-1]) if extra is not None else ()
    model = b.model([("tokens", ["batch", "sequence"])], [], integer_inputs=["tokens"], opset=18)
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    model.graph.output.extend(known[name] for name in outputs)
    return model


def cut(model: onnx.ModelProto, folder: Path, kept: Sequence[int] = KEPT, **spec: object) -> bot_onnx.Result:
    request = bot_onnx.ResizeRequest({"vocab": {"keep": list(kept)}, **spec})
    return bot_onnx.open(model).resize(request, folder / "cut.onnx", force=True)


def runs(model: onnx.ModelProto, result: bot_onnx.Result) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Outputs of the source for ids that stay, and of the cut model for their new ids."""
    new = np.random.default_rng(3).integers(0, len(KEPT), (2, 9))
    first = onnxruntime.InferenceSession(model.SerializeToString())
    second = onnxruntime.InferenceSession(str(result.output))
    return first.run(None, {"tokens": np.array(KEPT)[new]}), second.run(None, {"tokens": new})


def comparison(result: bot_onnx.Result) -> tuple[str, str]:
    return next((check.status, check.detail) for check in result.report.checks if check.name == "comparison")


@pytest.mark.parametrize("tied", [True, False])
def test_rows_and_logits_are_the_sources_own(tied: bool, tmp_path: Path) -> None:
    model = network(tied=tied)
    result = cut(model, tmp_path)
    before, after = runs(model, result)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_allclose(after[1], before[1][..., list(KEPT)], rtol=0, atol=1e-6)
    assert comparison(result)[0] == "pass" and "1e-06 allowed" in comparison(result)[1]
    assert result.plan.promise.kept is True
    rows = {init.name: init.dims[:] for init in onnx.load(result.output).graph.initializer}
    assert rows["words"] == [8, HIDDEN] and rows["bias"] == [8]


def test_the_file_says_which_tokens_stayed(tmp_path: Path) -> None:
    model = network()
    result = cut(model, tmp_path)
    onnx.save(model, tmp_path / "source.onnx")
    again = bot_onnx.open(tmp_path / "cut.onnx").verify(against=model)
    assert {check.name: check.status for check in again.checks}["comparison"] == "pass"
    damaged = onnx.load(result.output)
    words = next(init for init in damaged.graph.initializer if init.name == "words")
    rows = onnx.numpy_helper.to_array(words)[::-1]
    words.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(rows), "words"))
    onnx.save(damaged, tmp_path / "damaged.onnx")
    found = bot_onnx.open(tmp_path / "damaged.onnx").verify(against=model)
    assert {check.name: check.status for check in found.checks}["comparison"] == "fail"


@pytest.mark.parametrize(
    ("method", "sizes"), [("bot", {"hidden": 4}), ("net2net", {"hidden": 16}), ("ws", {"hidden": 4})]
)
def test_with_another_width_by_any_method(method: str, sizes: dict[str, int], tmp_path: Path) -> None:
    """What grows keeps the function all the same, on the tokens that stay."""
    model = network(tied=False)
    request = bot_onnx.ResizeRequest({"vocab": {"keep": list(KEPT)}, **sizes}, method=method)
    result = bot_onnx.open(model).resize(request, tmp_path / "cut.onnx")
    before, after = runs(model, result)
    assert after[0].shape[-1] == sizes["hidden"] and after[1].shape[-1] == len(KEPT)
    if result.plan.promise.kept:
        np.testing.assert_allclose(after[1], before[1][..., list(KEPT)], atol=1e-4)
    assert (result.plan.promise.kept is True) == (sizes["hidden"] > HIDDEN)


def test_a_saved_plan_cuts_the_same(tmp_path: Path) -> None:
    model = network(lambda b, ids, x: [b.op("Equal", ids, b.constant(np.array(5)))])
    first = cut(model, tmp_path)
    plan = bot_onnx.Plan.from_json(first.plan.to_json())
    (tmp_path / "again").mkdir()
    bot_onnx.open(model).replay(plan, tmp_path / "again" / "cut.onnx")
    assert (tmp_path / "again" / "cut.onnx").read_bytes() == (tmp_path / "cut.onnx").read_bytes()


def test_ids_that_are_compared_follow_and_what_else_has_the_number_stays(tmp_path: Path) -> None:
    def extra(b: GraphBuilder, ids: str, x: str) -> list[str]:
        five = b.constant(np.array(5, np.int64), "five")  # a token here, and a number there
        return [b.op("Equal", ids, five), b.op("Add", b.op("Shape", ids), five)]

    model = network(extra)
    result = cut(model, tmp_path)
    before, after = runs(model, result)
    np.testing.assert_array_equal(after[2], before[2])
    np.testing.assert_array_equal(after[3], before[3])
    assert [(edit.old, edit.new) for edit in result.plan.constants if isinstance(edit, SetToken)] == [(5, 2)]


@pytest.mark.parametrize("op", ["Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
def test_ids_that_are_ordered_follow(op: str, tmp_path: Path) -> None:
    def extra(b: GraphBuilder, ids: str, x: str) -> list[str]:
        bounds = [b.constant(np.array([bound], np.int64)) for bound in (-1, 0, 9, 10, 42, 59, 60, 70)]
        return [b.op(op, *pair) for bound in bounds for pair in ((ids, bound), (bound, ids))]

    model = network(extra, head=False)
    before, after = runs(model, cut(model, tmp_path))
    assert len(after) == 17
    for made, wanted in zip(after, before, strict=True):
        np.testing.assert_array_equal(made, wanted)


def _shifted(b: GraphBuilder, ids: str, x: str) -> list[str]:
    """A start token in front, as a decoder has it."""
    cutting = b.op("Slice", ids, b.ints(0), b.ints(-1), b.ints(1))
    first = b.op("Slice", ids, b.ints(0), b.ints(1), b.ints(1))
    start = b.op("Where", b.op("Less", first, b.ints(0)), first, b.constant(np.array([[9]], np.int64)))
    return [b.op("Gather", "words", b.op("Concat", start, cutting, axis=1))]


FOLLOWING: dict[str, Extra] = {
    "a start token that is chosen and joined": _shifted,
    "the place of the largest id": lambda b, ids, x: [b.op("ArgMax", ids, axis=-1)],
    "two ids that are alike": lambda b, ids, x: [
        b.op("Equal", b.op("Unsqueeze", ids, b.ints(1)), b.op("Unsqueeze", ids, b.ints(2)))
    ],
    "negative ids that count from the end": lambda b, ids, x: [
        b.op(
            "Gather",
            "words",
            b.op(
                "Where", b.op("Less", ids, b.constant(np.array(0))), b.op("Add", ids, b.constant(np.array(ROWS))), ids
            ),
        )
    ],
    "a mark that is no token": lambda b, ids, x: [b.op("Equal", ids, b.constant(np.array(-100)))],
    "bounds that hold nothing back": lambda b, ids, x: [
        b.op("Gather", "words", b.op("Clip", ids, b.constant(np.array(0)), b.constant(np.array(ROWS - 1))))
    ],
    "whether an id is 0": lambda b, ids, x: [b.op("Cast", ids, to=onnx.TensorProto.BOOL)],
}


@pytest.mark.parametrize("extra", FOLLOWING.values(), ids=FOLLOWING)
def test_what_is_done_with_ids_is_done_with_the_new_ones(extra: Extra, tmp_path: Path) -> None:
    model = network(extra)
    result = cut(model, tmp_path)
    before, after = runs(model, result)
    np.testing.assert_array_equal(after[2], before[2])
    assert comparison(result)[0] == "pass"


def test_an_output_of_ids_has_the_new_ones(tmp_path: Path) -> None:
    model = network(lambda b, ids, x: [b.op("Identity", ids)])
    result = cut(model, tmp_path)
    before, after = runs(model, result)
    np.testing.assert_array_equal(np.array(KEPT)[after[2]], before[2])
    assert comparison(result)[0] == "pass"


REFUSED: dict[str, tuple[Extra, str]] = {
    "a token that goes": (
        lambda b, ids, x: [b.op("Equal", ids, b.constant(np.array(7)))],
        r"names token 7, which does not stay: keep it as well",
    ),
    "a number made of ids": (
        lambda b, ids, x: [b.op("Sub", ids, b.constant(np.array(1)))],
        r"\(Sub\) computes with ids of tokens",
    ),
    "a sum of ids": (
        lambda b, ids, x: [b.op("ReduceSum", ids, keepdims=0)],
        r"\(ReduceSum\) computes with ids of tokens",
    ),
    "bounds that are ids": (
        lambda b, ids, x: [b.op("Clip", ids, b.constant(np.array(0)), b.constant(np.array(9)))],
        "holds ids of tokens within bounds",
    ),
    "another table of all tokens": (
        lambda b, ids, x: [b.op("Gather", b.constant(np.arange(ROWS + 7)), ids)],
        r"\(Gather\) computes with ids of tokens",
    ),
    "shares of all tokens": (lambda b, ids, x: [b.op("Softmax", x, axis=-1)], r"\(Softmax\) computes over all tokens"),
    "the likeliest token": (lambda b, ids, x: [b.op("ArgMax", x, axis=-1)], r"\(ArgMax\) computes over all tokens"),
    "a sum over all tokens": (
        lambda b, ids, x: [b.op("ReduceMax", x, b.ints(-1))],
        r"\(ReduceMax\) computes over all tokens",
    ),
}


@pytest.mark.parametrize(("extra", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_follow_is_refused_by_name(extra: Extra, told: str, tmp_path: Path) -> None:
    with pytest.raises(BotError, match=told):
        cut(network(extra), tmp_path)
    assert not list(tmp_path.iterdir())


def test_all_tokens_and_too_many(tmp_path: Path) -> None:
    everything = cut(network(), tmp_path, range(ROWS))
    assert everything.plan.parameters[0] == everything.plan.parameters[1]
    with pytest.raises(SpecError, match=r"names token 60, and the model has 60"):
        cut(network(), tmp_path, [1, 60])
    with pytest.raises(SpecError, match="ascending order"):
        cut(network(), tmp_path, [1, 1])
    with pytest.raises(SpecError, match="is empty"):
        cut(network(), tmp_path, [])
    with pytest.raises(SpecError, match="not -1"):
        cut(network(), tmp_path, [-1])


def test_inputs_that_are_given_are_the_sources(tmp_path: Path) -> None:
    model = network()
    given = {"tokens": np.array([[3, 59, 0], [5, 5, 41]])}
    request = bot_onnx.ResizeRequest({"vocab": {"keep": list(KEPT)}}, inputs=given)
    result = bot_onnx.open(model).resize(request, tmp_path / "cut.onnx")
    assert comparison(result)[0] == "pass"
    request = bot_onnx.ResizeRequest({"vocab": {"keep": list(KEPT)}}, inputs={"tokens": np.array([[3, 4], [5, 5]])})
    with pytest.raises(GraphError, match="token 4"):
        bot_onnx.open(model).resize(request, tmp_path / "other.onnx")


def test_a_method_that_draws_anew_promises_nothing(tmp_path: Path) -> None:
    request = bot_onnx.ResizeRequest({"vocab": {"keep": list(KEPT)}}, method="scratch")
    made = bot_onnx.open(network()).resize(request, tmp_path / "cut.onnx")
    assert not made.plan.promise.kept
    assert not leaves_alone(Way("scratch", make_options("scratch")))
    assert leaves_alone(Way("bot", make_options("bot")))
