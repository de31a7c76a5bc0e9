"""Calibration: on samples the basis is that of the stream, so that what these samples never use is what goes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

import bot_onnx
from bot_onnx._align import find_facts
from bot_onnx._analysis.passes import analyse
from bot_onnx._cli.app import cli
from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._runs.runtime import session
from bot_onnx._runs.sample_arrays import Samples, read_samples, samples_for
from bot_onnx.demo import held_out, model_file
from bot_onnx.errors import BotError, DataError, ResampleError
from tests.graphs import GraphBuilder, residual_mlp_model, save

HIDDEN, INNER, FIRING = 16, 24, 2


def half_asleep(dtype: type[np.floating] = np.float32) -> onnx.ModelProto:
    """Pre-norm layers whose largest writers belong to neurons that never fire: only the weights know of them."""
    b, rng = GraphBuilder(), np.random.default_rng(3)
    ones, nothing = (b.constant(np.full(HIDDEN, value, dtype)) for value in (1, 0))

    def weight(*shape: int) -> NDArray[np.floating]:
        return (rng.standard_normal(shape) * 0.3).astype(dtype)

    x = b.op("MatMul", "x", b.constant(weight(3, HIDDEN)))
    for _ in range(3):
        normed = b.op("LayerNormalization", x, ones, nothing)
        bias, writer = np.full(INNER, -100, dtype), weight(INNER, HIDDEN) * 20
        bias[:FIRING], writer[:FIRING] = 0.5, writer[:FIRING] / 20
        inside = b.op("Add", b.op("MatMul", normed, b.constant(weight(HIDDEN, INNER))), b.constant(bias))
        x = b.op("Add", x, b.op("MatMul", b.op("Relu", inside), b.constant(writer)))
    normed = b.op("LayerNormalization", x, ones, nothing)
    logits = b.op("Add", b.op("MatMul", normed, b.constant(weight(HIDDEN, 5))), b.constant(np.zeros(5, dtype)))
    return b.model([("x", ["batch", "sequence", 3])], [logits], rank=3)


def samples(folder: Path, **arrays: NDArray[np.generic]) -> Path:
    path = folder / "samples.npz"
    np.savez(path, **(arrays or {"x": np.random.default_rng(0).standard_normal((10, 7, 3)).astype(np.float32)}))
    return path


def outputs(path: Path) -> NDArray[np.float32]:
    x = np.random.default_rng(1).standard_normal((2, 9, 3)).astype(np.float32)
    return np.asarray(session(str(path)).run(None, {"x": x})[0])


def test_what_the_samples_use_is_kept(tmp_path: Path) -> None:
    """Three inputs and two firing neurons a layer span 9 directions; 10 channels hold them, less their mean."""
    source, given, spec = save(half_asleep(), tmp_path), samples(tmp_path), {"hidden": 10, "intermediate": INNER}
    by_weights, by_samples = tmp_path / "weights.onnx", tmp_path / "samples.onnx"
    bot_onnx.resize(source, spec, by_weights, align="rotate")
    result = bot_onnx.resize(source, spec, by_samples, align="rotate", calibration=given)
    wanted = outputs(source)
    scale = np.abs(wanted).max()
    assert np.abs(outputs(by_samples) - wanted).max() < 1e-4 * scale
    assert np.abs(outputs(by_weights) - wanted).max() > 0.1 * scale
    assert "the basis is that of the stream on 10 samples" in result.plan.notes


def test_moments_are_those_of_the_normalised_stream(tmp_path: Path) -> None:
    source, given = save(half_asleep(), tmp_path), samples(tmp_path)
    with open_model(source) as opened:
        analysis = analyse(opened.model())
        facts = find_facts(analysis, samples_for(analysis.model, given))
        assert facts.calibration is not None
        tensors = {n: v.const_value for n, v in analysis.model.graph.initializers.items()}
        found = facts.calibration.moments(tensors, lambda _: None)
    model = onnx.load(source)
    norms = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in norms)
    with np.load(given) as archive:
        normed = session(model.SerializeToString()).run(None, dict(archive))
    rows = [part.reshape(-1, HIDDEN) / np.sqrt(HIDDEN) for part in normed]  # scale 1, bias 0: of length √hidden
    np.testing.assert_allclose(found, sum(part.T @ part for part in rows), atol=1e-3 * found.max())


def test_the_command_says_so_and_the_file_records_it(tmp_path: Path) -> None:
    digits = held_out().feeds()
    given = samples(tmp_path, **{name: array[:50] for name, array in digits.items()})
    with model_file() as model:
        written = []
        for name in ("once.onnx", "again.onnx"):
            arguments = [str(model), "--hidden", "32", "--calibration", str(given), "-o", str(tmp_path / name)]
            result = CliRunner().invoke(cli, ["resize", *arguments, "--json"])
            assert result.exit_code == 0, result.stderr
            notes = json.loads(result.stdout)["plan"]["notes"]
            assert "the basis is that of the stream on 50 samples" in notes
            written.append((tmp_path / name).read_bytes())
        dry = CliRunner().invoke(cli, ["resize", *arguments[:-1], str(tmp_path / "dry.onnx"), "--dry-run"])
        assert dry.exit_code == 0 and "50 samples" in dry.stdout and not (tmp_path / "dry.onnx").exists()
    assert written[0] == written[1]
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "once.onnx").metadata_props}
    assert any("calibration_sha256" in value for value in properties.values())


@pytest.mark.parametrize(
    ("spec", "align", "message"),
    [
        ({"hidden": 8}, "none", "here they would say nothing: alignment .none. does not look"),
        ({"hidden": 32}, None, "here they would say nothing"),
        ({"intermediate": 12}, "permute", "here they would say nothing: alignment 'permute' does not look"),
    ],
)
def test_samples_that_nothing_would_be_done_with_are_refused(
    spec: dict[str, int], align: bot_onnx._align.Kind | None, message: str, tmp_path: Path
) -> None:
    source, out = save(residual_mlp_model(hidden=16), tmp_path), tmp_path / "out.onnx"
    given = samples(tmp_path, x=np.ones((3, 4), np.float32))
    with pytest.raises(ResampleError, match=message):
        bot_onnx.resize(source, spec, out, align=align, calibration=given)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.ones((3, 7, 3), np.float32)}, "has no array 'x'"),
        ({"x": np.ones((3, 7, 4), np.float32)}, r"is \[3, 7, 4\], and the model takes"),
        ({"x": np.zeros((0, 7, 3), np.float32)}, "holds no samples"),
        ({"x": np.zeros((5, 0, 3), np.float32)}, "too few of them|does not run"),
    ],
)
def test_samples_that_do_not_suit_are_refused(
    arrays: dict[str, NDArray[np.generic]], message: str, tmp_path: Path
) -> None:
    source, out = save(half_asleep(), tmp_path), tmp_path / "out.onnx"
    with pytest.raises(DataError, match=message):
        bot_onnx.resize(source, {"hidden": 10}, out, calibration=samples(tmp_path, **arrays))
    with pytest.raises(BotError, match=r"there is no file .*nothing\.npz"):
        bot_onnx.resize(source, {"hidden": 10}, out, calibration=tmp_path / "nothing.npz")
    assert not out.exists()


def test_a_fixed_number_of_samples_at_a_time(tmp_path: Path) -> None:
    path = samples(tmp_path, x=np.arange(14, dtype=np.float32).reshape(7, 2), rate=np.float32(3))
    specs = [InputSpec("x", np.dtype(np.float32), (3, 2)), InputSpec("rate", np.dtype(np.float32), ())]
    fixed = read_samples(path, specs)
    assert [batch["x"][:, 0].tolist() for batch in fixed.batches(2)] == [[0, 2, 4], [6, 8, 10], [12, 12, 12]]
    assert all(batch["rate"] == 3 for batch in fixed.batches(2))
    shares = [(share, batch["x"][:, 0].tolist()) for share, batch in fixed.weighed(2)]
    assert shares == [(1, [0, 2, 4]), (1, [6, 8, 10]), (1 / 3, [12, 12, 12])]
    assert [share for share, _ in fixed.weighed(1, alone=True)] == [1 / 3] * 7
    free = Samples(fixed.arrays, fixed.constant)
    assert [len(batch["x"]) for batch in free.batches(2)] == [2, 2, 2, 1]
    assert [(share, len(batch["x"])) for share, batch in free.weighed(2)] == [(1, 2), (1, 2), (1, 2), (1, 1)]
    assert free.digest() == fixed.digest() != Samples({"x": fixed.arrays["x"] + 1}, fixed.constant).digest()
