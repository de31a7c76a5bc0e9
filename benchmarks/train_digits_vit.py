"""Trains the model that ships with the demo: a small pre-norm Vision Transformer on scikit-learn's 8 x 8 digits.

The split is stratified and seeded, 1,437 images to train on and 360 held out. The held-out images take no part in
training: the schedule is fixed, there is no early stopping and no checkpoint is selected. Two files are written:

* ``digits_vit.onnx``: input ``image``, float32 (batch, 1, 8, 8), grey values 0 to 16 exactly as scikit-learn gives
  them (the graph itself maps them to -1 … 1); output ``logits``, float32 (batch, 10).
* ``digits_test.npz``: the held-out ``images``, uint8 (360, 8, 8), and ``labels``, uint8 (360,).

Needs torch, scikit-learn, onnx and onnxscript::

    python -m benchmarks.train_digits_vit --out bot_onnx/demo
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import Message
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

OPSET = 18
TEST_IMAGES = 360
GREY_MAX = 16.0


@dataclass(frozen=True, slots=True)
class VitConfig:
    """Sizes of the network; ``hidden`` must be a multiple of ``heads``."""

    image: int = 8
    patch: int = 2
    hidden: int = 64
    heads: int = 4
    intermediate: int = 256
    layers: int = 6
    classes: int = 10

    @property
    def tokens(self) -> int:
        """Number of patches, without the class token."""
        return (self.image // self.patch) ** 2


@dataclass(frozen=True, slots=True)
class Schedule:
    """AdamW with linear warm-up and cosine decay, fixed in advance."""

    epochs: int = 120
    batch: int = 64
    rate: float = 1.5e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    smoothing: float = 0.05


class Attention(nn.Module):
    """Multi-head self-attention with separate query, key and value maps (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, config: VitConfig) -> None:
        """Makes the four linear maps, each (hidden, hidden)."""
        super().__init__()
        self.heads = config.heads
        self.head_dim = config.hidden // config.heads
        self.query = nn.Linear(config.hidden, config.hidden)
        self.key = nn.Linear(config.hidden, config.hidden)
        self.value = nn.Linear(config.hidden, config.hidden)
        self.output = nn.Linear(config.hidden, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, tokens, hidden) to the same shape: softmax(q kᵀ / √head_dim) v, then the output map."""
        q, k, v = (self._split(linear(x)) for linear in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_dim)
        mixed = scores.softmax(dim=-1) @ v
        merged: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return merged

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = torch.unflatten(x, 2, (self.heads, self.head_dim))
        return heads.transpose(1, 2)


class Block(nn.Module):
    """One pre-norm layer: x + attention(norm(x)), then x + mlp(norm(x)) (Xiong et al. 2020)."""

    def __init__(self, config: VitConfig) -> None:
        """Makes the two norms, the attention and the two-layer perceptron."""
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden)
        self.attention = Attention(config)
        self.norm2 = nn.LayerNorm(config.hidden)
        self.expand = nn.Linear(config.hidden, config.intermediate)
        self.contract = nn.Linear(config.intermediate, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, tokens, hidden) to the same shape."""
        x = x + self.attention(self.norm1(x))
        deeper: Tensor = x + self.contract(functional.gelu(self.expand(self.norm2(x))))
        return deeper


