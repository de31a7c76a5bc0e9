"""Multiply-accumulates against PyTorch's own counter, on the networks that the files were exported from."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot_onnx import api
from tests.zoo.architectures import base_size
from tests.zoo.export import cached_export

pytestmark = pytest.mark.exporter


@pytest.mark.parametrize("exporter", ["torchscript17", "dynamo18"])
@pytest.mark.parametrize("arch", ["bert", "gpt2", "vit", "llama"])
def test_an_export_costs_what_pytorch_counts(arch: str, exporter: str) -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from tests.zoo.networks import build

    size = base_size(arch)
    built = build(arch, size)
    path: Path = cached_export(arch, size, exporter)
    shapes = {name: tuple(value.shape) for name, value in zip(built.input_names, built.inputs, strict=True)}
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        built.module(*built.inputs)
    costs = api.inspect(path, input_shapes=shapes).costs
    assert costs.inputs == shapes and not costs.uncounted
    assert 2 * costs.macs == counter.get_total_flops()
