"""What a student learns from: arrays, text and images become inputs, and what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bot_onnx._onnxfile.input_overrides import InputSpec
from bot_onnx._recover.data import DataOptions, read_data
from bot_onnx._recover.dataset import Batches, Dataset, split
from bot_onnx.errors import DataError, RecoverError

INTS, FLOATS = np.dtype(np.int64), np.dtype(np.float32)
PICTURE = InputSpec("image", FLOATS, ("batch", 3, 4, 6))
TEXT = [InputSpec(name, INTS, ("batch", "tokens")) for name in ("input_ids", "attention_mask", "token_type_ids")]


def npz(path: Path, **arrays: NDArray[np.generic]) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path / "data.npz"


def read(path: Path, *specs: InputSpec, rows: dict[str, int] | None = None, **options: object) -> Dataset:
    return read_data(path, specs, DataOptions(**options), [], rows or {})  # type: ignore[arg-type]


def test_arrays_go_in_as_they_are_named(tmp_path: Path) -> None:
    images = np.arange(720, dtype=np.uint8).reshape(10, 3, 4, 6)
    data = read(
        npz(tmp_path, image=images, rate=np.float32(2), label=np.zeros(10)), PICTURE, InputSpec("rate", FLOATS, ())
    )
    assert len(data) == 10 and data.notes == ("arrays of data.npz that are no inputs: label",)
    feeds = data.feeds(np.array([3, 1]))
    assert feeds["image"].dtype == np.float32 and np.array_equal(feeds["image"], images[[3, 1]])
    assert feeds["rate"] == 2 and data.fixed == {"rate"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": np.zeros((9, 3, 4, 6), np.float32)}, "has no array 'image'"),
        ({"image": np.zeros((9, 3, 6, 6), np.float32)}, r"is \[9, 3, 6, 6\], and the model takes \['batch', 3, 4, 6\]"),
        ({"image": np.zeros((9, 3, 4, 6), complex)}, "is complex128, and the model takes float32"),
        ({"image": np.full((9, 3, 4, 6), np.nan, np.float32)}, "NaN or infinite"),
        ({"image": np.array(["a"], dtype=object)}, "no .npz file of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    arrays: dict[str, NDArray[np.generic]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read(npz(tmp_path, **arrays), PICTURE)


def test_ids_beyond_the_table_and_uneven_arrays_are_refused(tmp_path: Path) -> None:
    ids = np.full((9, 5), 7)
    with pytest.raises(DataError, match=r"from 7 to 7, and the model's table has 7 rows"):
        read(npz(tmp_path, input_ids=ids), TEXT[0], rows={"input_ids": 7})
    with pytest.raises(DataError, match=r"equally many samples: input_ids 9, attention_mask 8"):
        read(npz(tmp_path, input_ids=ids, attention_mask=ids[1:]), *TEXT[:2])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "one", "two", "three", "four"]
    tool = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tool.pre_tokenizer = pre_tokenizers.Whitespace()
    tool.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tool.save(str(path))
    return path


def lines(path: Path, *given: str) -> Path:
    (path / "lines.txt").write_text("\n".join(given) + "\n", encoding="utf-8")
    return path / "lines.txt"


def test_lines_become_padded_tokens(tokenizer: Path, tmp_path: Path) -> None:
    text = lines(tmp_path, "one two", "", "three", "one two three four one two")
    data = read(text, *TEXT, tokenizer=tokenizer, length=6)
    assert len(data) == 3 and data.mask == "attention_mask"
    feeds = data.feeds(np.array([0, 1]))  # cut to the longer of the two
    assert feeds["input_ids"].tolist() == [[2, 4, 5, 3], [2, 6, 3, 1]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert not feeds["token_type_ids"].any()
    assert data.feeds(np.array([2]))["input_ids"].tolist() == [[2, 4, 5, 6, 7, 3]]  # cut at six
    fixed = [InputSpec(spec.name, INTS, ("batch", 8)) for spec in TEXT]
    assert read(text, *fixed, tokenizer=tokenizer).feeds(np.array([1]))["input_ids"].shape == (1, 8)


def test_without_a_mask_text_is_cut_into_pieces(tokenizer: Path, tmp_path: Path) -> None:
    positions = InputSpec("position_ids", INTS, ("batch", "tokens"))
    data = read(lines(tmp_path, "one two three", "four one"), TEXT[0], positions, tokenizer=tokenizer, length=2)
    assert data.mask is None and data.arrays["input_ids"].tolist() == [[4, 5], [6, 7]]
    assert data.arrays["position_ids"].tolist() == [[0, 1], [0, 1]]


def test_text_that_cannot_be_read_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    text = lines(tmp_path, "one two")
    with pytest.raises(RecoverError, match=r"needs the model's tokenizer.*--tokenizer"):
        read(text, *TEXT)
    with pytest.raises(RecoverError, match="gives token 5, and the model knows 5"):
        read(text, *TEXT, tokenizer=tokenizer, rows={"input_ids": 5})
    with pytest.raises(RecoverError, match=r"input 'past_key' is not made from text.*\.npz"):
        read(text, *TEXT, InputSpec("past_key", FLOATS, ("batch", 2, "past", 4)), tokenizer=tokenizer)
    with pytest.raises(RecoverError, match="cannot be read as a tokenizer"):
        read(text, *TEXT, tokenizer=text)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(RecoverError, match=r"latin\.txt, line 1 is no UTF-8 text"):
        read(tmp_path / "latin.txt", *TEXT, tokenizer=tokenizer)
    with pytest.raises(RecoverError, match="there is no data at"):
        read(tmp_path / "missing", *TEXT)


def test_a_tokenizer_beside_the_model_is_found(tokenizer: Path, tmp_path: Path) -> None:
    model = tokenizer.with_name("model.onnx")
    assert len(read_data(lines(tmp_path, "one"), TEXT, DataOptions(), [model], {})) == 1


def picture(path: Path, size: tuple[int, int], left: int, right: int, mode: str = "RGB") -> None:
    from PIL import Image

    made = Image.new(mode, size, (left,) * 3 if mode == "RGB" else left)
    made.paste((right,) * 3 if mode == "RGB" else right, (size[0] // 2, 0, size[0], size[1]))
    path.parent.mkdir(exist_ok=True)
    made.save(path)


def test_images_are_scaled_cut_and_normalised(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "wide.png", (24, 8), 0, 255)
    picture(tmp_path / "b" / "plain.jpg", (6, 4), 255, 255)
    (tmp_path / "notes.txt").write_text("no image")
    data = read(tmp_path, PICTURE, mean=(0.5,), deviation=(0.25,))
    images = data.feeds(np.array([0, 1]))["image"]
    assert images.shape == (2, 3, 4, 6) and images.dtype == np.float32
    assert np.allclose(images[1], 2.0, atol=0.05)
    assert np.allclose(images[0, :, :, 0], -2, atol=0.2) and np.allclose(images[0, :, :, -1], 2, atol=0.2)
    last = InputSpec("image", FLOATS, ("batch", 4, 6, 3))
    assert np.allclose(
        read(tmp_path, last, mean=(0.5,), deviation=(0.25,)).feeds(np.array([0]))["image"],
        images[:1].transpose(0, 2, 3, 1),
    )
    whole = InputSpec("image", np.dtype(np.uint8), ("batch", 4, 6, 3))
    assert read(tmp_path, whole).feeds(np.array([1]))["image"].max() == 255


def test_grey_images_lie_between_minus_one_and_one(tmp_path: Path) -> None:
    picture(tmp_path / "digits" / "a.png", (8, 8), 0, 255, "L")
    values = read(tmp_path / "digits", InputSpec("image", FLOATS, ("batch", 1, 8, 8))).feeds(np.array([0]))["image"]
    assert (values.min(), values.max()) == (-1, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_images_of_sixteen_bits_are_those_of_eight(name: str, channels: int, tmp_path: Path) -> None:
    from PIL import Image

    grey = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    found = []
    for kind, scale in ((np.uint8, 1), (np.uint16, 257)):
        folder = tmp_path / str(scale)
        folder.mkdir()
        Image.fromarray(grey.astype(kind) * kind(scale)).save(folder / name)
        spec = InputSpec("image", np.dtype(np.uint8), ("batch", channels, 8, 8))
        found.append(read(folder, spec).feeds(np.array([0]))["image"])
    np.testing.assert_array_equal(*found)
    assert np.array_equal(found[0][0, 0], grey)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_images_of_thirty_two_bits_are_refused(kind: type, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((8, 8), 7, kind)).save(tmp_path / "a.tif")
    with pytest.raises(RecoverError, match=r"a\.tif has 32 bits a pixel"):
        read(tmp_path, InputSpec("image", FLOATS, ("batch", 3, 8, 8)))


def test_images_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecoverError, match="takes images of any size: say which with --image-size"):
        read(tmp_path, InputSpec("image", FLOATS, ("batch", 3, "height", "width")))
    with pytest.raises(RecoverError, match="one input of four axes, and the model takes input_ids"):
        read(tmp_path, TEXT[0])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(RecoverError, match=r"broken\.png cannot be read as an image"):
        read(tmp_path, PICTURE)


def test_the_split_is_whole_and_too_few_samples_are_refused() -> None:
    training, held = split(50, 0.1, 0)
    assert len(held) == 5 and sorted([*training, *held]) == list(range(50))
    assert not np.array_equal(split(50, 0.1, 1)[1], held)
    with pytest.raises(RecoverError, match="hold 7 samples; at least 8"):
        split(7, 0.1, 0)


@pytest.mark.parametrize("lengths", [None, np.arange(100) % 13])
def test_every_epoch_goes_through_all_samples_in_an_order_of_its_own(lengths: NDArray[np.int64] | None) -> None:
    batches = Batches(np.arange(96), 8, 0, None, lengths)
    epochs = [[batches.at(step) for step in range(start, start + 12)] for start in (0, 12)]
    assert all(sorted(np.concatenate(epoch)) == list(range(96)) for epoch in epochs)
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))
    assert np.array_equal(Batches(np.arange(96), 8, 0, None, lengths).at(17), epochs[1][5])
    if lengths is not None:
        spread = [float(np.ptp(lengths[chosen])) for epoch in epochs for chosen in epoch]
        assert np.mean(spread) <= 2  # 12 without the sorting
