"""Folders as the hubs have them, made by hand: a small network, its config, and what lies beside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from tests.attention_graphs import VOCAB, Sizes, standard
from tests.graphs import GraphBuilder, residual_mlp

CARD = "---\nlicense: other\nlicense_name: mine\nlanguage:\n- en\n---\n# A model\n"
TOKENIZER = {
    "tokenizer.json": '{"version": "1.0",\r\n "model": {}}\n',
    "tokenizer_config.json": '{"model_max_length": 512}',
    "special_tokens_map.json": '{"cls_token": "[CLS]"}',
    "vocab.txt": "[PAD]\n[CLS]\n",
}
BERT = """{
  "architectures": ["BertModel"],
  "hidden_act":   "gelu",
  "hidden_size": 24, "initializer_range": 2e-2,
  "intermediate_size": 48,
  "max_position_embeddings": 24,
  "model_type": "bert",
  "num_attention_heads": 4,
  "num_hidden_layers": 3,
  "pad_token_id": 0,
  "type_vocab_size": 2,
  "vocab_size": 11
}
"""
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 24, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 11, "rope_theta": 1e4,
    "tie_word_embeddings": False,
}  # fmt: skip


def network(*, kv_heads: int = 4, head: bool = True, inner: int = 48) -> onnx.ModelProto:
    """Tokens to logits, or to the residual stream; attention is one op."""
    s, b = Sizes(kv_heads=kv_heads), GraphBuilder()
    x = b.op("Gather", b.weight(VOCAB, s.hidden, name="words"), "tokens")
    for _ in range(s.layers):
        x = b.op("Add", x, b.op("MatMul", standard(b, _norm(b, x, s), s), b.weight(s.heads * s.head_dim, s.hidden)))
        hidden = b.op("Relu", b.op("MatMul", _norm(b, x, s), b.weight(s.hidden, inner)))
        x = b.op("Add", x, b.op("MatMul", hidden, b.weight(inner, s.hidden)))
    x = _norm(b, x, s)
    x = b.op("MatMul", x, b.weight(s.hidden, VOCAB)) if head else x
    model = b.model([("tokens", ["batch", "sequence"])], [x], integer_inputs=["tokens"], opset=23, rank=3)
    model.ir_version = 10
    return model


def write(folder: Path, model: onnx.ModelProto, files: Mapping[str, Any], *, place: str = "model.onnx") -> Path:
    """A folder with a model and files: texts as they are, all else as JSON."""
    for name, value in {**TOKENIZER, "README.md": CARD, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            path.write_bytes(value)
        else:
            text = value if isinstance(value, str) else json.dumps(value, indent=2)
            path.write_text(text, newline="")
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / place)
    return folder


def bert(folder: Path) -> Path:
    """An encoder as transformers has it, with the weights of PyTorch beside."""
    return write(folder, network(), {"config.json": BERT, "pytorch_model.bin": b"\0old", "model.safetensors": b"\0"})


def sentence_encoder(folder: Path) -> Path:
    """A sentence encoder, exported by Optimum: the model in ``onnx/``."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = '{"word_embedding_dimension": 24, "pooling_mode_mean_tokens": true}\n'
    files = {
        "config.json": BERT, "modules.json": modules, "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": 24}, "notes.txt": "of its makers\n", "image.png": b"\x89PNG\0",
    }  # fmt: skip
    return write(folder, network(head=False), files, place="onnx/model.onnx")


def llama(folder: Path) -> Path:
    """A decoder with grouped queries."""
    return write(folder, network(kv_heads=2), {"config.json": LLAMA, "generation_config.json": {"eos_token_id": 2}})


def convolutional(folder: Path) -> Path:
    """A network of timm's whose constructor has the sizes; here one without attention."""
    b = residual_mlp(3, 16, 32)
    config = {"architecture": "resmlp_12_224", "num_classes": 3, "num_features": 16, "pretrained_cfg": {"tag": "x"}}
    model = b.model([("x", ["batch", 4])], [b.nodes[-1].output[0]])
    return write(folder, model, {"config.json": config})


def _norm(b: GraphBuilder, x: str, s: Sizes) -> str:
    return b.op("LayerNormalization", x, b.weight(s.hidden), b.weight(s.hidden))
