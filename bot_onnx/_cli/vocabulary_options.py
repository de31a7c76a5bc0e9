"""The options of ``resize`` that cut the vocabulary: by a text, or by a list of tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bot_onnx._cli.folders import check_beside
from bot_onnx._cli.parameters import F, option
from bot_onnx._cli.paths import ReadPath
from bot_onnx._cli.target import SECTION

if TYPE_CHECKING:
    from bot_onnx._folders.layout import Folder
    from bot_onnx._surgery.types import Plan
    from bot_onnx._vocabulary import Tokenizer, Vocabulary


def vocabulary_options(command: F) -> F:
    """Add ``--vocab-from``, ``--vocab-keep`` and ``--vocab-size``; ``--tokenizer`` is that of the data's options."""
    file = ReadPath()
    declared = (
        option(
            SECTION,
            "--vocab-from",
            type=file,
            multiple=True,
            metavar="TEXT",
            help="Keep the tokens of a text, a line a sample; the tokenizer is cut as well. May be repeated.",
        ),
        option(
            SECTION,
            "--vocab-keep",
            type=file,
            metavar="FILE",
            help="Keep the tokens of a list of ids (one a line, or JSON), beside --vocab-from those as well.",
        ),
        option(
            SECTION,
            "--vocab-size",
            type=click.IntRange(min=1),
            metavar="N",
            help="With --vocab-from: N tokens at most, the most frequent ones.",
        ),
    )
    return reduce(lambda made, add: add(made), reversed(declared), command)


@dataclass(frozen=True, slots=True)
class Words:
    """What the options come to.

    Attributes:
        model: whose vocabulary it is. folder: that it lies in, where it was given as one.
        ids: of the tokens that stay. whole: the tokenizer; None: there is none.
        made: what was chosen, and shown of it; None where a saved plan says the ids.
    """

    model: Path
    folder: Folder | None
    ids: tuple[int, ...]
    whole: Tokenizer | None
    made: Vocabulary | None

    def check(self, output: Path, *, force: bool) -> None:
        """Refuse, before any work, to write over what is there.

        Raises:
            OutputError: a file beside the output exists.
        """
        for path in self._beside(output):
            check_beside("the tokenizer's file", path, self.model, output, force=force)

    def write(self, output: Path, plan: Plan, *, force: bool) -> None:
        """Write the tokenizer and the map of ids beside a model; a folder has them already."""
        if self.folder is not None or not self.ids:
            return
        from bot_onnx._onnxfile.writer import write_text
        from bot_onnx._vocabulary import cut_tokenizer, id_map

        self.check(output, force=force)
        texts = [id_map(self.ids, plan.source_tokens)]
        if self.whole is not None:
            cut = self.made.cut if self.made is not None else cut_tokenizer(self.whole, self.ids)
            texts = [json.dumps(cut.data, ensure_ascii=False, indent=2) + "\n", *texts]
        for path, text in zip(self._beside(output), texts, strict=True):
            write_text(path, text, force=force)

    def _beside(self, output: Path) -> list[Path]:
        if self.folder is not None or not self.ids:
            return []
        names = ["tokenizer.json", "vocabulary_map.json"] if self.whole is not None else ["vocabulary_map.json"]
        return [output.with_name(f"{output.stem}.{name}") for name in names]

    def told(self, plan: Plan) -> dict[str, Any]:
        """What is saved, and what the text showed, for JSON."""
        before, after = _numbers(plan)
        told: dict[str, Any] = {
            "tokens": [plan.source_tokens, len(self.ids)],
            "parameters_of_tokens": [before, after],
            "tokenizer": None if self.whole is None else self.whole.place,
        }
        if self.made is not None and self.made.shown is not None:
            choice, shown = self.made.choice, self.made.shown
            told["text"] = {
                "lines": shown.lines,
                "lines_of_the_same_tokens": shown.same,
                "different_tokens": choice.seen,
                "tokens": choice.counted,
                "tokens_that_stay": choice.covered,
            }
        return told

    def say(self, plan: Plan) -> None:
        """The same, on stderr, in a line or three."""
        told = self.told(plan)
        (rows, kept), (before, after) = told["tokens"], told["parameters_of_tokens"]
        click.echo(
            f"Vocabulary: {rows:,} tokens to {kept:,}; {before:,} of {plan.parameters[0]:,} parameters were of tokens, "
            f"{after:,} of {plan.parameters[1]:,} are.",
            err=True,
        )
        if self.whole is None:
            click.echo(
                "Note: there is no tokenizer.json, so the model alone was cut (--tokenizer names one).", err=True
            )
        if "text" in told:
            text = told["text"]
            same, lines = text["lines_of_the_same_tokens"], text["lines"]
            click.echo(
                f"Vocabulary: {same:,} of {lines:,} lines are made of the same tokens by the cut tokenizer"
                + ("." if same == lines else f"; {text['tokens'] - text['tokens_that_stay']:,} of {text['tokens']:,} "
                   "tokens of the others went, and are made of other ones."),
                err=True,
            )  # fmt: skip


