"""Scores: what is no number is no score, and nothing is left out of a mean."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bot_onnx._sweep.scores import ScoreChanged, Unscored, _function, agreement, mean_cosine, read_scoring, score
from bot_onnx.errors import BotError


def linear(path: Path, weights: np.ndarray, *, name: str = "logits", rows: int | str = "n") -> Path:
    """``x [n, 3] @ weights``, and an integer beside it."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], [name]), helper.make_node("Shape", ["x"], ["shape"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, weights.shape[1]]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
        ],
        [numpy_helper.from_array(weights.astype(np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return None", "NoneType, no number"),
        ("return True", "bool, no number"),
        ("return '1'", "str, no number"),
        ("return float('nan')", "the score is nan"),
        ("return float('inf')", "the score is inf"),
        ("raise ValueError('a\\nb')", "raised ValueError: a b$"),
        ("raise SystemExit(1)", "SystemExit: 1"),
    ],
)
def test_what_is_no_score(tmp_path: Path, body: str, told: str) -> None:
    (tmp_path / "my.py").write_text(f"def score(path):\n    {body}\n")
    scoring = read_scoring(f"{tmp_path / 'my.py'}:score")
    with pytest.raises(Unscored, match=told):
        score(scoring, tmp_path / "model.onnx", tmp_path / "source.onnx", {})


def test_a_function_gets_the_path_and_gives_any_number(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("import numpy as np\ndef score(path):\n    return np.float32(len(path))\n")
    scoring = read_scoring(f"{tmp_path / 'my.py'}:score")
    assert score(scoring, Path("abc.onnx"), Path("source.onnx"), {}) == 8.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("accuracy", "neither a function as my.py:score nor one of cosine, agreement"),
        ("missing.py:score", "missing.py cannot be read"),
        ("my.py:other", "has no function 'other'"),
        ("broken.py:score", "cannot be imported: ZeroDivisionError"),
        ("agreement", "give --inputs"),
    ],
)
def test_what_cannot_score_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.py").write_text("def score(path):\n    return 1\n")
    Path("broken.py").write_text("1 / 0\n")
    with pytest.raises(BotError, match=told):
        read_scoring(text)


def test_a_mean_leaves_no_output_of_floats_out(tmp_path: Path) -> None:
    source = linear(tmp_path / "source.onnx", np.eye(3))
    assert mean_cosine({"logits": 0.5, "shape": None}, source) == 0.5
    for cosines in ({"shape": None}, {"logits": None}):
        with pytest.raises(Unscored, match="'logits' cannot be compared"):
            mean_cosine(cosines, source)


def test_agreement_counts_rows_whose_largest_element_is_the_same(tmp_path: Path) -> None:
    source = linear(tmp_path / "source.onnx", np.eye(3))
    model = linear(tmp_path / "model.onnx", np.diag([1.0, 1.0, -1.0]))
    np.savez(tmp_path / "x.npz", x=np.eye(3, dtype=np.float32).repeat([1, 2, 1], axis=0))  # the last row differs
    assert agreement(model, source, str(tmp_path / "x.npz")) == 3 / 4
    fixed = [linear(tmp_path / f"fixed-{n}.onnx", np.diag([1.0, 1.0, n]), rows=3) for n in (1, -1)]
    assert agreement(fixed[1], fixed[0], str(tmp_path / "x.npz")) == pytest.approx(3 / 4)  # what is left over counts
    other = linear(tmp_path / "other.onnx", np.ones((3, 2)))
    with pytest.raises(Unscored, match="another shape"):
        agreement(other, source, str(tmp_path / "x.npz"))


def test_a_score_that_changes_or_goes_meanwhile_is_no_matter_of_a_combination(tmp_path: Path) -> None:
    file = tmp_path / "my.py"
    file.write_text("def score(path):\n    return 1\n")
    scoring = read_scoring(f"{file}:score")
    _function.cache_clear()  # as in another process
    file.write_text("def score(path):\n    return 2\n")
    with pytest.raises(ScoreChanged, match="another file than when the sweep began"):
        score(scoring, tmp_path / "model.onnx", tmp_path / "source.onnx", {})
    file.unlink()
    with pytest.raises(ScoreChanged, match="cannot be read"):
        score(scoring, tmp_path / "model.onnx", tmp_path / "source.onnx", {})


def test_a_score_may_use_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_my_score.py").write_text("VALUE = 7")
    (tmp_path / "my.py").write_text(
        "import beside_my_score\n\ndef score(path):\n    from beside_my_score import VALUE\n    return VALUE\n"
    )
    scoring = read_scoring(f"{tmp_path / 'my.py'}:score")
    assert score(scoring, tmp_path / "m.onnx", tmp_path / "s.onnx", {}) == 7
