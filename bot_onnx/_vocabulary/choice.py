"""Which tokens stay: those of a text, the most frequent first, and what they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from bot_onnx._vocabulary.closure import Closure
from bot_onnx._vocabulary.tokenizer import Tokenizer
from bot_onnx.errors import DataError

BATCH = 1024  #: lines encoded at a time


@dataclass(frozen=True, slots=True)
class Choice:
    """Tokens that stay.

    Attributes:
        ids: in ascending order. lines: of the text. seen: different tokens in it. counted: tokens in it.
        covered: of these, the tokens that stay.
    """

    ids: tuple[int, ...]
    lines: int = 0
    seen: int = 0
    counted: int = 0
    covered: int = 0


def choose(
    tokenizer: Tokenizer,
    lines: Iterable[tuple[str, str]] | None,
    *,
    also: Iterable[int] = (),
    size: int | None = None,
) -> Choice:
    """Choose the tokens that stay.

    Args:
        tokenizer: the whole one.
        lines: a text with the place of every line; None: only what ``also`` names, and what must stay, does.
        also: ids that stay as well.
        size: most tokens that stay; None: all that the text has.

    Raises:
        DataError: the text is empty, ``size`` is too small for what must stay, or an id is no token's.
    """
    closure = Closure(tokenizer)
    kept = set(closure.always)
    for ident in also:
        if ident not in tokenizer.tokens:
            raise DataError(f"token {ident} is to be kept, and {tokenizer.place} has none of that id")
        kept |= closure.parts(ident)
    counts, number = Counter[int](), 0
    if lines is not None:
        begun = set[int]()
        unknown = tokenizer.ids.get(tokenizer.model.get("unk_token") or "")
        for batch in batches(lines):
            number += len(batch)
            for line, ids in zip(batch, tokenizer.encoded([line for line, _ in batch]), strict=True):
                counts.update(ids)
                begun |= closure.begun(line[0]) if unknown in ids else set()
        if not number:
            raise DataError("the text has no lines: give one like those that the model is to read")
        for ident in begun:
            kept |= closure.parts(ident)
    if size is not None and len(kept) > size:
        raise DataError(
            f"{len(kept):,} tokens stay in any case (special ones, bytes, those that are named), and {size:,} are "
            "asked for: ask for more"
        )
    for ident, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        needed = closure.parts(ident) - kept
        if size is None or len(kept) + len(needed) <= size:
            kept |= needed
    covered = sum(count for ident, count in counts.items() if ident in kept)
    return Choice(tuple(sorted(kept)), number, len(counts), counts.total(), covered)


def batches(lines: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Lines, some at a time."""
    given = iter(lines)
    while batch := list(islice(given, BATCH)):
        yield batch