def chosen_words(model: Path, values: Mapping[str, Any], stored: Plan | None) -> Words | None:
    """What stays of the vocabulary, by the options or by a saved plan; None: nothing was said of it.

    Raises:
        click.UsageError: options that do not go together.
        DataError: there is no text, no list, no tokenizer, or the cut one gives something else.
    """
    texts, keep, size = values["vocab_from"], values["vocab_keep"], values["vocab_size"]
    asked = bool(texts) or keep is not None
    if size is not None and not texts:
        raise click.UsageError("'--vocab-size' counts tokens of a text: give --vocab-from TEXT with it.")
    if asked and values["vocab"] is not None:
        raise click.UsageError(
            "'--vocab' counts the first tokens: leave it out beside '--vocab-from' or '--vocab-keep'."
        )
    if not asked and (stored is None or not stored.asked.tokens):
        if values["tokenizer"] is not None and values["learn"] is None:
            raise click.UsageError(
                "'--tokenizer' belongs to '--vocab-from', '--vocab-keep' or '--learn': give one of them."
            )
        return None
    from bot_onnx._folders.layout import find_folder

    folder = find_folder(str(model) if str(model).startswith("hf:") else model, values["file"])
    whole = _tokenizer(model, folder, values["tokenizer"])
    if stored is not None:
        return Words(model, folder, stored.asked.tokens, whole, None)
    return _chosen(model, folder, whole, values)


def _chosen(model: Path, folder: Folder | None, whole: Tokenizer | None, values: Mapping[str, Any]) -> Words:
    from bot_onnx._vocabulary import TOKENIZER, cut_vocabulary, named_ids, read_ids
    from bot_onnx.errors import DataError

    listed = () if values["vocab_keep"] is None else read_ids(values["vocab_keep"])
    if whole is None:
        if values["vocab_from"]:
            raise DataError(f"a text is counted by the model's tokenizer: name its {TOKENIZER} with --tokenizer")
        return Words(model, folder, listed, None, None)
    also = set(listed)
    if folder is not None:
        for place, text in _configs(folder).items():
            also |= named_ids(folder.parsed(place, text)) & whole.tokens.keys()
    made = cut_vocabulary(whole, values["vocab_from"], also=also, size=values["vocab_size"])
    return Words(model, folder, made.ids, whole, made)


def _configs(folder: Folder) -> dict[str, str]:
    from bot_onnx._folders.vocabulary import GENERATION
    from bot_onnx._target.reader import read_text

    found = [place for place in folder.copied() if place.rsplit("/", 1)[-1] == GENERATION]
    return {**folder.configs(), **{place: read_text(folder.path / place) for place in found}}


def _tokenizer(model: Path, folder: Folder | None, given: Path | None) -> Tokenizer | None:
    from bot_onnx._vocabulary import TOKENIZER, Tokenizer

    if folder is not None:
        if given is not None:
            raise click.UsageError("'--tokenizer' is for a MODEL that is a file: of a folder its own is cut.")
        places = [folder.path / TOKENIZER, folder.model.parent / TOKENIZER]
    else:
        places = [given / TOKENIZER if given.is_dir() else given] if given is not None else []
        places = places or [model.resolve().parent / TOKENIZER]
    found = next((place for place in places if place.is_file()), None)
    if found is None and given is not None:
        return Tokenizer.read(places[0])  # which says that it cannot
    return None if found is None else Tokenizer.read(found)


def _numbers(plan: Plan) -> tuple[int, int]:
    """Parameters along the tokens, before and after."""
    from math import prod

    from bot_onnx._structure import Role

    tasks = [stack.task for stack in plan.stacks if any(axis.role == Role.VOCAB for axis in stack.task.axes)]
    return sum(prod(task.source_shape) for task in tasks), sum(prod(task.target_shape) for task in tasks)
