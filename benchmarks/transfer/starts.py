"""The starts that are compared: resized weights by each method, and the controls that tell what they are worth."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch import nn

import bot_onnx
from benchmarks.environment import cache_folder, whole
from benchmarks.transfer.networks import Size, build

StateDict = dict[str, torch.Tensor]
LEARNED_STEPS = 100
TABLES = ("tokens", "positions", "patches", "class_token", "norm_first")


@dataclass(frozen=True, slots=True)
class Source:
    """A trained network: its ONNX file, its weights by name, its size, its validation loss, samples of its inputs."""

    architecture: str
    path: Path
    state: Mapping[str, torch.Tensor]
    size: Size
    loss: float
    samples: Path | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """How a target network's weights are made.

    Attributes:
        name: in tables. control: whether it is a yardstick, not a method.
        make: (source, target size, seed) -> weights by name; ``deviation=`` as well where it is ``tuned``.
        directions: ``shrink``, ``grow``.
        tuned: some of its weights are random, of a standard deviation that can be chosen.
    """

    name: str
    make: Callable[..., StateDict]
    control: bool = False
    directions: tuple[str, ...] = ("shrink", "grow")
    tuned: bool = False


def resized(source: Source, size: Size, seed: int, **arguments: Any) -> StateDict:
    """Weights of the source resized by bot-onnx, read back from the file that it writes.

    Raises:
        AssertionError: the file does not hold exactly the target's weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "resized.onnx"
        bot_onnx.resize(source.path, size.spec(), out, seed=seed, **arguments)
        tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    state = {}
    for name, parameter in build(source.architecture, size).named_parameters():
        assert name in tensors, f"{name} is not in the resized file"
        assert tensors[name].shape == tuple(parameter.shape), f"{name} has shape {tensors[name].shape}"
        state[name] = torch.from_numpy(np.array(tensors[name]))
    return state


def scratch(source: Source, size: Size, seed: int, deviation: float = 0.02) -> StateDict:
    """Random weights; nothing of the source."""
    return _state(build(source.architecture, size, deviation=deviation, seed=seed))


def shuffled(source: Source, size: Size, seed: int) -> StateDict:
    """The default start, the elements of every tensor in random order: amplitudes without knowledge."""
    generator = torch.Generator().manual_seed(seed)
    state = resized(source, size, seed)
    return {n: t.flatten()[torch.randperm(t.numel(), generator=generator)].reshape(t.shape) for n, t in state.items()}


def embeddings_only(source: Source, size: Size, seed: int, deviation: float = 0.02) -> StateDict:
    """Embeddings and positions of the default start, all else random."""
    state, start = scratch(source, size, seed, deviation), resized(source, size, seed)
    return {name: start[name] if name.startswith(TABLES) else tensor for name, tensor in state.items()}


def random_projection(source: Source, size: Size, seed: int) -> StateDict:
    """Hidden through one random orthonormal matrix, neurons through one a layer, the first heads, even layers.

    W′ = √(ρ_out ρ_in) R_out W R_inᵀ when shrinking, with orthonormal rows R (columns, without the gain, when growing):
    what is left of a method that keeps a subspace once the choice of the subspace is taken away.
    """
    generator = torch.Generator().manual_seed(seed)
    small, large = sorted((source.size.hidden, size.hidden))
    shared = _orthonormal(small, large, generator)
    turn = shared if size.hidden == small else shared.T
    inner = {f"blocks.{k}.": _orthonormal(4 * small, 4 * large, generator) for k in range(size.layers)}
    inner = {name: table if size.hidden == small else table.T for name, table in inner.items()}
    heads = torch.eye(small, large) if size.hidden == small else _orthonormal(small, large, generator).T
    gain = (source.size.hidden / size.hidden) ** 0.5 if size.hidden == small else 1.0
    state: StateDict = {}
    for name, parameter in build(source.architecture, size).named_parameters():
        origin, scope = name, ""
        if name.startswith("blocks."):
            _, index, rest = name.split(".", 2)
            scope = f"blocks.{index}."
            origin = f"blocks.{int(index) * source.size.layers // size.layers}.{rest}"
        weight = source.state[origin].clone()
        if "norm" in name:
            state[name] = torch.ones(size.hidden) if name.endswith("weight") else torch.zeros(size.hidden)
            continue
        for axis in range(weight.dim()):
            if weight.shape[axis] == parameter.shape[axis]:
                continue
            table = _axis_table(name, axis, turn, heads, inner.get(scope))
            weight = torch.movedim(torch.tensordot(table, weight, dims=([1], [axis])), 0, axis) * gain
        state[name] = weight.contiguous()
    return state


def _axis_table(
    name: str, axis: int, hidden: torch.Tensor, heads: torch.Tensor, neurons: torch.Tensor | None
) -> torch.Tensor:
    """The matrix that an axis goes through: (in, out) matrices, biases on their output."""
    part, _, kind = name.rpartition(".")
    output = kind == "bias" or axis == 1
    if part.endswith(("query", "key", "value")) and output:
        return heads
    if part.endswith(".output") and not output:
        return heads
    if (part.endswith(".up") and output) or (part.endswith(".down") and not output):
        assert neurons is not None
        return neurons
    return hidden


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    basis, _ = torch.linalg.qr(torch.randn(columns, rows, generator=generator))
    return basis.T


