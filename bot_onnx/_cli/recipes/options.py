"""A step's words as the arguments of its command, read by the very parameters of that command."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from bot_onnx._cli.paths import Read, ReadSpec, WrittenPath
from bot_onnx._cli.recipes.read import PLAIN, Step, refuse_unknown
from bot_onnx.errors import SpecError

#: Before the name of a step, or ``model``: what that one made.
MARK: Final = "$"
#: Words that are no step's: the recipe names the files, and says what is shown.
OWN: Final = frozenset(
    "output force json quiet help dry-run plan-out against-plan recipe-out file resume jobs scheduler restart log "
    "log-every tensorboard".split()
)
#: Words that no step may have, as they make files beside the model's, and a recipe's steps hand on a model alone.
BESIDE: Final = frozenset({"vocab-from", "vocab-keep", "vocab-size"})
_TOKENIZER: Final = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command: its text, the file or folder that it names, if any, and all that is read there."""

    text: str
    path: Path | None = None
    read: tuple[Path, ...] = ()


CARD: Final = click.Command(
    "card",
    params=[
        click.Argument(["model"]),
        click.Option(["--output"], type=WrittenPath(dir_okay=False)),
        click.Option(["--licence"]),
    ],
)


def command_of(step: Step) -> click.Command:
    """The command that a step runs."""
    if step.command == "card":
        return CARD
    command: click.Command = import_module(f"bot_onnx._cli.commands.{step.command}").command
    return command


def arguments_of(step: Step, base: Path, made: Mapping[str, Path]) -> list[Argument]:
    """The arguments of a step, but for its model and its output.

    Args:
        step: the step. base: folder that relative paths are seen from.
        made: what ``model`` and the steps before it stand for, by name.

    Raises:
        SpecError: a word that the command has not, or a value that is none.
    """
    where = f"step '{step.name}'"
    words = _words(step)
    told = {str(key).replace("_", "-"): value for key, value in step.options.items()}
    if step.command != "card":
        for word in told.keys() & OWN:
            raise SpecError(f"{where}: '{word}' is said by the recipe, not by a step: leave it out")
    refuse_beside(told, where)
    refuse_unknown(told, words, f"{where}: '{step.command}'")
    if step.command == "recover":
        told.setdefault("teacher", f"{MARK}model")
    found: list[Argument] = []
    for word, value in told.items():
        place = f"{where}: '{word}'"
        found += _given(words[word], f"--{word}", value, place, lambda text, at=place: _path(text, base, made, at))
    return found


def refuse_beside(words: Iterable[str], where: str) -> None:
    """Refuse what would make a tokenizer that no step could be given.

    Raises:
        SpecError: names the word, and what to do.
    """
    for word in sorted(BESIDE.intersection(words)):
        raise SpecError(
            f"{where}: '{word}' makes a tokenizer as well, and the steps of a recipe hand on a model alone: cut the "
            "vocabulary by a command of its own, and let the recipe begin with the model that it makes"
        )


def check_arguments(step: Step, model: Path, arguments: list[Argument]) -> None:
    """Let the command read its arguments, without running it.

    Raises:
        SpecError: it refuses them.
    """
    command = command_of(step)
    try:
        context = command.make_context(step.command, [str(model), *(argument.text for argument in arguments)])
        if step.command == "resize":
            _check_resize(command, context.params)
    except click.UsageError as error:
        raise SpecError(f"step '{step.name}': {error.format_message()}") from error


def implied(step: Step, arguments: list[Argument], made: Mapping[str, Path]) -> list[Path]:
    """Files that a step reads though no word of it names them."""
    if step.command != "recover" or any(argument.text.startswith("--tokenizer=") for argument in arguments):
        return []
    named = [argument.path for argument in arguments if argument.text.startswith("--teacher=")]
    beside = [path.with_name(_TOKENIZER) for path in (*named, made["model"]) if path is not None]
    return [path for path in dict.fromkeys(beside) if path.is_file()]


def _check_resize(command: click.Command, values: Mapping[str, Any]) -> None:
    """What ``resize`` itself checks of its options before it opens the model."""
    from bot_onnx._cli.commands.resize import TARGET_KEYS
    from bot_onnx._cli.method_options import PREFIX, chosen_options
    from bot_onnx._cli.target import target_spec

    own = {key: value for key, value in values.items() if key.startswith(PREFIX)}
    chosen_options(values["method"], own, command.params)
    if values["plan"] is None:
        target_spec(values["spec"], {key: values.get(key) for key in TARGET_KEYS})


def _words(step: Step) -> dict[str, click.Option]:
    command = command_of(step)
    options = [param for param in command.get_params(click.Context(command)) if isinstance(param, click.Option)]
    named = {flag[2:]: param for param in options for flag in param.opts if flag.startswith("--")}
    return named if step.command == "card" else {word: param for word, param in named.items() if word not in OWN}


def _given(param: click.Option, flag: str, value: Any, where: str, path: Any) -> list[Argument]:
    if param.is_flag:
        if not isinstance(value, bool):
            raise SpecError(f"{where} is true or false, not {value!r}")
        off = param.secondary_opts[:1]
        return [Argument(text) for text in ([flag] if value else off)]
    if value is None:
        raise SpecError(f"{where} has no value")
    if not param.multiple:
        return [_argument(param, flag, _text(value, where), path)]
    pairs = [f"{key}={one}" for key, one in value.items()] if isinstance(value, dict) else value
    return [_argument(param, flag, _text(one, where), path) for one in (pairs if isinstance(pairs, list) else [pairs])]


def _argument(param: click.Option, flag: str, text: str, path: Any) -> Argument:
    found: Path | None = path(text) if isinstance(param.type, Read | WrittenPath) else None
    if found is None or (isinstance(param.type, ReadSpec) and not found.exists()):  # the name of a published one
        return Argument(f"{flag}={text}")
    return Argument(f"{flag}={found}", found, tuple(param.type.files(found)) if isinstance(param.type, Read) else ())


def _text(value: Any, where: str) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list):
        if not all(isinstance(one, PLAIN) for one in value):
            raise SpecError(f"{where} is a list of numbers or words, not {value!r}")
        return ",".join(map(str, value))
    return str(value)


def _path(text: str, base: Path, made: Mapping[str, Path], where: str) -> Path:
    if not text.startswith(MARK):
        return base / text
    if (name := text[len(MARK) :]) not in made:
        known = ", ".join(f"{MARK}{each}" for each in made)
        raise SpecError(f"{where}: nothing before it is called '{text}'; there is {known}", alternatives=made)
    return made[name]
