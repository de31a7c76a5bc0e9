"""The parts of the benchmarks that everything measured rests on: generator, baseline, timing."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import pywt
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks import analysis, baseline_resample, synthetic, whole_command

SMALL = replace(synthetic.NARROW, layers=4)
HALF = replace(SMALL, layers=2, hidden=32, heads=2, intermediate=128)


def arrays(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_bert_is_valid_and_runs_at_any_batch_and_sequence() -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = synthetic.bert(SMALL)
    onnx.checker.check_model(model, full_check=True)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, sequence in ((1, 3), (2, 7)):
        ids = np.ones((batch, sequence), dtype=np.int64)
        hidden, pooled = session.run(None, {value.name: ids for value in model.graph.input})
        assert hidden.shape == (batch, sequence, SMALL.hidden)
        assert pooled.shape == (batch, SMALL.hidden)
        assert np.isfinite(hidden).all()


def test_bert_attends_to_unmasked_tokens_only() -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(synthetic.bert(SMALL).SerializeToString(), providers=["CPUExecutionProvider"])
    mask, types = np.array([[1, 1, 1, 0]]), np.zeros((1, 4), dtype=np.int64)

    def hidden(*ids: int) -> NDArray[np.float32]:
        feeds = {"input_ids": np.array([ids]), "attention_mask": mask, "token_type_ids": types}
        result: NDArray[np.float32] = session.run(["last_hidden_state"], feeds)[0]
        return result

    first = hidden(5, 6, 7, 8)
    np.testing.assert_array_equal(first[:, :3], hidden(5, 6, 7, 9)[:, :3])
    assert np.abs(first[:, 0] - hidden(5, 6, 4, 8)[:, 0]).max() > 0


def test_bert_names_are_unique_and_weights_seeded() -> None:
    model = synthetic.bert(SMALL)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert synthetic.bert(SMALL).SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)
    other = arrays(synthetic.bert(replace(SMALL, seed=1)))
    assert not np.array_equal(other["pooler.dense.weight"], arrays(model)["pooler.dense.weight"])
    assert SMALL.name != replace(SMALL, seed=1).name


def test_bert_layers_add_the_same_nodes_each() -> None:
    kinds = [Counter(n.op_type for n in synthetic.bert(replace(SMALL, layers=k)).graph.node) for k in (1, 2, 3)]
    assert kinds[1] - kinds[0] == kinds[2] - kinds[1]
    assert (kinds[1] - kinds[0])["Softmax"] == 1


def test_bert_refuses_heads_that_do_not_divide_hidden() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        synthetic.bert(replace(SMALL, heads=5))


def test_bert_base_has_the_published_number_of_parameters() -> None:
    # The formula is checked against a small model, then applied to the large one, which is slow to build.
    hidden, wide = SMALL.hidden, SMALL.intermediate
    layer = 4 * hidden * hidden + 2 * hidden * wide + 9 * hidden + wide
    tables = (SMALL.vocab + SMALL.positions + SMALL.token_types + 2) * hidden
    pooler = hidden * hidden + hidden
    counted = sum(array.size for array in arrays(synthetic.bert(SMALL)).values() if array.dtype == np.float32)
    assert counted == SMALL.layers * layer + tables + pooler
    base = synthetic.BERT_BASE
    layer = 4 * base.hidden**2 + 2 * base.hidden * base.intermediate + 9 * base.hidden + base.intermediate
    tables = (base.vocab + base.positions + base.token_types + 2) * base.hidden
    assert base.layers * layer + tables + base.hidden**2 + base.hidden == 109_482_240


@pytest.mark.parametrize("target", [300, 1_200, 2_500])
def test_with_nodes_comes_near(target: int) -> None:
    assert len(synthetic.with_nodes(target).graph.node) == pytest.approx(target, rel=0.05)


def test_cached_writes_once_and_whole(tmp_path: Path) -> None:
    path = synthetic.cached(SMALL, tmp_path / "cache")
    stamp = path.stat().st_mtime_ns
    assert synthetic.cached(SMALL, tmp_path / "cache") == path
    assert path.stat().st_mtime_ns == stamp
    assert [entry.name for entry in path.parent.iterdir()] == [f"{SMALL.name}.onnx"]
    assert onnx.load(path) == synthetic.bert(SMALL)


def test_baseline_writes_the_weights_of_the_half_size_model(tmp_path: Path) -> None:
    source, target = synthetic.cached(SMALL, tmp_path), tmp_path / "out.onnx"
    whole_command.run_once([sys.executable, str(whole_command.BASELINE), str(source), str(target)])
    written, expected = arrays(onnx.load(target)), arrays(synthetic.bert(HALF))
    assert sorted(a.shape for a in written.values()) == sorted(a.shape for a in expected.values())


def test_baseline_keeps_the_low_band_of_the_stack() -> None:
    model = synthetic.bert(SMALL)
    name = "encoder.layer.{}.intermediate.dense.bias"
    stack = np.stack([arrays(model)[name.format(layer)] for layer in range(SMALL.layers)])
    low, _ = pywt.dwt(pywt.dwt(stack, "haar", mode="periodization", axis=0)[0], "haar", mode="periodization", axis=1)
    baseline_resample.resample(model)
    written = arrays(model)
    assert name.format(2) not in written
    for layer in range(HALF.layers):
        np.testing.assert_allclose(written[name.format(layer)], low[layer], rtol=1e-5, atol=1e-7)


def test_run_once_measures_time_and_memory() -> None:
    held = b"x" * 700_000_000  # what the process that measures has held is none of a command's
    del held
    busy_code = "import time; block = b'x' * 400_000_000; time.sleep(0.3)"
    quiet, busy = (whole_command.run_once([sys.executable, "-c", code]) for code in ("pass", busy_code))
    assert busy.seconds >= 0.3
    assert 400e6 <= busy.peak_bytes < 500e6
    assert quiet.peak_bytes < 200e6
    assert quiet.cpu_seconds > 0


def test_failed_commands_say_what_they_said(tmp_path: Path) -> None:
    with pytest.raises(whole_command.CommandError, match=r"exit code 3\s+no such spec"):
        whole_command.run_once([sys.executable, "-c", "import sys; print('no such spec'); sys.exit(3)"])
    with pytest.raises(whole_command.CommandError, match="could not be started"):
        whole_command.run_once([str(tmp_path / "missing")])
    with pytest.raises(whole_command.CommandError, match="did not write"):
        whole_command.measure({"silent": ([sys.executable, "-c", "pass"], tmp_path / "out")}, 1)


def test_measure_leaves_the_warm_up_out_and_alternates(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write = "import sys; open(sys.argv[1], 'w').write('abc'); open(sys.argv[2], 'a').write(sys.argv[3])"
    commands = {
        label: ([sys.executable, "-c", write, str(tmp_path / label), str(log), label], tmp_path / label)
        for label in ("a", "b")
    }
    first, second = whole_command.measure(commands, 2)
    assert log.read_text() == "ababab"
    assert (len(first.runs), len(second.runs)) == (2, 2)
    assert first.output_bytes == 3
    document = json.loads(json.dumps(whole_command.as_json([first, second], tmp_path / "a")))
    assert document["commands"][0]["median_seconds"] == first.seconds
    assert whole_command.table([first, second], tmp_path / "a").row_count == 2


def test_growth_finds_the_exponent() -> None:
    timings = [analysis.Timing(n, 0, (1e-6 * n**1.5, 9.0, 0.0), (1.0,)) for n in (300, 1_200, 5_000)]
    assert analysis.growth(timings) == pytest.approx(1.5)
    assert timings[0].microseconds_per_node == pytest.approx(300**0.5)
    assert analysis.as_json(timings)["growth_exponent"] == pytest.approx(1.5)


def test_alternate_takes_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    times = analysis.alternate((lambda: calls.append("a"), lambda: calls.append("b")), runs=3)
    assert calls == ["a", "b"] * 4
    assert [len(each) for each in times] == [3, 3]
    assert all(second >= 0 for each in times for second in each)
