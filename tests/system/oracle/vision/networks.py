"""Vision networks in small, at a factor of their base width and at given depths of their stages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.system.oracle.vision.catalog import CLASSES, NETWORKS
from tests.zoo.architectures import Built
from tests.zoo.timm_import import import_timm

Depths = tuple[int, ...] | None
Builder = Callable[[float, Depths], nn.Module]


def _wide(factor: float, *sizes: int) -> list[int]:
    """Sizes times the factor, which must be whole."""
    found = [size * factor for size in sizes]
    assert all(size == int(size) and size > 0 for size in found), found
    return [int(size) for size in found]


class Logits(nn.Module):
    """A transformers model that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The logits of a batch of images."""
        logits: torch.Tensor = self.model(pixel_values).logits
        return logits


def _resnet(block: str, factor: float, depths: Depths) -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    stem, *hidden = _wide(factor, 16, 32, 64)
    config = ResNetConfig(
        embedding_size=stem, hidden_sizes=hidden, depths=list(depths or (2, 3)), layer_type=block, num_labels=CLASSES
    )
    return Logits(ResNetForImageClassification(config))


def _resnet_timm(factor: float, depths: Depths, **options: Any) -> nn.Module:
    from timm.models import resnet

    (stem,) = _wide(factor, 8)
    return resnet.ResNet(
        layers=depths or (2, 1, 3, 1),
        stem_type="deep",
        stem_width=stem,
        num_classes=CLASSES,
        zero_init_last=False,
        **options,
    )


def _resnext(factor: float, depths: Depths) -> nn.Module:
    from timm.models.resnet import Bottleneck

    # Groups of 4 channels; their number follows the width.
    channels, groups = tuple(_wide(factor, 16, 16, 16, 16)), _wide(factor, 8)[0]
    base = ceil(16 / factor)  # timm's way to 4 channels a group
    return _resnet_timm(factor, depths, block=Bottleneck, channels=channels, cardinality=groups, base_width=base)


def _resnet_groupnorm(factor: float, depths: Depths) -> nn.Module:
    from timm.models.resnet import BasicBlock

    channels = tuple(_wide(factor, 16, 16, 32, 32))
    return _resnet_timm(factor, depths, block=BasicBlock, channels=channels, norm_layer=_group_norm)


def _group_norm(channels: int, **_: Any) -> nn.Module:
    return nn.GroupNorm(4, channels)


def _regnet(kind: str, factor: float, depths: Depths) -> nn.Module:
    from transformers import RegNetConfig, RegNetForImageClassification

    stem, *hidden = _wide(factor, 8, 16, 32)
    config = RegNetConfig(
        embedding_size=stem,
        hidden_sizes=hidden,
        depths=list(depths or (2, 3)),
        groups_width=4,
        layer_type=kind,
        num_labels=CLASSES,
    )
    return Logits(RegNetForImageClassification(config))


def _inverted(name: str, factor: float, depths: Depths) -> nn.Module:
    from timm.models import _efficientnet_builder, efficientnet, mobilenetv3

    assert depths is None
    channels = partial(_efficientnet_builder.round_channels, multiplier=factor, divisor=2, round_limit=0.0)
    plans = {
        "mobilenet_v2": [["ds_r1_k3_s1_c16"], ["ir_r2_k3_s2_e4_c24"], ["ir_r3_k3_s2_e4_c32"]],
        "mobilenet_v3": [
            ["ds_r1_k3_s1_e1_c16_nre"],
            ["ir_r2_k3_s2_e4_c24_nre"],
            ["ir_r3_k5_s2_e4_c32_se0.25_nre"],
            ["cn_r1_k1_s1_c64"],
        ],
        "efficientnet": [["ds_r1_k3_s1_e1_c16_se0.25"], ["ir_r3_k3_s2_e4_c32_se0.25"], ["ir_r2_k5_s2_e4_c64_se0.25"]],
    }
    arch = _efficientnet_builder.decode_arch_def(plans[name])
    common: dict[str, Any] = {
        "num_classes": CLASSES, "stem_size": 16, "round_chs_fn": channels, "num_features": _wide(factor, 64)[0],
    }  # fmt: skip
    se = partial(_squeeze_excite(name), rd_round_fn=lambda size: int(size))
    if name == "mobilenet_v3":
        return mobilenetv3.MobileNetV3(arch, act_layer=nn.Hardswish, se_layer=se, **common)
    return efficientnet.EfficientNet(arch, se_layer=se, **common)


def _squeeze_excite(name: str) -> Callable[..., nn.Module]:
    from timm.models._efficientnet_blocks import SqueezeExcite

    if name == "mobilenet_v3":
        return partial(SqueezeExcite, gate_layer="hard_sigmoid")
    return SqueezeExcite


def _densenet(factor: float, depths: Depths) -> nn.Module:
    from torchvision.models import DenseNet

    growth, stem = _wide(factor, 8, 16)
    return DenseNet(growth_rate=growth, block_config=depths or (3, 2), num_init_features=stem, num_classes=CLASSES)


class _Double(nn.Sequential):
    def __init__(self, source: int, target: int) -> None:
        super().__init__(
            nn.Conv2d(source, target, 3, padding=1, bias=False),
            nn.BatchNorm2d(target),
            nn.ReLU(),
            nn.Conv2d(target, target, 3, padding=1, bias=False),
            nn.GroupNorm(4, target),
            nn.SiLU(),
        )


class UNet(nn.Module):
    """Two steps down and up again; what comes up is joined with what went down."""

    def __init__(self, base: int, *, resize: bool) -> None:
        super().__init__()
        self.first, self.second = _Double(3, base), _Double(base, 2 * base)
        self.middle = _Double(2 * base, 4 * base)
        self.up = nn.ModuleList(self._up(size, resize) for size in (4 * base, 2 * base))
        self.third, self.fourth = _Double(4 * base, 2 * base), _Double(2 * base, base)
        self.head = nn.Conv2d(base, CLASSES, 1)
        self.pool = nn.MaxPool2d(2)

    @staticmethod
    def _up(size: int, resize: bool) -> nn.Module:
        if not resize:
            return nn.ConvTranspose2d(size, size // 2, 2, stride=2)
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(size, size // 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A map of logits."""
        one = self.first(x)
        two = self.second(self.pool(one))
        deep = self.middle(self.pool(two))
        deep = self.third(torch.cat([self.up[0](deep), two], dim=1))
        deep = self.fourth(torch.cat([one, self.up[1](deep)], dim=1))
        logits: torch.Tensor = self.head(deep)
        return logits


