"""Forms of files, and a network that an optimiser's patterns fit."""

from __future__ import annotations

from pathlib import Path

import onnx

from benchmarks.coverage.forms import (
    blocks_4bit,
    channel_pairs,
    dynamic_int8,
    external_data,
    half_precision,
    optimised_by_runtime,
    static_int8,
    stored_as,
)
from benchmarks.coverage.forms import optimised_by_tool as _optimised
from bot_onnx._recover.extras import import_torchvision
from tests.zoo.architectures import Built, Size
from tests.zoo.export import cached, quiet

__all__ = [
    "blocks_4bit",
    "channel_pairs",
    "dynamic_int8",
    "eager_bert",
    "external_data",
    "half_precision",
    "ops_of",
    "optimised_by_runtime",
    "optimised_by_tool",
    "static_int8",
    "stored_as",
]


def optimised_by_tool(source: Path, path: Path, kind: str, size: Size) -> None:
    """What ``onnxruntime.transformers.optimizer`` makes of a file; ``kind`` is its model type."""
    _optimised(source, path, kind, size.heads, size.hidden)


def ops_of(path: Path) -> set[str]:
    """Names of a file's ops."""
    return {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}


def eager_bert(size: Size, opset: int = 14) -> Path:
    """A BERT whose attention is written out, as the optimiser's patterns want it; cached."""

    def write(path: Path) -> None:
        with quiet():
            built = _build_eager_bert(size)
        _export_old(built, opset, path)

    return cached(f"eager_bert_{opset}", repr((size, opset)), write)


def _build_eager_bert(size: Size) -> Built:
    import torch

    from tests.zoo import networks

    import_torchvision()
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.intermediate,
        vocab_size=size.vocab,
        max_position_embeddings=size.positions,
        attn_implementation="eager",
    )
    module = BertModel(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    example = torch.ones(2, 9, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask", "token_type_ids")}
    wrapped = networks.Encoder(module, ("last_hidden_state",))
    return Built(wrapped, (example,) * 3, tuple(axes), ("last_hidden_state",), axes)


def _export_old(built: Built, opset: int, path: Path) -> None:
    import torch

    with quiet():
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
