"""Vocabularies: which tokens a text needs, and a tokenizer that has these alone.

A tokenizer is a ``tokenizer.json`` of the ``tokenizers`` library. What it makes of a text whose tokens all stay is the
same but for their numbers: that is shown on the text before anything is written.
"""

from bot_onnx._vocabulary.configs import named_ids, renumbered
from bot_onnx._vocabulary.cut import cut_tokenizer
from bot_onnx._vocabulary.job import Vocabulary, cut_vocabulary, tokens_of
from bot_onnx._vocabulary.lists import id_map, read_ids
from bot_onnx._vocabulary.tokenizer import TOKENIZER, Tokenizer

__all__ = [
    "TOKENIZER",
    "Tokenizer",
    "Vocabulary",
    "cut_tokenizer",
    "cut_vocabulary",
    "id_map",
    "named_ids",
    "read_ids",
    "renumbered",
    "tokens_of",
]