class _Residual(nn.Module):
    """Norms over groups of channels in front of convolutions, as in diffusion models (Ho et al. 2020)."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(4, size) for size in (source, target))
        self.convolutions = nn.ModuleList(nn.Conv2d(size, target, 3, padding=1) for size in (source, target))
        self.skip = nn.Conv2d(source, target, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A map of ``target`` channels."""
        inner = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            inner = convolution(F.silu(norm(inner)))
        return inner + self.skip(x)


class DiffusionUNet(nn.Module):
    """Skips that are joined with maps of another width, and normalised in groups that end within either."""

    def __init__(self, base: int) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, base, 3, padding=1), nn.Conv2d(base, CLASSES, 1)
        self.shrink = nn.Conv2d(base, 2 * base, 3, stride=2, padding=1)
        self.down, self.up = _Residual(2 * base, 2 * base), _Residual(3 * base, base)
        self.norm, self.attend = nn.GroupNorm(4, 2 * base), nn.ModuleList(_linear(2 * base) for _ in range(4))
        self.last = _Residual(2 * base, base)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A map of logits."""
        first = self.first(x)
        down = self.down(self.shrink(first))
        flat = self.norm(down).flatten(2).transpose(1, 2)
        query, key, value = (linear(flat) for linear in self.attend[:3])
        scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        read = self.attend[3](scores.softmax(-1) @ value)
        down = down + read.transpose(1, 2).reshape(down.shape)
        up = self.up(torch.cat([F.interpolate(down, scale_factor=2.0), first], dim=1))
        logits: torch.Tensor = self.head(self.last(torch.cat([up, first], dim=1)))
        return logits


def _linear(size: int) -> nn.Linear:
    return nn.Linear(size, size)


def _diffusion_unet(factor: float, depths: Depths) -> nn.Module:
    assert depths is None
    return DiffusionUNet(_wide(factor, 16)[0])


def _unet(factor: float, depths: Depths, *, resize: bool) -> nn.Module:
    assert depths is None
    return UNet(_wide(factor, 16)[0], resize=resize)


def _shufflenet(factor: float, depths: Depths) -> nn.Module:
    from torchvision.models import ShuffleNetV2

    stem, *channels = _wide(factor, 8, 16, 32, 64, 64)
    return ShuffleNetV2(list(depths or (2, 3, 2)), [stem, *channels], num_classes=CLASSES)


def _convnext(factor: float, depths: Depths) -> nn.Module:
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(
        depths=depths or (2, 3, 1, 1), dims=tuple(_wide(factor, 16, 16, 32, 32)), num_classes=CLASSES, ls_init_value=0.5
    )


def _convnext_v2(factor: float, depths: Depths) -> nn.Module:
    from transformers import ConvNextV2Config, ConvNextV2ForImageClassification

    config = ConvNextV2Config(
        num_stages=2, hidden_sizes=_wide(factor, 16, 32), depths=list(depths or (2, 3)), num_labels=CLASSES
    )
    return Logits(ConvNextV2ForImageClassification(config))


def _mixer(factor: float, depths: Depths) -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    assert depths is None or len(depths) == 1
    (hidden,) = _wide(factor, 32)
    # Both MLPs follow the width: tokens 0.5 x hidden, channels 4 x hidden.
    return MlpMixer(
        img_size=32, patch_size=8, num_blocks=depths[0] if depths else 3, embed_dim=hidden, num_classes=CLASSES
    )


def _swin(factor: float, depths: Depths) -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    hidden, one, two = _wide(factor, 32, 4, 8)
    return SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=hidden, depths=depths or (2, 4), num_heads=(one, two),
        num_classes=CLASSES,
    )  # fmt: skip


def _swin_hf(version: str, factor: float, depths: Depths) -> nn.Module:
    import transformers

    hidden, one, two = _wide(factor, 32, 4, 8)
    config = getattr(transformers, f"{version}Config")(
        image_size=32, patch_size=2, window_size=4, embed_dim=hidden, depths=list(depths or (2, 4)),
        num_heads=[one, two], num_labels=CLASSES,
    )  # fmt: skip
    return Logits(getattr(transformers, f"{version}ForImageClassification")(config))


def _beit(factor: float, depths: Depths) -> nn.Module:
    from transformers import BeitConfig, BeitForImageClassification

    hidden, heads, inner = _wide(factor, 32, 4, 64)
    config = BeitConfig(
        hidden_size=hidden, num_hidden_layers=depths[0] if depths else 3, num_attention_heads=heads,
        intermediate_size=inner, image_size=32, patch_size=8, use_relative_position_bias=True, num_labels=CLASSES,
    )  # fmt: skip
    return Logits(BeitForImageClassification(config))


def _dinov2(factor: float, depths: Depths) -> nn.Module:
    from transformers import Dinov2Config, Dinov2ForImageClassification

    hidden, heads = _wide(factor, 32, 4)
    config = Dinov2Config(
        hidden_size=hidden, num_hidden_layers=depths[0] if depths else 3, num_attention_heads=heads, image_size=32,
        patch_size=8, use_mask_token=False, num_labels=CLASSES,
    )  # fmt: skip
    return Logits(Dinov2ForImageClassification(config))


def _segformer(factor: float, depths: Depths) -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    one, two = _wide(factor, 4, 8)
    config = SegformerConfig(
        num_encoder_blocks=2, depths=list(depths or (2, 3)), sr_ratios=[4, 1], hidden_sizes=_wide(factor, 32, 64),
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[one, two], mlp_ratios=[2, 2],
        decoder_hidden_size=_wide(factor, 32)[0], num_labels=CLASSES,
    )  # fmt: skip
    return Logits(SegformerForSemanticSegmentation(config))


def _maxxvit(blocks: tuple[Any, ...], factor: float, depths: Depths, **options: Any) -> nn.Module:
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitConvCfg, MaxxVitTransformerCfg

    stem, *hidden = _wide(factor, 16, 32, 64)
    config = MaxxVitCfg(
        embed_dim=tuple(hidden), depths=depths or (2, 3), block_type=blocks, stem_width=stem,
        conv_cfg=MaxxVitConvCfg(expand_ratio=2.0, attn_ratio=0.25, init_values=None),
        transformer_cfg=MaxxVitTransformerCfg(dim_head=8, window_size=(4, 4), grid_size=(4, 4), **options),
    )  # fmt: skip
    return MaxxVit(config, img_size=64, num_classes=CLASSES)


def _poolformer(factor: float, depths: Depths) -> nn.Module:
    from transformers import PoolFormerConfig, PoolFormerForImageClassification

    config = PoolFormerConfig(
        num_encoder_blocks=2, depths=list(depths or (2, 3)), hidden_sizes=_wide(factor, 16, 32), patch_sizes=[7, 3],
        strides=[4, 2], padding=[2, 1], num_labels=CLASSES,
    )  # fmt: skip
    return Logits(PoolFormerForImageClassification(config))


def _vgg(factor: float, depths: Depths) -> nn.Module:
    assert depths is None
    one, two, three = _wide(factor, 8, 16, 32)
    stages: list[nn.Module] = []
    for source, target in ((3, one), (one, two)):
        stages += [nn.Conv2d(source, target, 3, padding=1), nn.BatchNorm2d(target), nn.ReLU(), nn.MaxPool2d(4)]
    # The flattened map has (channels x height x width) inputs.
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(two * 4, three), nn.ReLU(), nn.Linear(three, CLASSES))


_BUILDERS: dict[str, Builder] = {
    "resnet_basic": partial(_resnet, "basic"),
    "resnet_bottleneck": partial(_resnet, "bottleneck"),
    "resnext": _resnext,
    "resnet_groupnorm": _resnet_groupnorm,
    "regnet_y": partial(_regnet, "y"),
    "regnet_x": partial(_regnet, "x"),
    "mobilenet_v2": partial(_inverted, "mobilenet_v2"),
    "mobilenet_v3": partial(_inverted, "mobilenet_v3"),
    "efficientnet": partial(_inverted, "efficientnet"),
    "densenet": _densenet,
    "unet": partial(_unet, resize=False),
    "unet_resize": partial(_unet, resize=True),
    "diffusion_unet": _diffusion_unet,
    "shufflenet": _shufflenet,
    "convnext": _convnext,
    "convnext_v2": _convnext_v2,
    "mixer": _mixer,
    "swin": _swin,
    "swin_hf": partial(_swin_hf, "Swin"),
    "swin_v2": partial(_swin_hf, "Swinv2"),
    "beit": _beit,
    "dinov2": _dinov2,
    "segformer": _segformer,
    "maxvit": partial(_maxxvit, ("M", "M")),
    "coatnet": partial(_maxxvit, ("C", "T")),
    "poolformer": _poolformer,
    "vgg": _vgg,
}


@torch.no_grad()
def randomise(module: nn.Module, seed: int) -> None:
    """Random weights and statistics from which a wrong index shows: no two channels alike, nothing near zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.uniform_(0.8, 1.2, generator=generator)
        elif parameter.ndim > 1 and name.endswith("weight"):
            parameter.normal_(0.0, min(max(parameter[0].numel() ** -0.5, 0.05), 0.5), generator=generator)
        else:
            parameter.normal_(0.0, 0.2, generator=generator)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0.0, 0.2, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.7, 1.3, generator=generator)


def build(name: str, factor: float = 1.0, depths: Depths = None, seed: int = 0) -> Built:
    """Build a network with random weights.

    Args:
        name: a key of :data:`tests.system.oracle.vision.catalog.NETWORKS`.
        factor: of its base width.
        depths: blocks per stage, None for its base depths.
        seed: of the weights.
    """
    import_timm()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _BUILDERS[name](factor, depths)
    randomise(module, seed)
    side = NETWORKS[name].image
    image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return Built(module.eval(), (image,), ("image",), ("result",), {"image": {0: "batch"}, "result": {0: "batch"}})
