"""Export a network of the zoo by each exporter that users meet, once, into a cache on disk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from tests.zoo.architectures import Built, Size, build, check

EXPORTERS = ("dynamo18", "dynamo20", "torchscript17")
"""Exporter and opset: PyTorch's ``dynamo=True`` at opset 18 and 20, the older TorchScript one at 17."""

CACHE_VARIABLE = "BOT_ONNX_TEST_CACHE"
_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "transformers", "timm", "onnxscript", "onnx")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporters warn of, log and print: it concerns them, and tests treat warnings as errors."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def export_built(built: Built, exporter: str, path: Path) -> None:
    """Export a built network to ``path`` as one file, batch and sequence left open.

    Args:
        built: network and its inputs.
        exporter: one of :data:`EXPORTERS`.
        path: of the ONNX file.

    Raises:
        ValueError: no such exporter.
    """
    if exporter not in EXPORTERS:
        raise ValueError(f"exporter {exporter!r}: use one of {', '.join(EXPORTERS)}")
    import torch

    opset = int(exporter[-2:])
    with quiet():
        if exporter.startswith("dynamo"):
            torch.onnx.export(
                built.module,
                built.inputs,
                str(path),
                input_names=list(built.input_names),
                output_names=list(built.output_names),
                opset_version=opset,
                dynamo=True,
                dynamic_shapes=tuple(built.dynamic_axes[name] for name in built.input_names),
                external_data=False,
                verbose=False,
            )
        else:
            torch.onnx.export(
                built.module,
                built.inputs,
                str(path),
                input_names=list(built.input_names),
                output_names=list(built.output_names),
                opset_version=opset,
                dynamo=False,
                dynamic_axes=built.dynamic_axes,
            )


def export(arch: str, size: Size, exporter: str, path: Path) -> None:
    """Build ``arch`` at ``size`` and export it to ``path``.

    Raises:
        Unbuildable: the architecture has no configuration of that size.
        ValueError: no such exporter.
    """
    check(arch, size)
    with quiet():  # the libraries warn when they are imported, too
        built = build(arch, size)
    export_built(built, exporter, path)


def cache_folder() -> Path:
    """Where exports are kept: ``$BOT_ONNX_TEST_CACHE``, else ``.cache/zoo`` in the repository."""
    return Path(os.environ.get(CACHE_VARIABLE) or _ROOT / ".cache" / "zoo")


def _fingerprint() -> str:
    """Versions of the packages that shape an export, and the zoo's own source."""
    parts = []
    for package in _PACKAGES:
        try:
            parts.append(f"{package}={metadata.version(package)}")
        except metadata.PackageNotFoundError:
            parts.append(f"{package}=none")
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if not source.name.startswith("test_"):
            parts.append(hashlib.sha256(source.read_bytes()).hexdigest())
    return "|".join(parts)


def cached(stem: str, key: str, write: Callable[[Path], None]) -> Path:
    """Return the file of the cache under ``key``, writing it first if it is not there.

    Two processes may both write; the file of the first appears, whole.

    Args:
        stem: readable start of the file's name.
        key: all that the content depends on, besides packages and the zoo's source.
        write: writes the file to the path it is given.
    """
    digest = hashlib.sha256(f"{key}|{_fingerprint()}".encode()).hexdigest()[:16]
    target = cache_folder() / f"{stem}-{digest}.onnx"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            scratch = Path(folder) / target.name
            write(scratch)
            with contextlib.suppress(FileExistsError):  # another process may have been first: its file may be open
                os.link(scratch, target)
    return target


def cached_export(arch: str, size: Size, exporter: str) -> Path:
    """Export ``arch`` at ``size``, or return the file of an earlier export.

    Raises:
        Unbuildable: the architecture has no configuration of that size.
        ValueError: no such exporter.
    """
    check(arch, size)
    return cached(f"{arch}_{exporter}", repr((arch, size, exporter)), lambda path: export(arch, size, exporter, path))
