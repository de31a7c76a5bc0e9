"""The card of a model that a recipe has made: where it comes from, what was done, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bot_onnx import __version__
from bot_onnx._cli.recipes.read import Recipe
from bot_onnx._folders.card import plain, table
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.reader import open_model
from bot_onnx._report.recipe_report import outcome
from bot_onnx._report.units import size

if TYPE_CHECKING:
    from bot_onnx._cli.recipes.job import Told


def recipe_card(recipe: Recipe, steps: Sequence[Told], licence: str) -> str:
    """The text of the card, in Markdown.

    Args:
        recipe: what was done. steps: before the card, all of them done. licence: for the front matter; empty: none.
    """
    source = sum(file.stat().st_size for file in (recipe.model, *named_files(recipe.model)))
    made = [(plain(step.name), _size(step, source), plain(outcome(step.command, step.result))) for step in steps]
    front = ["---", *([f"license: {plain(licence)}"] if licence else []), "tags:", "- onnx", "- bot-onnx", "---"]
    sections = [
        "\n".join(front),
        f"# {plain(recipe.output.stem)}",
        f"Made from `{recipe.model.name}` by bot-onnx {__version__}, step by step.",
        table(("", ""), [("source", plain(recipe.model.name)), ("SHA-256 of it", _sha256(recipe))]),
        "## Steps\n\n" + table(("step", "size", "outcome"), [("source", size(source), ""), *made]),
    ]
    for step in steps:
        if sides := _beside(step.result):
            sections.append(f"## Beside the floats: {plain(step.name)}\n\n" + table(*sides))
        if checks := _checks(step.result):
            sections.append(f"## Checks: {plain(step.name)}\n\n" + table(("check", "result", "seen"), checks))
    sections.append(f"## Recipe\n\n```\n{recipe.path.read_text(encoding='utf-8').replace('```', '').rstrip()}\n```")
    return "\n\n".join(sections) + "\n"


def _sha256(recipe: Recipe) -> str:
    with open_model(recipe.model) as source:
        return source.sha256()


def _size(step: Told, source: int) -> str:
    if step.size_bytes is None:
        return ""
    return f"{size(step.size_bytes)} ({step.size_bytes / source:.0%} of the source)"


def _checks(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Of ``verify``, and of a resize, whose report lies inside."""
    report = result.get("report", result)
    return [(plain(one["name"]), one["status"], plain(one["detail"])) for one in report.get("checks", ())]


def _beside(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]] | None:
    told = result.get("quantized", result)
    rows: list[tuple[str, ...]] = [
        (
            plain(one["output"]),
            "" if one["relative"] is None else f"{one['relative']:.1%}",
            "" if one["agreement"] is None else f"{one['agreement']:.1%} of {one['rows']}",
        )
        for one in told.get("closeness", ())
    ]
    return (("output", "difference / scale", "same largest"), rows) if rows else None
