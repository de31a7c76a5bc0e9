"""What a file says of its outputs is held against its source's, through the operators of the axes, and can fail."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bot_onnx._resample import operator
from bot_onnx._surgery.provenance import read_lineage, unpromised
from bot_onnx._verify import Check, VerifyReport, raise_unless_passed, verify_model
from bot_onnx.errors import VerifyError
from tests.verify_models import composite, leaf, save, save_constant, save_linear, save_lookup, say_made_from

RNG = np.random.default_rng(11)
WEIGHT = RNG.normal(size=(3, 4))


def verdict(report: VerifyReport) -> Check:
    return next(check for check in report.checks if check.name == "comparison")


def judged(tmp_path: Path, old: Any, new: Any, axis: Any = None, **told: Any) -> Check:
    """The verdict on ``y = x new`` made from ``y = x old``, whose second axis changes as given."""
    source = save_linear(tmp_path / "source.onnx", old)
    path = save_linear(tmp_path / "new.onnx", new)
    told = ({} if axis is None else {"outputs": {"y": [None, axis]}}) | told
    return verdict(verify_model(say_made_from(path, source, **told), against=source))


def test_growth_by_copies_passes(tmp_path: Path) -> None:
    check = judged(tmp_path, WEIGHT, np.repeat(WEIGHT, 2, axis=1), leaf(4, 8))
    assert check.status == "pass"
    assert check.detail.endswith("of its scale (0.0001 allowed)")


@pytest.mark.parametrize("off", [1e-3, 1.0])
def test_a_weight_that_is_not_the_source_s_fails(tmp_path: Path, off: float) -> None:
    """A cosine of 0.9999999 is no excuse."""
    weight = np.repeat(WEIGHT, 2, axis=1)
    weight[1, 5] += off
    source = save_linear(tmp_path / "source.onnx", WEIGHT)
    path = say_made_from(save_linear(tmp_path / "new.onnx", weight), source, outputs={"y": [None, leaf(4, 8)]})
    report = verify_model(path, against=source)
    check = verdict(report)
    assert check.status == "fail" and not report.passed
    assert check.detail.startswith("output 'y' is off by ")
    assert "the first value that differs is 'y', of MatMul (node ''), whose inputs agree" in check.detail
    (entry,) = report.comparisons
    assert entry.agrees is False and 0 < entry.differing <= 5
    with pytest.raises(VerifyError, match="output 'y' is off by"):
        raise_unless_passed(report)


def test_doubled_outputs_fail_whatever_their_cosine(tmp_path: Path) -> None:
    assert judged(tmp_path, WEIGHT, 2 * WEIGHT).status == "fail"
    assert judged(tmp_path, WEIGHT, 2 * WEIGHT, factors={"y": 2.0}).status == "pass"
    assert judged(tmp_path, WEIGHT, WEIGHT, factors={"y": 2.0}).status == "fail"


@pytest.mark.parametrize("target", [6, 7, 12])
def test_every_ratio_goes_through_its_operator(tmp_path: Path, target: int) -> None:
    matrix = operator("bot", 4, target)
    grown = WEIGHT @ matrix.T
    assert judged(tmp_path, WEIGHT, grown, leaf(4, target)).status == "pass"
    assert judged(tmp_path, WEIGHT, grown[:, ::-1], leaf(4, target)).status == "fail"


def test_options_and_method_say_which_operator(tmp_path: Path) -> None:
    for told in ({"options": {"wavelet": "db2"}}, {"method": "front"}, {"method": "net2net", "seed": 5}):
        method, options = told.get("method", "bot"), told.get("options", {})
        if method == "net2net":  # draws its copies by the seed and the dim
            from bot_onnx._resample.mapping import duplicate
            from bot_onnx._stack.types import Axis

            index = duplicate(Axis("leaf", 4, 8, dim="d0"), "random", 5)
            grown = WEIGHT[:, index]
        else:
            grown = WEIGHT @ operator(str(method), 4, 8, **options).T  # type: ignore[arg-type]
        assert judged(tmp_path, WEIGHT, grown, leaf(4, 8), **told).status == "pass", told
    assert judged(tmp_path, WEIGHT, np.repeat(WEIGHT, 2, axis=1), leaf(4, 8), method="net2net", seed=5).status == "fail"


def test_products_and_concats_are_mapped_part_by_part(tmp_path: Path) -> None:
    heads, width = operator("bot", 2, 3), operator("bot", 2, 4)
    grown = WEIGHT @ np.kron(heads, width).T
    axis = composite("product", leaf(2, 3, "heads"), leaf(2, 4, "head_dim", "d1"))
    assert judged(tmp_path, WEIGHT, grown, axis).status == "pass"
    other = composite("product", leaf(2, 4, "heads"), leaf(2, 3, "head_dim", "d1"))
    assert judged(tmp_path, WEIGHT, grown, other).status == "fail"
    joined = np.concatenate([WEIGHT[:, :1], WEIGHT[:, 1:] @ operator("bot", 3, 5).T], axis=1)
    assert judged(tmp_path, WEIGHT, joined, composite("concat", leaf(1, 1), leaf(3, 5, dim="d1"))).status == "pass"


def test_a_part_that_is_set_at_run_time(tmp_path: Path) -> None:
    """``[batch x 4]`` to ``[batch x 8]``: the batch is not written in the file."""
    paths = []
    for name, weight in (("source", WEIGHT), ("new", np.repeat(WEIGHT, 2, axis=1))):
        nodes = [
            helper.make_node("MatMul", ["x", "weight"], ["rows"]),
            helper.make_node("Reshape", ["rows", "flat"], ["y"]),
        ]
        weights = {"weight": weight, "flat": np.array([-1])}
        paths.append(save(tmp_path / f"{name}.onnx", nodes, weights, {"x": ["batch", 3]}, {"y": [None]}))
    axis = composite("product", None, leaf(4, 8))
    report = verify_model(say_made_from(paths[1], paths[0], outputs={"y": [axis]}), against=paths[0])
    assert verdict(report).status == "pass"


def test_shapes_that_were_not_planned_fail(tmp_path: Path) -> None:
    check = judged(tmp_path, WEIGHT, np.repeat(WEIGHT, 2, axis=1))
    assert check.status == "fail" and "its shape is 2x8, the source's 2x4" in check.detail
    check = judged(tmp_path, WEIGHT, np.repeat(WEIGHT, 2, axis=1), leaf(5, 8))
    assert check.status == "fail" and "4 indices where 5 were planned" in check.detail


def test_a_vocabulary_is_compared_on_the_tokens_of_both(tmp_path: Path) -> None:
    table, head = RNG.normal(size=(16, 4)), RNG.normal(size=(4, 16))
    large = save_lookup(tmp_path / "large.onnx", table, head)
    small = save_lookup(tmp_path / "small.onnx", table[:8], head[:, :8])
    for new, source, sizes in ((small, large, (16, 8)), (large, small, (8, 16))):
        path = tmp_path / "new.onnx"
        path.write_bytes(new.read_bytes())
        say_made_from(path, source, outputs={"logits": [None, None, leaf(*sizes, "vocab")]})
        report = verify_model(path, against=source)
        assert verdict(report).status == "pass"
        assert report.comparisons[0].mapped == f"axis 2: {sizes[0]} to {sizes[1]} by the tokens of both"
        assert report.comparisons[0].divergence == pytest.approx(0, abs=1e-9)


def _classifier(path: Path, weight: np.ndarray, *, op: str = "ArgMax") -> Path:
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["scores"])]
    if op == "ArgMax":
        nodes.append(helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0))
    else:
        nodes.append(helper.make_node("Greater", ["scores", "zero"], ["label"]))
    weights = {"weight": weight, "zero": np.zeros(())}
    path = save(path, nodes, weights, {"x": ["batch", 3]}, {"label": ["batch"] if op == "ArgMax" else ["batch", 4]})
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64 if op == "ArgMax" else TensorProto.BOOL
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("op", ["ArgMax", "Greater"])
def test_labels_and_flags_must_be_equal(tmp_path: Path, op: str) -> None:
    source = _classifier(tmp_path / "source.onnx", WEIGHT, op=op)
    same = say_made_from(_classifier(tmp_path / "same.onnx", WEIGHT, op=op), source)
    other = say_made_from(_classifier(tmp_path / "other.onnx", -WEIGHT, op=op), source)
    report = verify_model(same, against=source)
    assert verdict(report) == Check("comparison", "pass", "label equal")
    assert (report.comparisons[0].cosine, report.comparisons[0].tolerance) == (None, 0.0)
    report = verify_model(other, against=source)
    assert verdict(report).status == "fail"
    assert verdict(report).detail.startswith("output 'label' is not the source's in ")
    assert "the first value that differs is 'scores'" in verdict(report).detail


def _scaled(path: Path, weight: Any, row: Sequence[float]) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["a"]), helper.make_node("Add", ["a", "row"], ["y"])]
    weights = {"weight": weight, "row": np.asarray(row)}
    return save(path, nodes, weights, {"x": ["batch", 3]}, {"y": ["batch", len(row)]})


def test_what_is_not_finite_in_the_source_is_no_fault(tmp_path: Path) -> None:
    inf, nan = np.inf, np.nan
    source = _scaled(tmp_path / "source.onnx", WEIGHT, [0, -inf, nan, 1])
    grown = np.repeat(WEIGHT, 2, axis=1)
    axes = {"y": [None, leaf(4, 8)]}
    rows = {
        "pass": [0, 0, -inf, -inf, nan, nan, 1, 1],
        "fail": [0, -inf, -inf, -inf, nan, nan, 1, 1],
    }
    for status, row in rows.items():
        path = say_made_from(_scaled(tmp_path / f"{status}.onnx", grown, row), source, outputs=axes)
        checks = {check.name: check for check in verify_model(path, against=source).checks}
        assert checks["comparison"].status == status
        assert checks["outputs"].status == ("info" if status == "pass" else "fail")
    assert "elsewhere than the source's" in checks["comparison"].detail
    alone = {check.name: check.status for check in verify_model(tmp_path / "pass.onnx").checks}
    assert alone["outputs"] == "fail"
    same = say_made_from(_scaled(tmp_path / "same.onnx", WEIGHT, [0, inf, nan, 1]), source)
    assert verdict(verify_model(same, against=source)).status == "fail"  # another infinity


@pytest.mark.parametrize("fill", [-1e4, -1e9])
def test_what_a_mask_fills_in_hides_no_difference(fill: float, tmp_path: Path) -> None:
    """Logits of tokens that are never said: beside -1e9 all others would agree."""
    row = [0, fill, 0.5, 1]
    source = _scaled(tmp_path / "source.onnx", WEIGHT, row)
    for status, weight, shift in (("pass", WEIGHT, 0), ("fail", 1.01 * WEIGHT, 0), ("fail", WEIGHT, 0.01 * fill)):
        path = _scaled(tmp_path / "new.onnx", weight, [0, fill + shift, 0.5, 1])
        report = verify_model(say_made_from(path, source), against=source)
        assert verdict(report).status == status
        (entry,) = report.comparisons
        assert entry.scale is not None and entry.scale < 100


def test_without_a_promise_nothing_passes_and_nothing_fails(tmp_path: Path) -> None:
    for new in (WEIGHT, -WEIGHT):
        check = judged(tmp_path, WEIGHT, new, kept=False, why="hidden shrinks")
        assert check.status == "info" and check.detail.startswith("not kept, as planned: hidden shrinks; y cosine ")
        check = judged(tmp_path, WEIGHT, new, kept=None, why="trained since")
        assert check.status == "info"
        assert check.detail.startswith("nothing is promised of the outputs: trained since; y cosine ")


def test_a_promise_about_another_file_is_none(tmp_path: Path) -> None:
    source = save_linear(tmp_path / "source.onnx", WEIGHT)
    path = say_made_from(save_linear(tmp_path / "new.onnx", WEIGHT), source)
    other = save_linear(tmp_path / "other.onnx", WEIGHT + 1)
    report = verify_model(path, against=other)
    assert verdict(report).status == "info" and verdict(report).detail.startswith("no promise known")
    assert report.promise is None and report.passed
    assert verify_model(path, against=source).promise is not None


def test_an_aligned_axis_that_shrank_is_not_comparable(tmp_path: Path) -> None:
    check = judged(tmp_path, WEIGHT, WEIGHT[:, ::2], leaf(4, 2, "hidden"), align="rotate", kept=False)
    assert check.status == "info"
    assert "not compared: 'y': its dim hidden went from 4 to 2 in another basis (rotate)" in check.detail


def test_an_input_that_is_resized_is_fed_through_its_operator(tmp_path: Path) -> None:
    """A memory of 2 heads x 2, grown to 3 heads x 4: x and y both are ``[batch, heads x head_dim]``."""
    out = np.kron(operator("bot", 2, 3), operator("bot", 2, 4))
    dual = np.kron(operator("bot", 2, 3, direction="in"), operator("bot", 2, 4, direction="in"))
    weight = RNG.normal(size=(4, 4))
    axis = composite("product", leaf(2, 3, "heads"), leaf(2, 4, "state", "d1"))
    source = save_linear(tmp_path / "source.onnx", weight)
    told: dict[str, Any] = {"inputs": {"x": [None, axis]}, "outputs": {"y": [None, axis]}}
    path = say_made_from(save_linear(tmp_path / "new.onnx", dual @ weight @ out.T), source, **told)
    assert verdict(verify_model(path, against=source)).status == "pass"
    path = say_made_from(save_linear(tmp_path / "wrong.onnx", out @ weight @ out.T), source, **told)
    assert verdict(verify_model(path, against=source)).status == "fail"
    path = say_made_from(
        save_linear(tmp_path / "half.onnx", dual @ weight @ out.T / 2), source, factors={"x": 2.0}, **told
    )
    assert verdict(verify_model(path, against=source)).status == "pass"


def test_partners_under_other_names(tmp_path: Path) -> None:
    """Outputs that were numbered anew are held against what they were; one of an added layer against nothing."""

    def layers(path: Path, factors: Sequence[float]) -> Path:
        nodes, weights = [], {}
        for index, factor in enumerate(factors):
            weights[f"w{index}"] = np.array(float(factor))
            nodes.append(helper.make_node("Mul", ["x", f"w{index}"], [f"present.{index}"]))
        outputs: dict[str, Sequence[int | str | None]] = {f"present.{i}": ["batch", 3] for i in range(len(factors))}
        return save(path, nodes, weights, {"x": ["batch", 3]}, outputs)

    source = layers(tmp_path / "source.onnx", [1, 5])
    path = layers(tmp_path / "new.onnx", [1, 9, 5])
    say_made_from(path, source, partners={"present.1": None, "present.2": "present.1"})
    report = verify_model(path, against=source)
    assert verdict(report).status == "pass"
    assert [entry.output for entry in report.comparisons] == ["present.0", "present.2"]
    say_made_from(path, source, partners={"present.2": None})
    assert verdict(verify_model(path, against=source)).status == "fail"


def test_an_output_that_is_lost_fails(tmp_path: Path) -> None:
    source = save_constant(tmp_path / "source.onnx", [1.0, 2.0])
    path = say_made_from(save_linear(tmp_path / "new.onnx", np.ones((3, 2))), source)
    check = verdict(verify_model(path, against=source))
    assert check.status == "fail" and "'logits': the model has no such output" in check.detail


@pytest.mark.parametrize(
    "told",
    [
        {"promise": 3},
        {"outputs": {"y": 5}},
        {"outputs": {"y": [None, {"kind": "ring"}]}},
        {"sizes": []},
        {"method": "unheard-of"},
        {"options": {"wavelet": 7}},
    ],
    ids=str,
)
def test_what_cannot_be_read_promises_nothing(tmp_path: Path, told: dict[str, Any]) -> None:
    assert judged(tmp_path, WEIGHT, WEIGHT + 1, **told).detail.startswith("no promise known")


def test_sizes_that_make_no_operator_are_told(tmp_path: Path) -> None:
    check = judged(tmp_path, WEIGHT, np.repeat(WEIGHT, 2, axis=1), leaf(4, 8), method="ws")
    assert check.status == "info" and "there is no operator from 4 to 8" in check.detail


def test_new_weights_end_the_promise(tmp_path: Path) -> None:
    source = save_linear(tmp_path / "source.onnx", WEIGHT)
    path = say_made_from(save_linear(tmp_path / "new.onnx", WEIGHT), source, factors={"y": 1.0})
    told = json.loads(onnx.load(path).metadata_props[0].value)
    lineage = read_lineage({"bot_onnx": json.dumps(unpromised(told, "trained since"))})
    assert lineage is not None
    assert (lineage.promise.kept, lineage.promise.why, lineage.promise.factors) == (None, "trained since", ())
    assert unpromised({"version": "0"}, "trained since") == {"version": "0"}