class VisionTransformer(nn.Module):
    """ViT with a class token and learned positions (Dosovitskiy et al. 2021), no dropout.

    The class token is concatenated and the position table is added, both as they are stored, so that a resized copy
    of the network can keep its function exactly.
    """

    def __init__(self, config: VitConfig) -> None:
        """Makes the network with truncated normal weights of standard deviation 0.02."""
        super().__init__()
        self.patches = nn.Conv2d(1, config.hidden, kernel_size=config.patch, stride=config.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.hidden))
        self.positions = nn.Parameter(torch.zeros(1, config.tokens + 1, config.hidden))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden)
        self.head = nn.Linear(config.hidden, config.classes)
        self.apply(self._initialise)
        for table in (self.class_token, self.positions):
            nn.init.trunc_normal_(table, std=0.02)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Maps grey values (batch, 1, 8, 8) from 0 to 16 to logits (batch, 10)."""
        x = self.patches(image / (GREY_MAX / 2) - 1.0).flatten(2).transpose(1, 2)
        token = self.class_token.expand(x.shape[0], -1, -1)
        x = torch.cat((token, x), dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x)[:, 0])
        return logits


@dataclass(frozen=True, slots=True)
class Split:
    """Images float32 (n, 1, 8, 8) with grey values 0 to 16, and labels int64 (n,)."""

    images: Tensor
    labels: Tensor


def digits(seed: int) -> tuple[Split, Split]:
    """Loads the data set and returns its (train, test) split, stratified by class."""
    data = load_digits()
    parts = train_test_split(data.images, data.target, test_size=TEST_IMAGES, stratify=data.target, random_state=seed)
    train_images, test_images, train_labels, test_labels = parts

    def split(images: NDArray[np.float64], labels: NDArray[np.int64]) -> Split:
        pixels = torch.from_numpy(images.astype(np.float32)).unsqueeze(1)
        return Split(pixels, torch.from_numpy(labels.astype(np.int64)))

    return split(train_images, train_labels), split(test_images, test_labels)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Moves every image (n, 1, 8, 8) by -1, 0 or 1 pixel along each axis; what comes in is background."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (1, 1, 1, 1))[:, 0]
    offsets = torch.randint(0, 3, (2, count, 1), generator=generator)
    rows = (offsets[0] + torch.arange(height))[:, :, None]
    columns = (offsets[1] + torch.arange(width))[:, None, :]
    return padded[torch.arange(count)[:, None, None], rows, columns].unsqueeze(1)


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate at ``step`` of ``steps``: linear from 0 to 1, then half a cosine down to 0."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def train(model: nn.Module, data: Split, schedule: Schedule, seed: int) -> None:
    """Trains in place with cross-entropy; same seed and same number of threads, same weights."""
    generator = torch.Generator().manual_seed(seed)
    steps_per_epoch = math.ceil(len(data.labels) / schedule.batch)
    steps = steps_per_epoch * schedule.epochs
    optimiser = torch.optim.AdamW(model.parameters(), lr=schedule.rate, weight_decay=schedule.weight_decay)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, steps, schedule.warmup))
    model.train()
    for epoch in range(schedule.epochs):
        total = 0.0
        order = torch.randperm(len(data.labels), generator=generator)
        for chosen in torch.tensor_split(order, list(range(schedule.batch, len(order), schedule.batch))):
            logits = model(shifted(data.images[chosen], generator))
            loss = functional.cross_entropy(logits, data.labels[chosen], label_smoothing=schedule.smoothing)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            decay.step()
            total += loss.item() * len(chosen)
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:4d} of {schedule.epochs}  loss {total / len(data.labels):.4f}", flush=True)


@torch.inference_mode()
def accuracy(model: nn.Module, data: Split) -> float:
    """Share of images whose largest logit is at their label."""
    model.eval()
    predicted = model(data.images).argmax(dim=1)
    return float((predicted == data.labels).double().mean())


def strip(message: Message) -> None:
    """Clears doc strings and metadata everywhere below ``message``: the exporter puts stack traces there."""
    for name in ("metadata_props", "doc_string"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for descriptor, value in message.ListFields():
        if descriptor.type != descriptor.TYPE_MESSAGE:
            continue
        for child in [value] if isinstance(value, Message) else value:
            strip(child)


def export(model: nn.Module, config: VitConfig, path: Path) -> None:
    """Writes the model as one ONNX file with a dynamic batch axis, without paths of the exporting machine."""
    model.eval()
    example = torch.zeros(2, 1, config.image, config.image)
    options: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"], "opset_version": OPSET}
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False, **options)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing: this version of torch does not support dynamo=True")
    proto = program.model_proto
    strip(proto)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def save_test_split(data: Split, path: Path) -> None:
    """Writes ``images`` (n, 8, 8) and ``labels`` (n,), both uint8: the grey values are whole numbers up to 16."""
    images = data.images[:, 0].numpy().astype(np.uint8)
    np.savez_compressed(path, images=images, labels=data.labels.numpy().astype(np.uint8))


def main() -> None:
    """Trains, reports both accuracies and writes the two files."""
    parser = argparse.ArgumentParser(description="Train the demo's Vision Transformer and export it to ONNX.")
    parser.add_argument("--out", type=Path, default=Path("bot_onnx/demo"), help="folder for the two files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=Schedule().epochs)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    # One thread: the order of a parallel sum depends on their number, and with it the trained weights.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)
    config, schedule = VitConfig(), Schedule(epochs=options.epochs)
    training, test = digits(options.seed)
    model = VisionTransformer(config)
    train(model, training, schedule, options.seed)
    print(f"accuracy  train {accuracy(model, training):.4f}  test {accuracy(model, test):.4f}")

    model_path, data_path = options.out / "digits_vit.onnx", options.out / "digits_test.npz"
    export(model, config, model_path)
    save_test_split(test, data_path)
    for path in (model_path, data_path):
        print(f"wrote {path}  {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
