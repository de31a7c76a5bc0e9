"""Text to learn from, and documents whose likeness people judged; nothing of the one is in the other.

Text comes from Debian packages (see :mod:`benchmarks.transfer.corpora`), the Lee documents and their human similarities
from the test data of gensim's wheel (it is not installed).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.environment import cache_folder
from bot_onnx._runs.runtime import session

GENSIM = "gensim==4.4.0"
GLOSSES, PARAGRAPHS = 40_000, 10_000  # lines of WordNet and of Python's documentation
LEE_TOKENS = 256  # as the model's publisher cuts


def gensim_data(cache: Path) -> Path:
    """Folder with the Lee documents, from gensim's wheel."""
    folder = cache / "gensim"
    if not (folder / "lee.cor").exists():
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", GENSIM, "-d", scratch]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
                for name in ("lee_background.cor", "similarities0-1.txt", "lee.cor"):
                    (folder / name).write_bytes(wheel.read(f"gensim/test/test_data/{name}"))
    return folder


def text_of(cache: Path) -> tuple[Path, Path]:
    """The folder with the Lee documents, and the text to learn from."""
    lee, text = gensim_data(cache), cache / "text.txt"
    if not text.exists():
        write_text(text, lee)
    return lee, text


def write_text(path: Path, lee: Path) -> None:
    """Text to learn from: glosses (one to three a line), paragraphs, and the Lee *background* documents.

    None of the fifty documents that are measured is among them.
    """
    from benchmarks.transfer.corpora import _documents

    rng = np.random.default_rng(0)
    documents = _documents(cache_folder("transfer"))
    paragraphs, glosses = [], []
    for document in documents:
        if document.count("\n") == 199 and "\n\n" not in document:
            glosses += document.split("\n")
        else:
            paragraphs += [" ".join(part.split()) for part in re.split(r"\n\s*\n", document)]
    prose = [line for line in paragraphs if 40 <= len(line) <= 600 and _letters(line) > 0.85]
    lines = [prose[place] for place in rng.permutation(len(prose))[:PARAGRAPHS]]
    order, place = rng.permutation(len(glosses)), 0
    for count in rng.integers(1, 4, GLOSSES):
        lines.append("; ".join(glosses[number] for number in order[place : place + count]))
        place = (place + count) % (len(order) - 3)
    measured = set(lee.joinpath("lee.cor").read_text("latin-1").splitlines())
    news = [
        text for text in lee.joinpath("lee_background.cor").read_text("latin-1").splitlines() if text not in measured
    ]
    for text in news:
        if text in measured:
            continue
        sentences = re.split(r"(?<=[.!?]) ", text)
        lines += [
            " ".join(sentences[start : start + count])
            for count in (1, 2, 4)
            for start in range(0, len(sentences), count)
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _letters(text: str) -> float:
    return sum(char.isalpha() or char == " " for char in text) / len(text)


def lee_correlation(model: Path, tokenizer: Path, lee: Path) -> float:
    """Correlation of the model's similarities with people's, over all pairs of the fifty documents."""
    from tokenizers import Tokenizer

    tool = Tokenizer.from_file(str(tokenizer))
    tool.no_padding()
    tool.enable_truncation(LEE_TOKENS)
    runner = session(str(model), optimise=True)
    vectors = []
    for text in lee.joinpath("lee.cor").read_text("latin-1").splitlines():
        ids = np.array([tool.encode(text).ids])
        made = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        feeds = {port.name: made[port.name] for port in runner.get_inputs()}
        vectors.append(runner.run(["last_hidden_state"], feeds)[0][0].mean(0))
    unit = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    people = np.loadtxt(lee / "similarities0-1.txt")
    pairs = np.triu_indices(len(unit), 1)
    return float(np.corrcoef((unit @ unit.T)[pairs], people[pairs])[0, 1])