def _state(network: nn.Module) -> StateDict:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def calibrated(source: Source, size: Size, seed: int) -> StateDict:
    """The default start, its basis found on samples of the training data."""
    return resized(source, size, seed, calibration=source.samples)


def learned(source: Source, size: Size, seed: int, *, mix: bool) -> StateDict:
    """The default start, its operators trained for 100 steps to answer as the source does on those samples.

    The training takes minutes, and is kept by what it depends on: the default start, the source, the samples, the code.
    """
    assert source.samples is not None
    digest = hashlib.sha256(f"{LEARNED_STEPS} {mix} {seed} {_learning_code()}".encode())
    for tensor in resized(source, size, seed).values():
        digest.update(tensor.numpy().tobytes())
    digest.update(source.path.read_bytes() + source.samples.read_bytes())
    kept = cache_folder("transfer") / "learned" / f"{digest.hexdigest()[:24]}.pt"
    if not kept.exists():
        asked = {"steps": LEARNED_STEPS, "data": source.samples, "mix": mix}
        kept.parent.mkdir(exist_ok=True)
        with whole(kept) as part:
            torch.save(resized(source, size, seed, learn=asked), part)
    state: StateDict = torch.load(kept)
    return state


@cache
def _learning_code() -> str:
    """Hash of the code that trains: of operators, and of networks, whose converter it uses."""
    package, digest = Path(bot_onnx.__file__).parent, hashlib.sha256()
    for path in sorted(path for part in ("_learn", "_recover") for path in (package / part).rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()


def _method(name: str, directions: tuple[str, ...] = ("shrink", "grow"), **arguments: Any) -> Start:
    def make(source: Source, size: Size, seed: int) -> StateDict:
        return resized(source, size, seed, **arguments)

    return Start(name, make, directions=directions)


def _as_published(source: Source, size: Size, seed: int) -> StateDict:
    """The literal method, with the wavelets that the paper found for the family."""
    preset = "paper-gpt" if source.architecture == "gpt" else "paper"
    return resized(source, size, seed, method="bot", options={"preset": preset})


def _options(**options: Any) -> dict[str, Any]:
    return {"method": "bot", "options": options}


_SHRINK, _GROW = ("shrink",), ("grow",)

#: Every start by name, in the order of the tables.
STARTS: dict[str, Start] = {
    start.name: start
    for start in [
        _method("bot"),
        Start("bot, paper", _as_published),
        _method("bot, not aligned", _SHRINK, **_options(), align="none"),
        Start("bot, on samples", calibrated, directions=_SHRINK),
        _method("bot, permute", _SHRINK, **_options(), align="permute"),
        Start("bot, learned (LiGO-type)", partial(learned, mix=False)),
        Start("bot, learned with mixing (Mango-type)", partial(learned, mix=True)),
        *(
            _method(f"bot, {wavelet}", _SHRINK, **_options(wavelet=wavelet), align="none")
            for wavelet in ("db2", "coif3", "bior6.8")
        ),
        *(
            _method(f"bot, {wavelet}, zero", _GROW, **_options(wavelet=wavelet, details="zero"))
            for wavelet in ("haar", "db2", "coif3", "bior6.8")
        ),
        _method("bot, gaussian", _GROW, **_options(details="gaussian")),
        _method("bot, uniform", _GROW, **_options(details="uniform")),
        _method("bot, in-band x2", _GROW, **_options(details="in-band", noise_scale=2.0)),
        _method("bot, in-band x4", _GROW, **_options(details="in-band", noise_scale=4.0)),
        _method("bot, coif3, in-band", _GROW, **_options(wavelet="coif3", details="in-band")),
        *(_method(f"bot, layers by {mode}", _GROW, **_options(layer_axis=mode)) for mode in ("interleave", "stack")),
        _method("bot, LEMON splits", _GROW, **_options(details="shares")),
        _method("bot, fresh readers", _GROW, **_options(fresh_readers=0.12)),
        _method("bot, x2, fresh readers", _GROW, **_options(noise_scale=2.0, fresh_readers=0.12)),
        _method("front", method="front"),
        _method("front, as published", method="front", options={"preset": "published"}),
        _method("ws", _SHRINK, method="ws"),
        _method("ws, as published", _SHRINK, method="ws", options={"preset": "published"}),
        _method("bert2bert FPI", _GROW, method="bert2bert", options={"variant": "fpi"}),
        _method("bert2bert AKI", _GROW, method="bert2bert", options={"variant": "aki"}),
        _method("net2net", _GROW, method="net2net"),
        Start("shuffled", shuffled, control=True),
        Start("embeddings only", embeddings_only, control=True, tuned=True),
        Start("random projection", random_projection, control=True),
        Start("scratch", scratch, control=True, tuned=True),
    ]
}

_MAIN = (
    "bot",
    "bot, paper",
    "bot, not aligned",
    "bot, on samples",
    "bot, haar, zero",
    "bot, gaussian",
    "bot, uniform",
    "bot, in-band x2",
    "bot, coif3, in-band",
    "bot, LEMON splits",
    "bot, fresh readers",
    "bot, x2, fresh readers",
    "front",
    "front, as published",
    "ws",
    "ws, as published",
    "bert2bert AKI",
    "shuffled",
    "embeddings only",
    "random projection",
    "scratch",
)


def main_starts(architecture: str) -> tuple[str, ...]:
    """What the quick table shows; permute beside the default, which turns a post-norm network nearly, not exactly."""
    return (*_MAIN, "bot, permute") if architecture == "bert" else _MAIN
