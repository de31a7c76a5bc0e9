"""Images as a model's preprocessor_config.json has them, sounds at its rate."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.data import DataOptions, read_data
from bot_onnx._recover.dataset import Dataset
from bot_onnx._recover.extras import import_torchvision
from bot_onnx.errors import RecoverError

FLOATS, INTS = np.dtype(np.float32), np.dtype(np.int64)
PICTURE = InputSpec("pixel_values", FLOATS, ("batch", 3, 8, 8))
OPEN = InputSpec("pixel_values", FLOATS, ("batch", 3, "height", "width"))
SOUND = InputSpec("input_values", FLOATS, ("batch", "samples"))
MASK = InputSpec("attention_mask", INTS, ("batch", "samples"))
VIT = {
    "do_resize": True, "do_rescale": True, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2], "resample": 2, "rescale_factor": 1 / 255, "size": {"height": 8, "width": 8},
}  # fmt: skip
CLIP = {**VIT, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}, "size": {"shortest_edge": 12}}


def read(path: Path, *specs: InputSpec, beside: Path | None = None, **options: Any) -> Dataset:
    return read_data(path, specs, DataOptions(**options), [] if beside is None else [beside], {})


def photo(folder: Path, width: int = 30, height: int = 20) -> NDArray[np.uint8]:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return pixels


def config(folder: Path, told: dict[str, Any]) -> Path:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(told))
    return path


def by_hand(pixels: NDArray[np.uint8], size: tuple[int, int], resample: int = 2) -> NDArray[np.float64]:
    """Resized to (height, width), and normalised as ``VIT`` says."""
    from PIL import Image

    made = np.asarray(Image.fromarray(pixels).resize(size[::-1], resample), np.float64) / 255
    return (made - VIT["image_mean"]) / np.array(VIT["image_std"])


def test_the_config_beside_the_model_says_all(tmp_path: Path) -> None:
    pixels = photo(tmp_path / "photos")
    (tmp_path / "model").mkdir()
    config(tmp_path / "model", VIT)
    data = read(tmp_path / "photos", PICTURE, beside=tmp_path / "model" / "model.onnx")
    made = data.feeds(np.array([0]))["pixel_values"][0]
    np.testing.assert_allclose(made, by_hand(pixels, (8, 8)).transpose(2, 0, 1), atol=1e-6)
    assert "preprocessor_config.json says" in data.notes[0] and data.told["preparing"][0] == "exact"


@pytest.mark.parametrize("turned", [False, True])
def test_the_shorter_side_and_the_middle(turned: bool, tmp_path: Path) -> None:
    pixels = photo(tmp_path / "photos", *((20, 30) if turned else (30, 20)))
    way = config(tmp_path, {**CLIP, "resample": 3})
    made = read(tmp_path / "photos", PICTURE, preprocessor=way).feeds(np.array([0]))["pixel_values"][0]
    whole = by_hand(pixels, (18, 12) if turned else (12, 18), 3)
    middle = whole[5:13, 2:10] if turned else whole[2:10, 5:13]
    np.testing.assert_allclose(made, middle.transpose(2, 0, 1), atol=1e-6)


def test_steps_that_are_off_numbers_that_are_given_and_open_sizes(tmp_path: Path) -> None:
    pixels = photo(tmp_path / "photos", 8, 8)
    bare = config(tmp_path, {**VIT, "do_resize": False, "do_normalize": False, "do_rescale": False})
    made = read(tmp_path / "photos", PICTURE, preprocessor=bare).feeds(np.array([0]))["pixel_values"][0]
    assert np.array_equal(made, pixels.transpose(2, 0, 1))
    turned = config(tmp_path, {**VIT, "do_normalize": False, "do_flip_channel_order": True, "rescale_factor": 0.5})
    made = read(tmp_path / "photos", OPEN, preprocessor=turned).feeds(np.array([0]))["pixel_values"][0]
    assert np.array_equal(made, pixels[..., ::-1].transpose(2, 0, 1) * 0.5)
    own = config(tmp_path, VIT)
    made = read(tmp_path / "photos", PICTURE, preprocessor=own, mean=(0.0,), deviation=(1.0,)).feeds(np.array([0]))
    np.testing.assert_allclose(made["pixel_values"][0], pixels.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({**VIT, "do_pad": True}, "asks for 'do_pad', which is not known"),
        ({**VIT, "size": {"height": 9, "width": 9}}, "makes images 9 x 9, and the model takes 8 x 8"),
        ({**VIT, "size": {"longest_edge": 9}}, "has the size .*longest_edge"),
        ({**CLIP, "size": 12}, "has the size 12, of which it is not known"),
        ({**VIT, "crop_pct": 0.9}, "and a crop_pct"),
        ({**VIT, "resample": "bicubic"}, r"has the filter \(resample\) 'bicubic'"),
        ({**CLIP, "crop_size": {"height": 20, "width": 20}}, "makes images 20 x 20"),
        ({**VIT, "image_mean": "grey"}, "has the image_mean 'grey'"),
        ({**VIT, "size": {"shortest_edge": 8}}, "makes images of any"),
    ],
)
def test_what_a_config_asks_and_is_not_known_is_refused(told: dict[str, Any], message: str, tmp_path: Path) -> None:
    photo(tmp_path / "photos")
    with pytest.raises(RecoverError, match=message):
        read(tmp_path / "photos", PICTURE, preprocessor=config(tmp_path, told))


def test_images_that_are_too_small_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "photos", 4, 4)
    with pytest.raises(RecoverError, match=r"a\.png is 4 x 4 where 8 x 8 are cut out"):
        read(tmp_path / "photos", PICTURE, preprocessor=config(tmp_path, {**VIT, "do_resize": False}))
    (tmp_path / "preprocessor_config.json").write_text("[")
    with pytest.raises(RecoverError, match=r"preprocessor_config\.json cannot be read"):
        read(tmp_path / "photos", PICTURE, preprocessor=tmp_path / "preprocessor_config.json")


@pytest.mark.exporter
@pytest.mark.parametrize("told", [VIT, CLIP], ids=["vit", "clip"])
def test_as_transformers_does_it(told: dict[str, Any], tmp_path: Path) -> None:
    import_torchvision()  # which transformers imports
    transformers = pytest.importorskip("transformers")
    kind = "CLIPImageProcessor" if "crop_size" in told else "ViTImageProcessor"
    maker = getattr(transformers, f"{kind}Pil", None)
    if maker is None:
        pytest.skip("this version resizes with torchvision alone, which rounds otherwise")
    pixels = photo(tmp_path / "photos")
    wanted = maker(**told)(pixels, return_tensors="np")["pixel_values"][0]
    made = read(tmp_path / "photos", PICTURE, preprocessor=config(tmp_path, told)).feeds(np.array([0]))
    np.testing.assert_allclose(made["pixel_values"][0], wanted, atol=1e-5)


# -- sounds ------------------------------------------------------------------------------------------------------------

WAVES = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "feature_size": 1, "sampling_rate": 10}


def sound(path: Path, values: list[float], *, rate: int = 10, width: int = 2, channels: int = 1) -> Path:
    path.parent.mkdir(exist_ok=True)
    numbers = np.round(np.array(values) * 2 ** (8 * width - 1)).astype(np.int64)
    raw = (numbers + 128 if width == 1 else numbers).astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_waveforms_are_cut_into_samples(width: int, tmp_path: Path) -> None:
    values = [0.0, 0.5, -0.5, 0.25, -1.0, 0.75, 0.125]
    sound(tmp_path / "sounds" / "a.wav", values, width=width)
    way = config(tmp_path, {**WAVES, "do_normalize": False})
    data = read(tmp_path / "sounds", SOUND, preprocessor=way, seconds=0.3)
    assert len(data) == 2  # three numbers each; the seventh fills none
    np.testing.assert_allclose(data.feeds(np.array([0, 1]))["input_values"], [values[:3], values[3:6]], atol=1e-7)
    masked = read(tmp_path / "sounds", SOUND, MASK, preprocessor=way, seconds=0.3)
    feeds = masked.feeds(np.array([0, 2]))
    np.testing.assert_allclose(feeds["input_values"], [values[:3], [0.125, 0, 0]], atol=1e-7)
    assert feeds["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    fixed = InputSpec("input_values", FLOATS, ("batch", 7))
    assert read(tmp_path / "sounds", fixed, preprocessor=way).feeds(np.array([0]))["input_values"].shape == (1, 7)


def test_samples_are_normalised_as_the_config_says(tmp_path: Path) -> None:
    values = [0.0, 0.5, -0.5, 0.25]
    sound(tmp_path / "sounds" / "a.wav", values)
    made = read(tmp_path / "sounds", SOUND, preprocessor=config(tmp_path, WAVES), seconds=0.4).feeds(np.array([0]))
    wanted = (np.array(values) - np.mean(values)) / np.sqrt(np.var(values) + 1e-7)
    np.testing.assert_allclose(made["input_values"][0], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("made", "told", "message"),
    [
        ({"rate": 8}, WAVES, r"a\.wav has 8 numbers a second, and the model takes 10: resample it"),
        ({"channels": 2}, WAVES, r"a\.wav has 2 channels"),
        ({}, {**WAVES, "feature_size": 80}, "makes no waveforms .* own processor, as an .npz"),
        ({}, {**WAVES, "feature_extractor_type": "WhisperFeatureExtractor"}, "makes no waveforms"),
        ({}, {"feature_size": 1}, "says of no 'sampling_rate'"),
    ],
)
def test_sounds_that_do_not_fit_are_named(
    made: dict[str, Any], told: dict[str, Any], message: str, tmp_path: Path
) -> None:
    sound(tmp_path / "sounds" / "a.wav", [0.0, 0.5, 0.0, 0.5], **made)
    with pytest.raises(RecoverError, match=message):
        read(tmp_path / "sounds", SOUND, preprocessor=config(tmp_path, told))


def test_sounds_for_another_model_and_other_formats(tmp_path: Path) -> None:
    sound(tmp_path / "sounds" / "a.wav", [0.0, 0.5])
    with pytest.raises(RecoverError, match="which says their rate: name it with --preprocessor"):
        read(tmp_path / "sounds", SOUND)
    spectra = InputSpec("input_features", FLOATS, ("batch", 80, 3000))
    with pytest.raises(RecoverError, match=r"sounds go into one input \[batch, samples\]"):
        read(tmp_path / "sounds", spectra, preprocessor=config(tmp_path, WAVES))
    (tmp_path / "sounds" / "b.wav").write_bytes(b"RIFF broken")
    with pytest.raises(RecoverError, match=r"b\.wav cannot be read as PCM"):
        read(tmp_path / "sounds", SOUND, preprocessor=config(tmp_path, WAVES))
    (tmp_path / "sounds" / "c.flac").write_bytes(b"fLaC")
    with pytest.raises(RecoverError, match=r"c\.flac is no WAV file"):
        read(tmp_path / "sounds", SOUND, preprocessor=config(tmp_path, WAVES))
