"""Small networks for images from torchvision and timm, and a U-Net."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.coverage.builders.torchvision_import import import_torchvision
from benchmarks.coverage.case import Built

CLASSES = 10


def image_network(module: nn.Module, size: int = 32) -> Built:
    """A network that takes one batch of square images of three channels."""
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    return Built(Single(module).eval(), (pixels,), ("pixel_values",), {"pixel_values": {0: "batch"}})


class Single(nn.Module):
    """Call a network with one tensor, whatever its argument is called."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> Tensor:
        """Image (batch, 3, height, width) -> what the network makes of it."""
        result: Tensor = self.model(tensors[0])
        return result


def mlp_mixer(hidden: int, layers: int) -> Built:
    """MLP-Mixer; both kinds of MLP are sized by the width."""
    import_torchvision()
    from timm.models.mlp_mixer import MlpMixer

    return image_network(
        MlpMixer(CLASSES, img_size=32, patch_size=8, num_blocks=layers, embed_dim=hidden, mlp_ratio=(0.5, 2.0))
    )


def mobilenet_v3(width: int) -> Built:
    """MobileNetV3 with three kinds of blocks: plain, squeezed and excited, strided."""
    import_torchvision()
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    block = partial(InvertedResidualConfig, dilation=1, width_mult=1.0)
    w = width
    blocks = [
        block(w, 3, w, w, False, "RE", 1),
        block(w, 3, 4 * w, 2 * w, True, "HS", 2),
        block(2 * w, 5, 8 * w, 2 * w, True, "HS", 1),
    ]
    return image_network(MobileNetV3(blocks, last_channel=4 * w, num_classes=CLASSES))


def efficientnet(width: int) -> Built:
    """EfficientNet with three stages of one or two blocks."""
    import_torchvision()
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    block = partial(MBConvConfig, width_mult=1.0, depth_mult=1.0)
    w = width
    blocks = [
        block(1, 3, 1, w, w, num_layers=1), block(4, 3, 2, w, 2 * w, num_layers=2),
        block(4, 5, 2, 2 * w, 3 * w, num_layers=2),
    ]  # fmt: skip
    return image_network(EfficientNet(blocks, dropout=0.0, num_classes=CLASSES, last_channel=4 * w))


def densenet(width: int) -> Built:
    """DenseNet with two dense blocks of three layers."""
    import_torchvision()
    from torchvision.models.densenet import DenseNet

    return image_network(DenseNet(width, (3, 3), 2 * width, bn_size=2, num_classes=CLASSES))


def shufflenet(width: int) -> Built:
    """ShuffleNet V2 with three stages of two units."""
    import_torchvision()
    from torchvision.models.shufflenetv2 import ShuffleNetV2

    return image_network(ShuffleNetV2([2, 2, 2], [width, 2 * width, 4 * width, 8 * width, 8 * width], CLASSES))


def _double(channels_in: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (channels_in, channels):
        layers += [nn.Conv2d(size, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net of two levels: one comes up by a transposed convolution, one by interpolation; skips by concatenation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([_double(3, width), _double(width, 2 * width)])
        self.bottom = _double(2 * width, 4 * width)
        self.rise = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.interpolate = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.up = nn.ModuleList([_double(4 * width, 2 * width), _double(3 * width, width)])
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Image (batch, 3, height, width) -> one channel of the same size."""
        first = self.down[0](image)
        second = self.down[1](nn.functional.max_pool2d(first, 2))
        x = self.bottom(nn.functional.max_pool2d(second, 2))
        x = self.up[0](torch.cat([second, self.rise(x)], 1))
        x = self.up[1](torch.cat([first, self.interpolate(x)], 1))
        mask: Tensor = self.head(x)
        return mask


def unet(width: int) -> Built:
    """U-Net of two levels."""
    return image_network(UNet(width))


class Residual(nn.Module):
    """A block of a diffusion model: norms over groups of channels in front of convolutions."""

    def __init__(self, channels_in: int, channels: int, times: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(8, channels_in), nn.GroupNorm(8, channels)])
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(channels_in, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)]
        )
        self.skip = nn.Conv2d(channels_in, channels, 1)
        self.time = nn.Linear(times, channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (batch, channels_in, height, width), features of the time (batch, times) -> (batch, channels, …)."""
        inner = self.convolutions[0](nn.functional.silu(self.norms[0](x)))
        inner = inner + self.time(nn.functional.silu(time))[:, :, None, None]
        return self.skip(x) + self.convolutions[1](nn.functional.silu(self.norms[1](inner)))


class DenoisingUNet(nn.Module):
    """The U-Net of a diffusion model (Ho et al. 2020): every block goes up with the map that went down there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        times = 4 * width
        self.first, self.head = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 3, padding=1)
        self.time = nn.Linear(1, times)
        down, up = [(1, 1), (1, 2), (2, 4)], [(8, 4), (6, 2), (3, 1)]
        self.down, self.up = (
            nn.ModuleList([Residual(source * width, target * width, times) for source, target in blocks])
            for blocks in (down, up)
        )
        self.middle, self.norm = Residual(4 * width, 4 * width, times), nn.GroupNorm(8, width)

    def forward(self, image: Tensor) -> Tensor:
        """Image (batch, 3, height, width) -> noise of the same size."""
        time = self.time(image.mean(dim=(1, 2, 3))[:, None])
        x, skips = self.first(image), []
        for block in self.down:
            x = block(x, time)
            skips.append(x)
            x = nn.functional.avg_pool2d(x, 2)
        x = self.middle(x, time)
        for block in self.up:
            x = nn.functional.interpolate(x, scale_factor=2.0)
            x = block(torch.cat([x, skips.pop()], 1), time)
        noise: Tensor = self.head(nn.functional.silu(self.norm(x)))
        return noise


def denoising_unet(width: int) -> Built:
    """U-Net of a diffusion model, of three levels."""
    return image_network(DenoisingUNet(width))
