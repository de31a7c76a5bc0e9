"""Showing on a text that a cut tokenizer gives what the whole one gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bot_onnx._vocabulary.choice import batches
from bot_onnx._vocabulary.tokenizer import Tokenizer
from bot_onnx.errors import DataError


@dataclass(frozen=True, slots=True)
class Shown:
    """What a text shows.

    Attributes:
        lines: of the text. same: those that are made of the same tokens as before; in all others a token went.
    """

    lines: int
    same: int


def show_on(whole: Tokenizer, cut: Tokenizer, kept: Sequence[int], lines: Iterable[tuple[str, str]]) -> Shown:
    """Encode every line by both tokenizers.

    Args:
        whole, cut: the tokenizers. kept: ids of the whole one's tokens that stay, in order.
        lines: a text with the place of every line.

    Raises:
        DataError: a line all of whose tokens stay is made of others.
    """
    new = {old: place for place, old in enumerate(kept)}
    number = same = 0
    for batch in batches(lines):
        texts = [text for text, _ in batch]
        number += len(batch)
        for (_, place), before, after in zip(batch, whole.encoded(texts), cut.encoded(texts), strict=True):
            if not new.keys() >= set(before):
                continue
            if [new[ident] for ident in before] != after:
                raise DataError(
                    f"{place}: the cut tokenizer makes other tokens of it ({after[:8]}…, not "
                    f"{[new[ident] for ident in before][:8]}…), so that nothing is cut; keep more of {whole.place}"
                )
            same += 1
    return Shown(number, same)
