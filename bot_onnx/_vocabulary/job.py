"""From a text or a list of ids to tokens that stay, a tokenizer that has them, and what was shown of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bot_onnx._request import PathOrName
from bot_onnx._vocabulary.choice import Choice, choose
from bot_onnx._vocabulary.cut import cut_tokenizer
from bot_onnx._vocabulary.lines import text_lines
from bot_onnx._vocabulary.proof import Shown, show_on
from bot_onnx._vocabulary.tokenizer import Tokenizer


def tokens_of(
    tokenizer: PathOrName, texts: Iterable[PathOrName], *, also: Iterable[int] = (), size: int | None = None
) -> tuple[int, ...]:
    """The tokens that texts need, for ``{"vocab": {"keep": ids}}`` in a spec; see docs/vocabulary.md.

    Args:
        tokenizer: a ``tokenizer.json``.
        texts: files, a line a sample. It is shown on them that a tokenizer with these tokens alone gives the same.
        also: ids that stay as well.
        size: most tokens that stay, the most frequent ones; None: all that the texts have.

    Returns:
        Ids in ascending order, with those of special tokens and of all parts that tokens are put together from.

    Raises:
        DataError: a file cannot be read, the texts are empty, or ``size`` is too small for what must stay.
        MissingRuntimeError: the extra ``vocabulary`` is not installed.

    Examples:
        >>> ids = bot_onnx.tokens_of("tokenizer.json", ["lines.txt"], size=2000)  # doctest: +SKIP
        >>> bot_onnx.resize("folder", {"vocab": {"keep": ids}}, "small-folder")  # doctest: +SKIP
    """
    return cut_vocabulary(Tokenizer.read(Path(tokenizer)), list(map(Path, texts)), also=also, size=size).ids


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A vocabulary that was cut.

    Attributes:
        choice: the tokens that stay. cut: the tokenizer that has these.
        shown: what the text showed; None where there was none.
    """

    choice: Choice
    cut: Tokenizer
    shown: Shown | None

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the tokens that stay, in order."""
        return self.choice.ids


def cut_vocabulary(
    whole: Tokenizer, texts: Sequence[Path] = (), *, also: Iterable[int] = (), size: int | None = None
) -> Vocabulary:
    """Choose the tokens of a text, cut the tokenizer, and show on the text that it gives the same.

    Args:
        whole: the tokenizer. texts: files of text; none: the tokens are those of ``also`` alone.
        also: ids that stay as well. size: most tokens that stay.

    Raises:
        DataError: see :func:`choose`, :func:`cut_tokenizer`, :func:`show_on`.
    """
    choice = choose(whole, text_lines(texts) if texts else None, also=also, size=size)
    cut = cut_tokenizer(whole, choice.ids)
    shown = show_on(whole, cut, choice.ids, text_lines(texts)) if texts else None
    return Vocabulary(choice, cut, shown)
