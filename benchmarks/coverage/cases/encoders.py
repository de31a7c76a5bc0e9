"""Encoders of text."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.coverage.cases.transformer import BASE, transformer

_SMALL = {"vocab_size": 97, "max_position_embeddings": 40}

CASES = [
    transformer("bert", "BertModel", extra=_SMALL),
    transformer(
        "distilbert", "DistilBertModel", extra=_SMALL,
        fields={"layers": "n_layers", "hidden": "dim", "heads": "n_heads", "intermediate": "hidden_dim"},
    ),
    transformer("electra", "ElectraModel", extra=_SMALL | {"embedding_size": 24}),
    transformer("mpnet", "MPNetModel", extra=_SMALL),
    transformer(
        "albert", "AlbertModel", extra=_SMALL | {"embedding_size": 24}, keys=("hidden", "heads", "intermediate"),
        fields={"layers": []},
    ),
    transformer("roberta", "RobertaModel", extra=_SMALL | {"pad_token_id": 1}),
    transformer(
        "deberta", "DebertaV2Model",
        extra=_SMALL | {
            "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
            "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
            "max_relative_positions": -1,
        },
    ),
    transformer(
        "modernbert", "ModernBertModel", size=replace(BASE, layers=6),
        extra=_SMALL | {
            "global_attn_every_n_layers": 3, "local_attention": 8, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
        },
    ),
]  # fmt: skip
