"""Speech, and recurrent networks."""

from __future__ import annotations

from benchmarks.coverage.cases.sized import sized
from benchmarks.coverage.cases.transformer import WAVE, transformer

_NETWORKS = "benchmarks.coverage.builders.sequence"
_SPEECH = {
    "conv_dim": [32, 32], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 64, "num_conv_pos_embedding_groups": 4, "vocab_size": 32,
}  # fmt: skip

CASES = [
    transformer("wav2vec2", "Wav2Vec2Model", inputs=WAVE, extra=_SPEECH, spec={"dims": {"conv_groups": 4}}),
    sized("conformer", f"{_NETWORKS}:conformer", lambda wide, n: {"hidden": wide(64), "layers": n}, depth=True),
    sized("lstm", f"{_NETWORKS}:recurrent", lambda wide, _: {"kind": "LSTM", "hidden": wide(32)}),
    sized("gru", f"{_NETWORKS}:recurrent", lambda wide, _: {"kind": "GRU", "hidden": wide(32)}),
    sized(
        "bilstm", f"{_NETWORKS}:recurrent", lambda wide, _: {"kind": "LSTM", "hidden": wide(32), "bidirectional": True}
    ),
]  # fmt: skip
