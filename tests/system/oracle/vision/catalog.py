"""The vision networks of the tests, by name, and how they are exported. Nothing here imports PyTorch.

Every network can be built at a factor of its base width, so that a resized file has a native twin to be compared with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.zoo.export import cached, export_built, quiet

EXPORTERS = ("torchscript17", "dynamo18")
IMAGE = 32  # pixels a side, unless a network says otherwise
CLASSES = 10


@dataclass(frozen=True, slots=True)
class Vision:
    """What is known of a network without building it.

    Attributes:
        image: pixels a side of its input.
        factors: width factors with a native twin; the file resized by ``width`` must then compute what the twin does.
        stuck: exporters that write a strided view as computed indices, which hold channels to their number.
        preserving: growing keeps the function; not so where channels are shuffled.
        method: that grows it so: copies of channels must stand side by side where groups end within a part.
    """

    image: int = IMAGE
    factors: tuple[float, ...] = (0.5, 0.75, 2.0)
    preserving: bool = True
    method: str = "net2net"
    stuck: tuple[str, ...] = ()


NETWORKS: Mapping[str, Vision] = {
    "resnet_basic": Vision(),
    "resnet_bottleneck": Vision(),
    "resnext": Vision(image=64),
    "resnet_groupnorm": Vision(image=64, factors=(0.5, 2.0)),
    "regnet_y": Vision(),
    "regnet_x": Vision(),
    "mobilenet_v2": Vision(),
    "mobilenet_v3": Vision(),
    "efficientnet": Vision(),
    "densenet": Vision(),
    "unet": Vision(),
    "unet_resize": Vision(),
    "diffusion_unet": Vision(method="bot"),
    "shufflenet": Vision(preserving=False),
    "convnext": Vision(image=64, stuck=("dynamo18",)),
    "convnext_v2": Vision(),
    "mixer": Vision(),
    "swin": Vision(),
    "swin_hf": Vision(),
    "swin_v2": Vision(factors=()),
    "beit": Vision(),
    "dinov2": Vision(),
    "segformer": Vision(image=64),
    "maxvit": Vision(image=64),
    "coatnet": Vision(image=64),
    "poolformer": Vision(image=64),
    "vgg": Vision(),
}


def key_of(name: str, factor: float, depths: tuple[int, ...] | None) -> str:
    """All that an export depends on besides packages and the zoo's source: the networks' source too."""
    source = (Path(__file__).parent / "networks.py").read_bytes()
    return repr((name, factor, depths, NETWORKS[name].image, hashlib.sha256(source).hexdigest()))


def exported(name: str, exporter: str, factor: float = 1.0, depths: tuple[int, ...] | None = None) -> Path:
    """Export a network at a width factor and depths, or return the file of an earlier export."""

    def write(path: Path) -> None:
        with quiet():
            from tests.system.oracle.vision.networks import build

            built = build(name, factor, depths)
        export_built(built, exporter, path)

    return cached(f"{name}_{exporter}", f"{key_of(name, factor, depths)}|{exporter}", write)
