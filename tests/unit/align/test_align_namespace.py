"""An alignment whose matrices lie in another array namespace is the one that NumPy finds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import onnx
import pytest

from benchmarks.synthetic import BertConfig, bert
from bot_onnx._align import Kind, align, find_facts, plan_alignment
from bot_onnx._align.energy import halved
from bot_onnx._align.places import best_of_rows, crossing, entries, placed, without_diagonal
from bot_onnx._analysis.passes import analyse
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._resample.devices import namespace
from bot_onnx.errors import ResampleError

SMALL = BertConfig(layers=2, hidden=32, heads=4, intermediate=48, vocab=60)


@lru_cache(maxsize=1)
def proto() -> onnx.ModelProto:
    return bert(SMALL)


def aligned(path: Path, kind: Kind, xp: Any) -> dict[str, Any]:
    """Every weight behind an alignment for half of everything."""
    with open_model(path) as source:
        analysis = analyse(source.model())
        structure = analysis.structure
        found = align(
            plan_alignment(kind, structure, halved(structure), find_facts(analysis)), analysis.tensors(), xp=xp
        )
        return {name: np.array(found.read(name)) for stack in structure.stacks for name in stack.tensors}


def compared(path: Path, kind: Kind, xp: Any, tolerance: float) -> None:
    onnx.save(proto(), path)
    ours, theirs = aligned(path, kind, xp), aligned(path, kind, np)
    assert ours.keys() == theirs.keys() and any(array.size for array in ours.values())
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], atol=tolerance, err_msg=name)


@pytest.mark.parametrize("kind", ["permute", "rotate", "select"])
def test_a_strict_namespace_finds_the_same(kind: Kind, tmp_path: Path) -> None:
    compared(tmp_path / "model.onnx", kind, array_api_strict, 1e-6)


@pytest.fixture
def cuda() -> Iterator[Any]:
    try:
        yield namespace("cuda")
    except ResampleError as error:
        pytest.skip(str(error))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["permute", "rotate", "select"])
def test_a_device_finds_the_same(cuda: Any, kind: Kind, tmp_path: Path) -> None:
    compared(tmp_path / "model.onnx", kind, cuda, 1e-4)


def test_what_is_asked_beyond_the_standard() -> None:
    matrix = np.array([[3.0, 7.0, 7.0], [1.0, 2.0, 0.0], [4.0, 5.0, 9.0]])
    there, rows, columns = array_api_strict.asarray(matrix), np.array([2, 0]), np.array([1, 2])
    assert best_of_rows(there, array_api_strict).tolist() == [1, 1, 2]
    assert np.array_equal(np.asarray(crossing(there, rows, columns, array_api_strict)), matrix[np.ix_(rows, columns)])
    assert entries(there, rows, columns, array_api_strict).tolist() == [5.0, 7.0]
    cut = np.asarray(without_diagonal(there, array_api_strict))
    assert np.isneginf(np.diag(cut)).all() and cut[0, 1] == 7.0
    half = placed(matrix.astype(np.float16), array_api_strict)
    assert str(half.dtype).endswith("float32")
