"""Loads the demo's two data files: a Vision Transformer for 8 x 8 digits, and the images that were held out.

The images are from the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI
Machine Learning Repository, 1998, CC BY 4.0) as scikit-learn ships it: grey values 0 to 16, 8 x 8 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bot_onnx.errors import GraphError

MODEL_NAME = "digits_vit.onnx"
IMAGES_NAME = "digits_test.npz"
INPUT_NAME = "image"
OUTPUT_NAME = "logits"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The held-out images, ready to be fed to the model.

    Attributes:
        images: float32 (n, 1, 8, 8), grey values 0 to 16: the graph scales them itself.
        labels: int64 (n,), digits 0 to 9.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def feeds(self) -> dict[str, NDArray[np.float32]]:
        """The model's inputs by name, as onnxruntime takes them."""
        return {INPUT_NAME: self.images}


def model_bytes() -> bytes:
    """The model as a serialised ONNX ``ModelProto``.

    Raises:
        GraphError: the package was installed without its data file.
    """
    return _resource(MODEL_NAME).read_bytes()


@contextmanager
def model_file() -> Iterator[Path]:
    """Gives the model as a real file for the length of a ``with`` block, even from inside a zip.

    Raises:
        GraphError: the package was installed without its data file.
    """
    with as_file(_resource(MODEL_NAME)) as path:
        yield path


def held_out() -> HeldOut:
    """The held-out images and their labels; none of them was trained on.

    Raises:
        GraphError: the package was installed without its data file.
    """
    with _resource(IMAGES_NAME).open("rb") as stream, np.load(stream, allow_pickle=False) as data:
        images = data["images"].astype(np.float32)[:, np.newaxis]
        labels = data["labels"].astype(np.int64)
    return HeldOut(images, labels)


def accuracy(logits: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Share of rows of ``logits`` (n, classes) whose largest value is at the label, from ``labels`` (n,).

    Raises:
        GraphError: the logits are not one row per label.
    """
    if logits.ndim != 2 or len(logits) != len(labels):
        raise GraphError(
            f"{OUTPUT_NAME}: shape {logits.shape} is not one row of class scores for each of the {len(labels)} "
            "labels; feed all the images of the test split and pass the model's first output as it is"
        )
    return float(np.mean(logits.argmax(axis=1) == labels))


def _resource(name: str) -> Traversable:
    resource = files("bot_onnx.demo").joinpath(name)
    if not resource.is_file():
        raise GraphError(
            f"bot_onnx/demo/{name}: the demo's data file is missing from this installation; reinstall bot-onnx, or "
            "make it with `python -m benchmarks.train_digits_vit` in a source checkout"
        )
    return resource
