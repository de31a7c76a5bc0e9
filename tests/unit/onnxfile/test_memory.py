"""Weights in memory: pages handed back, zeros that are one buffer, models that run from the map of their file."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from benchmarks.memory import Sizes, write_llama
from bot_onnx._canonical.normalise import normalise
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._onnxfile.weight_files import RESIDENT_BYTES, WeightFile, view
from bot_onnx._runs import observe
from bot_onnx._verify import runner, verify_model
from bot_onnx._verify.runner import Runner
from tests.verify_models import BERT, save_bert

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
WIDE = replace(BERT, layers=2, hidden=128, intermediate=256)
FEEDS = {name: np.ones((2, 5), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}


def resident(path: Path) -> int:
    """Bytes of the maps of a file that are in this process' memory."""
    maps = Path("/proc/self/smaps").read_text()
    found = re.findall(rf"{re.escape(str(path))}\n.*?^Rss:\s+(\d+) kB", maps, re.DOTALL | re.MULTILINE)
    return 1024 * sum(map(int, found))


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A BERT with its weights in a data file, the matrices too large to be held with the graph."""
    path = tmp_path / "beside.onnx"
    whole = onnx.load(save_bert(tmp_path / "bert.onnx", WIDE))
    onnx.save_model(whole, path, save_as_external_data=True, location="beside.onnx.data", size_threshold=256)
    return path


@LINUX
def test_a_pass_over_the_weights_leaves_few_pages(tmp_path: Path) -> None:
    path, length = tmp_path.resolve() / "weights", 1 << 20
    with open(path, "wb") as sparse:
        sparse.truncate(4 * RESIDENT_BYTES)
    file = WeightFile(path)
    held = []
    for offset in range(0, 4 * RESIDENT_BYTES, 4 * length):
        held.append(view(file, offset, ir.DataType.FLOAT, (length,), mapped=True))
        assert not held[-1].any()
    assert 0 < resident(path) <= RESIDENT_BYTES + 8 * length
    file.release()
    assert resident(path) == 0
    assert not any(array.any() for array in held)  # what was handed out stays readable
    file.close()


def test_observation_feeds_one_buffer_of_zeros(tmp_path: Path) -> None:
    with open_model(save_bert(tmp_path / "bert.onnx", WIDE)) as source:
        model = source.model()
        normalise(model)
        outside = dict.fromkeys(model.graph)
        main = observe._main(model.graph, outside)
        _, zeros, _ = observe._instrumented(model, observe.shape_values(model.graph), *main)
    arrays = list(zeros.values())
    assert len(arrays) > 10
    assert all(np.shares_memory(arrays[0], array) for array in arrays)
    assert all(array.shape == tuple(model.graph.initializers[name].shape) for name, array in zeros.items())
    assert not any(array.any() for array in arrays)


def test_large_external_data_is_mapped_and_gives_the_same_outputs(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_model(beside) as source:
        loaded = Runner(source, str(beside))
        assert not loaded.is_mapped
        expected = loaded.run(FEEDS)
        loaded.close()
        monkeypatch.setattr(runner, "WHOLE_BYTES", beside.stat().st_size + 1)
        mapped = Runner(source, str(beside))
        assert mapped.is_mapped
        found = mapped.run(FEEDS)
        mapped.close()
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_onnxruntime_still_judges_where_large_external_data_lies(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[object, object]] = []
    session = runner.session

    def seen(model: str | bytes, **given: object) -> object:
        opened.append((model, given.get("folder")))
        return session(model, **given)

    monkeypatch.setattr(runner, "session", seen)
    monkeypatch.setattr(runner, "WHOLE_BYTES", beside.stat().st_size + 1)
    with open_model(beside) as source:
        Runner(source, str(beside)).close()
        placed = onnx.load_from_string(opened[0][0])
        assert opened[0][1] == str(beside.parent)
        assert len(placed.graph.initializer) == 1  # of the one data file
        elsewhere = beside.parent / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "beside.onnx").touch()
        with pytest.raises(Exception, match=r"beside\.onnx\.data"):
            Runner(source, str(elsewhere / "beside.onnx"))


@pytest.mark.parametrize("form", [{}, {"half": True}])
def test_the_random_llama_of_the_benchmark(form: dict[str, bool], tmp_path: Path) -> None:
    path = tmp_path / "llama.onnx"
    sizes = Sizes(hidden=48, heads=6, kv_heads=2, head_dim=8, intermediate=64, vocab=97)
    write_llama(path, 3, sizes=sizes, **form)
    report = verify_model(path)
    assert report.passed, report.checks
    assert report.layers == {"layers": 3}
    with open_model(path) as source:
        assert source.uses_external_data
    expected = {"hidden": 48, "heads": 6, "kv_heads": 2, "head_dim": 8, "intermediate": 64, "vocab": 97}
    assert {role: report.dims[role] for role in expected} == expected


def test_the_llama_without_bytes(tmp_path: Path) -> None:
    sizes = Sizes(hidden=48, heads=6, kv_heads=2, head_dim=8, intermediate=64, vocab=97)
    write_llama(tmp_path / "full.onnx", 2, sizes=sizes)
    write_llama(tmp_path / "holes.onnx", 2, sizes=sizes, sparse=True)
    full, holes = (tmp_path / f"{name}.onnx.data" for name in ("full", "holes"))
    assert holes.stat().st_size == full.stat().st_size
    assert not any(holes.read_bytes())
    with open_model(tmp_path / "holes.onnx") as source:
        assert source.find_nonfinite() is None
