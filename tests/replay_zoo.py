"""Small resizes of every kind, as command lines: what a saved plan must be able to do again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import QuantType

from benchmarks.synthetic import BertConfig, bert
from tests.attention_graphs import Sizes, cached_decoder, decoder
from tests.graphs import residual_mlp_model, save
from tests.system.oracle.flow.bodies import branching, looping
from tests.system.oracle.flow.test_recurrent_layers import stacked_model
from tests.system.oracle.flow.test_spec_questions import scaled_attention
from tests.system.oracle.sequence import key_heads
from tests.system.oracle.sequence.graphs import shown_states
from tests.system.oracle.test_calibration import half_asleep, samples
from tests.system.oracle.test_growth import network
from tests.unit.canonical.test_saturation import convolutions, quantised

BERT = BertConfig(layers=3, hidden=16, heads=4, intermediate=24, vocab=29, positions=12, std=0.3)
ATTENTION = Sizes(hidden=16, heads=4, kv_heads=2, head_dim=16)


@dataclass(frozen=True, slots=True)
class Case:
    """A source, and the options of ``resize`` that are asked of it.

    Attributes:
        write: writes the source into a folder, with what the options name, and returns its path.
        options: without ``-o``; a text that begins with ``@`` is a file in the folder.
        again: options that the replay needs as well: files that a plan does not hold.
    """

    write: Callable[[Path], Path]
    options: tuple[str, ...]
    again: tuple[str, ...] = ()

    def arguments(self, folder: Path) -> list[str]:
        """The options of the run that makes the plan."""
        return _named(self.options, folder)

    def repeated(self, folder: Path) -> list[str]:
        """The options of the run that repeats it."""
        return _named(self.again, folder)


def _named(options: tuple[str, ...], folder: Path) -> list[str]:
    return [str(folder / one[1:]) if one.startswith("@") else one for one in options]


def of(model: Callable[[], onnx.ModelProto]) -> Callable[[Path], Path]:
    return lambda folder: save(model(), folder)


def _asleep(folder: Path) -> Path:
    samples(folder)
    return save(half_asleep(), folder)


def _measured(folder: Path) -> Path:
    np.savez(folder / "samples.npz", x=np.random.default_rng(0).standard_normal((21, 4)).astype(np.float32))
    return save(residual_mlp_model(layers=5), folder)


def _asked(folder: Path) -> Path:
    (folder / "spec.json").write_text(json.dumps({"head_dim": 8, "constants": {"node_mul*": 0.1234}}))
    return save(scaled_attention(6, 0.2137), folder)


def _quantised(form: str) -> Callable[[Path], Path]:
    return lambda folder: quantised(convolutions(gain=0.5), folder, form, QuantType.QUInt8)


def _outside(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(bert(BERT), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


CASES: dict[str, Case] = {
    "encoder": Case(of(lambda: bert(BERT)), ("--hidden", "8", "--heads", "2", "--layers", "2")),
    "encoder-deeper": Case(of(lambda: bert(BERT)), ("--layers", "5", "--seed", "7", "--details", "gaussian")),
    "encoder-head-dim": Case(of(lambda: bert(BERT)), ("--head-dim", "8", "--hidden", "32")),
    "permute": Case(of(lambda: bert(BERT)), ("--intermediate", "12", "--align", "permute")),
    "select": Case(of(lambda: bert(BERT)), ("--hidden", "8", "--heads", "2", "--align", "select")),
    "rotate": Case(of(half_asleep), ("--hidden", "8", "--align", "rotate")),
    "calibrated": Case(_asleep, ("--hidden", "8", "--align", "rotate", "--calibration", "@samples.npz"),
                       ("--calibration", "@samples.npz")),
    "uneven": Case(lambda folder: network(folder, "layer"), ("--hidden", "18", "--layers", "5")),
    "net2net": Case(lambda folder: network(folder, "op"), ("--hidden", "24", "--method", "net2net", "--seed", "3")),
    "scratch": Case(of(residual_mlp_model), ("--hidden", "12", "--method", "scratch", "--seed", "9")),
    "ws": Case(of(residual_mlp_model), ("--hidden", "4", "--method", "ws")),
    "bert2bert": Case(of(residual_mlp_model), ("--hidden", "16", "--layers", "6", "--method", "bert2bert")),
    "front": Case(of(residual_mlp_model), ("--hidden", "4", "--method", "front")),
    "stack": Case(of(residual_mlp_model), ("--layers", "6", "--method", "stack")),
    "interleave": Case(of(residual_mlp_model), ("--layers", "6", "--method", "interleave")),
    "lstm": Case(of(lambda: stacked_model("LSTM")), ("--hidden", "12", "--layers", "layers=3")),
    "convolutions": Case(of(lambda: convolutions(gain=0.5)), ("--width", "2")),
    "branches": Case(of(branching), ("--hidden", "12", "--layers", "4")),
    "loop": Case(of(looping), ("--width", "1.5")),
    "fused-attention": Case(of(lambda: decoder("grouped", ATTENTION)), ("--heads", "8", "--kv-heads", "4",
                                                                         "--layers", "4")),
    "caches": Case(of(lambda: cached_decoder(ATTENTION)), ("--layers", "2", "--head-dim", "32")),
    "more-ports": Case(of(shown_states), ("--layers", "5")),
    "kv-heads": Case(of(key_heads.decoder), ("--kv-heads", "2")),
    "kv-heads-wider": Case(of(lambda: key_heads.decoder("folded")), ("--kv-heads", "4", "--head-dim", "4")),
    "asked-constants": Case(_asked, ("--spec", "@spec.json"), ()),
    "requantised": Case(_quantised("QDQ"), ("--width", "2", "--requantize")),
    "quantised": Case(_quantised("QOperator"), ("--width", "0.5")),
    "external": Case(_outside, ("--hidden", "8", "--heads", "2")),
    "put-outside": Case(of(lambda: bert(BERT)), ("--width", "0.5", "--external", "--unproven")),
    "layers-named": Case(of(lambda: residual_mlp_model(layers=6)), ("--layers", '{"keep": [0, 2, 5]}')),
    "layers-repeated": Case(of(lambda: residual_mlp_model(layers=4)), ("--layers", '{"repeat": [[0, 3], [1, 4]]}',
                                                                       "--hidden", "12")),
    "layers-even": Case(of(lambda: bert(BERT)), ("--layers", "2", "--layers-by", "even")),
    "layers-by-influence": Case(_measured, ("--layers", "3", "--layers-by", "influence", "--calibration",
                                            "@samples.npz"), ("--calibration", "@samples.npz")),
    "keep-magnitude": Case(of(lambda: bert(BERT)), ("--heads", "2", "--intermediate", "12", "--keep", "magnitude")),
    "keep-activation": Case(_measured, ("--intermediate", "8", "--keep", "activation", "--calibration",
                                        "@samples.npz"), ("--calibration", "@samples.npz")),
    "refit-bias": Case(_measured, ("--intermediate", "8", "--refit", "bias", "--calibration", "@samples.npz"),
                       ("--calibration", "@samples.npz")),
    "refit-readers": Case(_measured, ("--intermediate", "8", "--hidden", "12", "--refit", "readers", "--calibration",
                                      "@samples.npz"), ("--calibration", "@samples.npz")),
    "shapes": Case(of(residual_mlp_model), ("--hidden", "12", "--input-shape", "x=3x4")),
}  # fmt: skip
