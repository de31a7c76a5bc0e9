"""Two networks with an encoder and a decoder, T5 and Whisper, from configurations alone; exports are kept in a cache.

Nothing is imported from PyTorch until a network is built.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.zoo.architectures import Built
from tests.zoo.export import cached, export_built, quiet

if TYPE_CHECKING:
    import torch

NAMES = ("t5", "whisper")
VOCAB, MELS = 97, 8
#: Inputs in the order of the exported graph.
INPUTS = {
    "t5": ("input_ids", "attention_mask", "decoder_input_ids"),
    "whisper": ("input_features", "decoder_input_ids", "decoder_attention_mask"),
}


class Width(NamedTuple):
    """Size of both halves of a network; heads have 16 channels."""

    layers: int = 3
    hidden: int = 64
    heads: int = 4
    intermediate: int = 128


def framework_model(name: str, width: Width, seed: int = 0) -> Any:
    """The framework's own model with random weights, in eval mode."""
    with quiet():
        from bot_onnx._recover.extras import import_torchvision

        import_torchvision()
        import transformers

        from tests.zoo.networks import randomise

        if name == "t5":
            config = transformers.T5Config(
                vocab_size=VOCAB, d_model=width.hidden, d_kv=16, d_ff=width.intermediate, num_layers=width.layers,
                num_decoder_layers=width.layers, num_heads=width.heads, relative_attention_num_buckets=8,
                relative_attention_max_distance=16, decoder_start_token_id=0,
            )  # fmt: skip
            model = transformers.T5ForConditionalGeneration(config)
            model.set_attn_implementation("eager")  # the newer exporter stumbles over the other one
        else:
            config = transformers.WhisperConfig(
                vocab_size=VOCAB, num_mel_bins=MELS, d_model=width.hidden, encoder_layers=width.layers,
                decoder_layers=width.layers, encoder_attention_heads=width.heads,
                decoder_attention_heads=width.heads, encoder_ffn_dim=width.intermediate,
                decoder_ffn_dim=width.intermediate, max_source_positions=20, max_target_positions=24,
                pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, suppress_tokens=None,
                begin_suppress_tokens=None,
            )  # fmt: skip
            model = transformers.WhisperForConditionalGeneration(config)
        randomise(model, seed)
        return model.eval()


def exported(name: str, exporter: str) -> Path:
    """The network at its base size, from weights of seed 0; the graph shows logits."""
    source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()

    def write(path: Path) -> None:
        export_built(_built(name), exporter, path)

    return cached(f"{name}_{exporter}", repr((name, exporter, source)), write)


def _built(name: str) -> Built:
    import torch

    model = framework_model(name, Width())
    tokens, targets = torch.randint(3, VOCAB, (2, 9)), torch.randint(3, VOCAB, (2, 7))
    sequence, target = {0: "batch", 1: "sequence"}, {0: "batch", 1: "target"}
    if name == "t5":
        values: tuple[torch.Tensor, ...] = (tokens, torch.ones_like(tokens), targets)
        axes = (sequence, sequence, target)
    else:
        values = (torch.randn(2, MELS, 40), targets, torch.ones_like(targets))
        axes = ({0: "batch"}, target, target)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            given = dict(zip(INPUTS[name], (a, b, c), strict=True))
            logits: torch.Tensor = self.model(**given, use_cache=False).logits
            return logits

    return Built(
        Logits().eval(),
        values,
        INPUTS[name],
        ("logits",),
        dict(zip(INPUTS[name], axes, strict=True)) | {"logits": target},
    )
