"""Networks of timm, by the name of the network and constructor arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.coverage.builders.huggingface import tensors_of
from benchmarks.coverage.builders.torchvision_import import import_torchvision
from benchmarks.coverage.case import Built


class Image(nn.Module):
    """Call a network with an image; returns its tensors as a tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Image (batch, channels, height, width) -> what the network makes of it."""
        return tuple(tensors_of(self.model(tensors[0])))


def build(model: str, image: int, arguments: Mapping[str, Any]) -> Built:
    """Build a network for square images of ``image`` pixels with ten classes."""
    import_torchvision()
    import timm
    from timm.layers import set_exportable

    given = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    with set_exportable(True):
        made = None
        for extra in ({"img_size": image}, {"input_size": (3, image, image)}, {}):
            try:
                made = timm.create_model(model, pretrained=False, num_classes=10, **given, **extra)
                break
            except TypeError:
                continue
        if made is None:
            made = timm.create_model(model, pretrained=False, **given)
    channels = made.pretrained_cfg.get("input_size", (3,))[0] if hasattr(made, "pretrained_cfg") else 3
    pixels = torch.randn(2, channels, image, image, generator=torch.Generator().manual_seed(1))
    return Built(Image(made).eval(), (pixels,), ("pixel_values",), {"pixel_values": {0: "batch"}})
