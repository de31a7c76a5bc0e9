"""Networks for images: transformers, mixers, convolutional ones."""

from __future__ import annotations

from benchmarks.coverage.cases.sized import HUGGINGFACE, image_model, sized
from benchmarks.coverage.cases.transformer import IMAGE, transformer

_NETWORKS = "benchmarks.coverage.builders.vision"
_SQUARE = {"image_size": 32, "patch_size": 8}

CASES = [
    transformer("vit", "ViTModel", inputs=IMAGE, extra=_SQUARE),
    transformer("deit", "DeiTModel", inputs=IMAGE, extra=_SQUARE),
    transformer("beit", "BeitModel", inputs=IMAGE, extra=_SQUARE | {"use_relative_position_bias": True}),
    transformer("dinov2", "Dinov2Model", inputs=IMAGE, extra=_SQUARE | {"mlp_ratio": 2}, fields={"intermediate": []}),
    sized(
        "swin", HUGGINGFACE,
        lambda wide, _: image_model(
            "SwinModel",
            {"image_size": 32, "patch_size": 2, "embed_dim": wide(32), "depths": [2, 2],
             "num_heads": [wide(4), wide(8)], "window_size": 4},
        ),
    ),
    sized(
        "segformer", HUGGINGFACE,
        lambda wide, _: image_model(
            "SegformerModel",
            {"num_encoder_blocks": 2, "depths": [2, 2], "hidden_sizes": [wide(64), wide(128)], "sr_ratios": [4, 1],
             "num_attention_heads": [wide(4), wide(8)], "patch_sizes": [7, 3], "strides": [4, 2], "mlp_ratios": [2, 2]},
        ),
    ),
    sized(
        "convnext", HUGGINGFACE,
        lambda wide, _: image_model("ConvNextModel", {"hidden_sizes": [wide(32), wide(64)], "depths": [2, 2],
                                                      "num_stages": 2, "patch_size": 4}),
    ),
    sized("mlp_mixer", f"{_NETWORKS}:mlp_mixer", lambda wide, n: {"hidden": wide(64), "layers": n}, depth=True),
    sized(
        "resnet", HUGGINGFACE,
        lambda wide, _: image_model("ResNetModel", {"embedding_size": wide(32), "hidden_sizes": [wide(64), wide(128)],
                                                    "depths": [3, 3], "layer_type": "bottleneck"}),
    ),
    sized(
        "resnet_basic", HUGGINGFACE,
        lambda wide, _: image_model("ResNetModel", {"embedding_size": wide(32), "hidden_sizes": [wide(32), wide(64)],
                                                    "depths": [3, 3], "layer_type": "basic"}),
    ),
    sized(
        "regnet", HUGGINGFACE,
        lambda wide, _: image_model("RegNetModel", {"embedding_size": wide(32), "hidden_sizes": [wide(32), wide(64)],
                                                    "depths": [2, 3], "groups_width": 8, "layer_type": "y"}),
    ),
    sized("mobilenet_v3", f"{_NETWORKS}:mobilenet_v3", lambda wide, _: {"width": wide(32)}),
    sized("efficientnet", f"{_NETWORKS}:efficientnet", lambda wide, _: {"width": wide(32)}),
    sized("densenet", f"{_NETWORKS}:densenet", lambda wide, _: {"width": wide(16)}),
    sized("shufflenet", f"{_NETWORKS}:shufflenet", lambda wide, _: {"width": wide(32)}),
    sized("unet", f"{_NETWORKS}:unet", lambda wide, _: {"width": wide(16)}),
    sized("denoising_unet", f"{_NETWORKS}:denoising_unet", lambda wide, _: {"width": wide(32)}),
]  # fmt: skip
