"""Calibrated scales in files of older opsets, which have none by channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bot_onnx
from bot_onnx._quantise import raised as raised_module
from bot_onnx._runs.runtime import session
from bot_onnx._verify.runner import Runner
from bot_onnx.errors import DataError
from tests.graphs import GraphBuilder, save


def convolutions(opset: int, batch: int | str = "batch") -> onnx.ModelProto:
    b = GraphBuilder(4)
    x = "x"
    for inner, outer in ((2, 8), (8, 8)):
        x = b.op("Relu", b.op("Conv", x, b.weight(outer, inner, 3, 3), b.weight(outer), pads=[1, 1, 1, 1]))
    model = b.model([("x", [batch, 2, 6, 6])], [x], rank=4)
    model.opset_import[0].version = opset
    return model


def quantised(source: Path) -> tuple[tuple[str, ...], set[int], int]:
    """Notes, ranks of the scales of kernels, and the opset of a copy in calibrated int8 that is close to its source."""
    x = np.random.default_rng(0).standard_normal((8, 2, 6, 6)).astype(np.float32)
    packed = source.with_name("packed.onnx")
    np.savez(source.with_name("samples.npz"), x=x)
    done = bot_onnx.quantize(source, packed, to="int8", calibration=source.with_name("samples.npz"))
    onnx.checker.check_model(onnx.load(packed), full_check=True)
    wanted, found = (session(str(path)).run(None, {"x": x})[0] for path in (source, packed))
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.99
    model = onnx.load(packed)
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    scales = [node.input[1] for node in model.graph.node if len(shapes.get(node.input[0], ())) == 4]
    return done.notes, {len(shapes[name]) for name in scales}, model.opset_import[0].version


@pytest.mark.parametrize(("opset", "written"), [(9, 13), (11, 13), (12, 13), (13, 13), (17, 17)])
def test_every_channel_has_a_scale_whatever_the_opset(opset: int, written: int, tmp_path: Path) -> None:
    model = convolutions(opset)
    model.metadata_props.add(key="alphabet", value="abc")
    notes, ranks, found = quantised(save(model, tmp_path))
    assert (ranks, found) == ({1}, written)
    assert [note for note in notes if "Opset" in note] == (
        [f"Opset {opset} became 13, the first with a scale for every channel of a weight."] if opset < 13 else []
    )
    kept = {entry.key: entry.value for entry in onnx.load(tmp_path / "packed.onnx").metadata_props}
    assert kept["alphabet"] == "abc"


@pytest.mark.parametrize("way", ["cannot", "changes"])
def test_a_copy_of_a_newer_opset_must_compute_the_same(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
        if way == "cannot":
            raise RuntimeError("no adapter for this op")
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        changed.opset_import[0].version = opset
        del changed.graph.node[0].attribute[:]
        changed.graph.node[0].attribute.append(onnx.helper.make_attribute("auto_pad", "SAME_LOWER"))
        kernel = onnx.numpy_helper.to_array(changed.graph.initializer[0])
        changed.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(kernel * np.float32(1.001), kernel_name))
        return changed

    source = convolutions(12)
    kernel_name = source.graph.initializer[0].name
    monkeypatch.setattr(raised_module.version_converter, "convert_version", other)
    notes, ranks, found = quantised(save(source, tmp_path))
    why = {
        "cannot": "no adapter for this op",
        "changes": f"its output '{source.graph.output[0].name}' would be another",
    }
    assert (ranks, found) == ({0}, 12)
    assert any("one scale" in note and why[way] in note for note in notes)


def test_what_cannot_be_fed_its_weights_is_run_from_the_file_that_has_no_name_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some ops want their weights constant: the file itself is opened then, before it is given its name."""

    def refused(_runner: Runner) -> None:
        raise RuntimeError("must be a constant")

    monkeypatch.setattr(Runner, "_mapped", refused)
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).standard_normal((8, 2, 6, 6)).astype(np.float32))
    packed = tmp_path / "packed.onnx"
    bot_onnx.quantize(save(convolutions(17), tmp_path), packed, to="int8", calibration=tmp_path / "samples.npz")
    small = tmp_path / "small.onnx"
    bot_onnx.resize(packed, {"width": 0.5}, small, requantize=True)
    assert packed.stat().st_size and small.stat().st_size


@pytest.mark.parametrize("count", [0, 2, 5])
def test_a_fixed_batch_is_filled_up(count: int, tmp_path: Path) -> None:
    source, given, packed = save(convolutions(17, 4), tmp_path), tmp_path / "samples.npz", tmp_path / "packed.onnx"
    np.savez(given, x=np.random.default_rng(0).standard_normal((count, 2, 6, 6)).astype(np.float32))
    if not count:
        with pytest.raises(DataError, match="holds no samples"):
            bot_onnx.quantize(source, packed, to="int8", calibration=given)
        return
    scales = []
    for path in (source, save(convolutions(17), tmp_path, name="free.onnx")):
        done = bot_onnx.quantize(path, packed, to="int8", calibration=given, force=True)
        scales.append({one.name: numpy_helper.to_array(one) for one in onnx.load(packed).graph.initializer})
        assert f"{count} samples" in done.compared_on
        assert ("repeated" in done.compared_on) == (path == source)
    for name, scale in scales[0].items():
        np.testing.assert_allclose(scale, scales[1][name], rtol=1e-5)
