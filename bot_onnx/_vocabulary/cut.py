"""A tokenizer with some of its tokens, under new ids."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from bot_onnx._vocabulary.closure import Closure, pair_of
from bot_onnx._vocabulary.tokenizer import Tokenizer
from bot_onnx.errors import DataError


def cut_tokenizer(tokenizer: Tokenizer, kept: Sequence[int]) -> Tokenizer:
    """Take the other tokens out of a tokenizer.

    Args:
        tokenizer: the whole one.
        kept: ids that stay, in ascending order; the new id of a token is its place among them.

    Raises:
        DataError: a token that must stay does not, or the library gives a token another id.
    """
    new = {old: place for place, old in enumerate(kept)}
    closure = Closure(tokenizer)
    gone = sorted(closure.always - new.keys())
    if gone:
        named = ", ".join(f"{ident} ({tokenizer.tokens.get(ident)!r:.30})" for ident in gone[:5])
        more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
        raise DataError(f"tokens that {tokenizer.place} cannot do without are to go: {named}{more}; keep them")
    data = copy.deepcopy(tokenizer.data)
    _cut_model(data["model"], tokenizer, closure, new)
    for entry in data.get("added_tokens") or ():
        entry["id"] = new[int(entry["id"])]
    if isinstance(data.get("added_tokens"), list):
        data["added_tokens"].sort(key=lambda entry: entry["id"])
    made = Tokenizer(tokenizer.place, data)
    for piece in made.parts("post_processor"):
        _renumber(piece, new)
    if isinstance(data.get("padding"), dict) and "pad_id" in data["padding"]:
        data["padding"]["pad_id"] = new[int(data["padding"]["pad_id"])]
    _check(made, tokenizer, new)
    return made


def _cut_model(model: dict[str, Any], whole: Tokenizer, closure: Closure, new: Mapping[int, int]) -> None:
    if isinstance(model["vocab"], list):
        model["vocab"] = [entry for ident, entry in enumerate(model["vocab"]) if ident in new]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[int(model["unk_id"])]
        return
    stay = {token: new[ident] for token, ident in whole.ids.items() if ident in new}
    model["vocab"] = dict(sorted(stay.items(), key=lambda entry: entry[1]))
    if "merges" in model:
        pairs = ((entry, pair_of(entry)) for entry in model["merges"] or ())
        model["merges"] = [entry for entry, pair in pairs if {*pair, closure.joined(pair)} <= stay.keys()]


def _renumber(piece: dict[str, Any], new: Mapping[int, int]) -> None:
    """The ids that a post-processor names."""
    if piece.get("type") == "TemplateProcessing":
        for entry in (piece.get("special_tokens") or {}).values():
            entry["ids"] = [new[int(ident)] for ident in entry["ids"]]
    for key in ("sep", "cls"):
        if isinstance(piece.get(key), list) and len(piece[key]) == 2:
            piece[key][1] = new[int(piece[key][1])]


def _check(made: Tokenizer, whole: Tokenizer, new: Mapping[int, int]) -> None:
    """Ask the library itself what every token is now."""
    for old, place in new.items():
        token = whole.tokens.get(old)
        found = None if token is None else made.library.token_to_id(token)
        if token is not None and found != place:
            raise DataError(
                f"{whole.place}: token {token!r:.40} would be {found} and not {place}, as its row is: the ids of this "
                "tokenizer have gaps that a cut one cannot have"
            )
