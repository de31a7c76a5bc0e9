"""A framework's module takes the sizes and the weights of a resized file, and computes what it does."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot_onnx.errors import VerifyError
from tests.system.files.test_weights_roundtrip import resized, wrapped
from tests.zoo.architectures import TARGETS, base_size, build
from tests.zoo.export import quiet

pytestmark = pytest.mark.exporter


def exported(module: Any, example: Any, path: Path) -> Path:
    import torch

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), path, dynamo=False, training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False, input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}},
        )  # fmt: skip
    return path


def resnet() -> Any:
    import torch

    from bot_onnx._recover.extras import import_torchvision

    import_torchvision()
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=5)
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(norm.running_mean, 0, 0.1)
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    return module.eval()


def test_half_a_resnet(tmp_path: Path) -> None:
    import torch

    import bot_onnx.torch

    module = resnet()
    source = exported(module, torch.zeros(2, 3, 32, 32), tmp_path / "resnet.onnx")
    small = bot_onnx.resize(source, {"width": 0.5}, tmp_path / "small.onnx", against=False).output
    with quiet():
        loaded = bot_onnx.torch.load_into(module.train(), small)
    assert loaded.difference is not None and loaded.difference <= 1e-5
    assert module.training and module.layer1[0].conv1.out_channels == module.layer1[0].bn1.num_features == 32
    assert module.fc.in_features == 256 and not loaded.kept
    image = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    module.train()(torch.from_numpy(image)).sum().backward()  # it trains on
    assert module.conv1.weight.grad.shape == (32, 3, 7, 7)


@pytest.mark.parametrize("arch", ["bert", "vit"])
def test_a_transformer_of_other_width_and_depth(arch: str, tmp_path: Path) -> None:
    import bot_onnx.torch

    with quiet():
        built = build(arch, base_size(arch), 0)
    own = built.module if arch == "vit" else built.module.model
    size = TARGETS["half"](base_size(arch))
    file = resized(arch, "torchscript17", size, tmp_path)

    def call(_: Any, tensors: Any) -> Any:
        return built.module(*tensors.values())

    before = {key: values.clone() for key, values in own.state_dict().items()}
    with pytest.raises(VerifyError, match="does not compute what"):
        bot_onnx.torch.load_into(
            own, file, strip=wrapped(arch), call=lambda _, tensors: tuple(2 * out for out in _all(call(_, tensors)))
        )
    after = own.state_dict()
    assert list(after) == list(before) and all((after[key] == before[key]).all() for key in before)
    loaded = bot_onnx.torch.load_into(own, file, strip=wrapped(arch), call=call)
    assert loaded.difference is not None and loaded.difference <= 1e-5
    layers = own.blocks if arch == "vit" else own.encoder.layer
    assert len(layers) == size.layers
    copy.deepcopy(own)


def _all(made: Any) -> tuple[Any, ...]:
    return made if isinstance(made, tuple) else (made,)


def test_attention_of_pytorchs_own(tmp_path: Path) -> None:
    import torch

    import bot_onnx.torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = torch.nn.Linear(6, 32)
            self.norm = torch.nn.LayerNorm(32)
            self.attention = torch.nn.MultiheadAttention(32, 4, batch_first=True)
            self.down = torch.nn.Linear(32, 3)

        def forward(self, x: Any) -> Any:
            x = self.up(x)
            normed = self.norm(x)
            return self.down(x + self.attention(normed, normed, normed, need_weights=False)[0])

    torch.manual_seed(0)
    module = Net().train()
    source = exported(module, torch.zeros(2, 5, 6), tmp_path / "net.onnx")
    sizes = {dim.name: dim for dim in bot_onnx.inspect(source).structure.dims.values()}
    width = next(dim.name for dim in sizes.values() if dim.size == 32 and dim.kind == "leaf")
    small = bot_onnx.resize(source, {"dims": {width: 16}, "heads": 2}, tmp_path / "small.onnx").output
    loaded = bot_onnx.torch.load_into(module, small)
    assert loaded.difference is not None and loaded.difference <= 1e-5
    assert (module.attention.embed_dim, module.attention.num_heads, module.attention.head_dim) == (16, 2, 8)
