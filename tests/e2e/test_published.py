"""Published networks that people resize: a detector's rows stay, a file classifier's labels stay.

Needs the packages, which are no dependency of the tests: ``pip install --no-deps nudenet==3.4.2 magika==1.0.3``.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import bot_onnx
from bot_onnx.runtime import session

pytestmark = pytest.mark.slow

_HALF = 1024  #: bytes of a file's beginning and end that the classifier reads
_PADDING = 256


def published(package: str, ending: str) -> Path:
    """A file of an installed package."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"package {package} is not installed")
    return Path(next(file.locate() for file in files if str(file).endswith(ending)))


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
    folder = Path(__file__).resolve().parents[2]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".git/" not in str(path)]
    features = np.full((60, 2 * _HALF), _PADDING, np.int32)
    for row, path in zip(features, files[:: max(1, len(files) // 60)][:60], strict=True):
        content = np.frombuffer(path.read_bytes(), np.uint8)
        row[: min(_HALF, content.size)] = content[:_HALF]
        row[2 * _HALF - min(_HALF, content.size) :] = content[-_HALF:]
    [before], [after] = (session(str(path)).run(None, {"bytes": features}) for path in (source, out))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).all()
