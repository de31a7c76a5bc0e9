"""What the networks learn: English text (Python's documentation and WordNet's glosses) and Fashion-MNIST.

All of it comes as Debian packages; they are fetched with apt and unpacked into the cache, not installed.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

PACKAGES = ("python3.11-doc", "wordnet-base", "dataset-fashion-mnist")
VOCAB = 1024  # of which the last is the mask
MASK = VOCAB - 1
PATCH = 4


class MissingDataError(Exception):
    """A package could not be fetched; the message says how to put it in place by hand."""


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens in order: int64 ``[n]`` each."""

    training: torch.Tensor
    validation: torch.Tensor


@dataclass(frozen=True, slots=True)
class Images:
    """Patches ``[n, 49, 16]`` float32 with mean 0 and deviation 1 over the training part, labels int64 ``[n]``."""

    training: torch.Tensor
    training_labels: torch.Tensor
    validation: torch.Tensor
    validation_labels: torch.Tensor


def unpacked(package: str, cache: Path) -> Path:
    """Folder of an unpacked Debian package, fetched on the first call.

    Raises:
        MissingDataError: apt does not find it.
    """
    folder = cache / "packages" / package
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        try:
            subprocess.run(["apt-get", "download", package], cwd=scratch, check=True, capture_output=True, text=True)
            (archive,) = Path(scratch).glob("*.deb")
            subprocess.run(["dpkg", "-x", str(archive), f"{scratch}/files"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise MissingDataError(f"'apt-get download {package}' failed: unpack it into {folder} by hand") from error
        (Path(scratch) / "files").rename(folder)
    return folder


def text(cache: Path) -> Text:
    """The text in tokens of a byte-level BPE of :data:`VOCAB` entries; every twentieth document is for validation."""
    stored = cache / f"text-{VOCAB}.pt"
    if not stored.exists():
        documents = _documents(cache)
        held = documents[::20]
        learnt = [document for index, document in enumerate(documents) if index % 20]
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=VOCAB - 1, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(learnt, trainer)
        parts = [
            torch.tensor([token for document in part for token in tokenizer.encode(document).ids], dtype=torch.int64)
            for part in (learnt, held)
        ]
        scratch = stored.with_suffix(".part")
        torch.save(parts, scratch)
        scratch.replace(stored)
    training, validation = torch.load(stored)
    return Text(training, validation)


def _documents(cache: Path) -> list[str]:
    """Pages of the documentation, and WordNet's glosses in documents of 200."""
    pages = sorted((unpacked("python3.11-doc", cache)).rglob("*.rst.txt"))
    documents = [page.read_text(encoding="utf-8", errors="replace") for page in pages]
    glosses: list[str] = []
    for name in ("adj", "adv", "noun", "verb"):
        lines = (unpacked("wordnet-base", cache) / f"usr/share/wordnet/data.{name}").read_text("latin-1").splitlines()
        glosses += [line.split("|", 1)[1].strip() for line in lines if "|" in line and not line.startswith("  ")]
    documents += ["\n".join(glosses[start : start + 200]) for start in range(0, len(glosses), 200)]
    return [re.sub(r"[ \t]+", " ", document) for document in documents if document.strip()]


def images(cache: Path) -> Images:
    """Fashion-MNIST as rows of patches."""
    folder = unpacked("dataset-fashion-mnist", cache) / "usr/share/datasets/fashion-mnist"
    training, validation = (
        _patches(_idx(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)) for part in ("train", "t10k")
    )
    mean, deviation = training.mean(), training.std()
    labels = [
        torch.from_numpy(_idx(folder / f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64))
        for part in ("train", "t10k")
    ]
    return Images((training - mean) / deviation, labels[0], (validation - mean) / deviation, labels[1])


def _idx(path: Path, header: int) -> NDArray[np.uint8]:
    content = gzip.decompress(path.read_bytes()) if path.exists() else path.with_suffix("").read_bytes()
    return np.frombuffer(content, np.uint8, offset=header)


def _patches(pixels: NDArray[np.uint8]) -> torch.Tensor:
    count, side = len(pixels), 28 // PATCH
    cut = pixels.reshape(count, side, PATCH, side, PATCH).transpose(0, 1, 3, 2, 4).reshape(count, side * side, -1)
    return torch.from_numpy(cut.astype(np.float32) / 255)
