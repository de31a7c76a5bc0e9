"""A shrunk digits ViT, its teacher, and images to learn from: small enough to be trained in a test."""

from __future__ import annotations

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from numpy.typing import NDArray

import bot_onnx
from bot_onnx.demo import held_out, model_bytes

SMALL = {"layers": 3, "hidden": 32}


@cache
def folder() -> Path:
    """Holds ``teacher.onnx``, ``small.onnx`` and ``digits.npz``; made once a session, removed at its end."""
    made = Path(mkdtemp(prefix="bot-onnx-recover-tests-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    (made / "teacher.onnx").write_bytes(model_bytes())
    bot_onnx.resize(made / "teacher.onnx", SMALL, made / "small.onnx", against=False)
    np.savez(made / "digits.npz", image=images(), labels=np.zeros(3))
    return made


def images() -> NDArray[np.float32]:
    """All digits of scikit-learn but the demo's held-out ones, float32 ``[1437, 1, 8, 8]``."""
    from sklearn.datasets import load_digits

    everything = load_digits().images.astype(np.float32)[:, None]
    kept_apart = {image.tobytes() for image in held_out().images}
    return np.stack([image for image in everything if image.tobytes() not in kept_apart])
