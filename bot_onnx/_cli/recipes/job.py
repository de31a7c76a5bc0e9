"""A recipe carried out: what is done already stays, what is not is made, step by step."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

import click

from bot_onnx import __version__
from bot_onnx._cli.recipes.card import recipe_card
from bot_onnx._cli.recipes.options import Argument, arguments_of, check_arguments, command_of, implied
from bot_onnx._cli.recipes.read import MAKERS, Recipe, Step, refuse_unknown
from bot_onnx._cli.recipes.work import Done, Work, alone_at, digest, read_work
from bot_onnx._onnxfile.copying import copy_model
from bot_onnx._onnxfile.data_files import named_files
from bot_onnx._onnxfile.writer import check_output, write_text
from bot_onnx.errors import BotError, OutputError, SpecError, VerifyError

State = Literal["made", "kept", "to do"]
#: Around every step that is carried out: told its name, its number and how many there are.
Around = Callable[[Step, int, int], AbstractContextManager[object]]

_CARD: Final = "card"


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a step.

    Attributes:
        name, command: of the step. line: its command, to be given alone.
        state: ``made`` now; ``kept``: as an earlier run made it; ``to do``: nothing was carried out.
        output: what it makes, if anything. size_bytes: of that, with its data; None where it is not there yet.
        seconds: that it took, or would not take again. result: what its command says with ``--json``.
    """

    name: str
    command: str
    line: tuple[str, ...]
    state: State
    output: Path | None
    size_bytes: int | None
    seconds: float
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """A recipe that was carried out, or would be."""

    recipe: Recipe
    steps: tuple[Told, ...]
    output: Path
    seconds: float


def run_recipe(recipe: Recipe, around: Around, *, start: str | None, force: bool, dry_run: bool) -> Ran:
    """Carry out a recipe.

    Args:
        recipe: what to do. around: see :data:`Around`.
        start: name of the step from which on everything is made again; None: what has changed alone.
        force: replace an output that this recipe did not write. dry_run: only say what would be done.

    Raises:
        BotError: something was refused or failed; steps that are done stay done.
    """
    began = time.perf_counter()
    if start is not None:
        names = [step.name for step in recipe.steps]
        refuse_unknown({start: None}, names, f"--from: {recipe.path}")
    run = _Run(recipe, around, start, force)
    run.check()
    if dry_run:
        told = run.steps(dry=True)
    else:
        with alone_at(recipe.work):
            run.work = read_work(recipe.work)
            told = run.steps(dry=False)
            run.publish()
    return Ran(recipe, tuple(told), recipe.output, time.perf_counter() - began)


@dataclass(slots=True)
class _Run:
    recipe: Recipe
    around: Around
    start: str | None
    force: bool
    work: Work = field(init=False)
    places: dict[str, Path] = field(init=False)
    arguments: dict[str, list[Argument]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recipe = self.recipe
        if recipe.model.is_dir():
            raise SpecError(f"{recipe.model} is a folder: a recipe takes the .onnx file in it")
        self.work = read_work(recipe.work)
        self.places = {"model": recipe.model}
        for number, step in enumerate(recipe.steps, 1):
            if step.command in MAKERS:
                self.places[step.name] = recipe.work / f"{number}-{step.name}" / recipe.output.name

    def check(self) -> None:
        """Refuse, before any work, what is wrong with any of the steps, and outputs that must not be written.

        Raises:
            SpecError: a step's options. OutputError: an output. OSError: there is no model.
        """
        os.stat(self.recipe.model)
        made, model = {"model": self.recipe.model}, self.recipe.model
        for step in self.recipe.steps:
            found = arguments_of(step, self.recipe.path.absolute().parent, made)
            check_arguments(step, model, found)
            self._check_there(step, found)
            self.arguments[step.name] = found
            if step.name in self.places:
                model = made[step.name] = self.places[step.name]
        self._check_outputs()

    def _check_there(self, step: Step, arguments: Iterable[Argument]) -> None:
        for path in (argument.path for argument in arguments if step.command != _CARD):
            if path is not None and path not in self.places.values() and not path.exists():
                raise SpecError(f"step '{step.name}': there is no {path}")

    def _check_outputs(self) -> None:
        recipe = self.recipe
        given = [file for step in recipe.steps for file in self._read(step)]
        files = [recipe.path, recipe.model, *named_files(recipe.model), *given]
        check_output(recipe.output, force=self.force or self._is_ours(recipe.output), sources=files)
        cards = [self._card(step) for step in recipe.steps if step.command == _CARD]
        if len({recipe.output.absolute(), *cards}) < 1 + len(cards):
            raise OutputError(f"{recipe.path}: two outputs have one name: give every card an 'output' of its own")
        for card in cards:
            check_output(card, force=self.force or self._is_ours(card), sources=[*files, recipe.output])

    def _read(self, step: Step) -> list[Path]:
        """All that a step reads, but for its model."""
        arguments = self.arguments[step.name]
        return [*(file for one in arguments for file in one.read), *implied(step, arguments, self.places)]

    def _is_ours(self, path: Path) -> bool:
        """Whether a file that is there is what this recipe has written, and nobody has changed since."""
        return path.is_file() and digest(path) == self.work.written.get(str(path.absolute()))

    def _card(self, step: Step) -> Path:
        named = (one.path for one in self.arguments[step.name] if one.text.startswith("--output="))
        path = next(named, None) or self.recipe.output.with_suffix(".md")
        return path.absolute()

    def steps(self, *, dry: bool) -> list[Told]:
        """Go through all of them."""
        told: list[Told] = []
        model, again = self.recipe.model, False
        for number, step in enumerate(self.recipe.steps, 1):
            again = again or step.name == self.start
            key = None if dry and not model.exists() else self._key(step, model, told)
            known = self.work.done.get(step.name)
            if known is not None and known.key == key and not again and known.stands():
                told.append(self._told(step, model, "kept", known))
            elif dry:
                told.append(self._told(step, model, "to do", None))
                again = again or step.command in MAKERS  # what follows is made of what is not there yet
            else:
                with self.around(step, number, len(self.recipe.steps)):
                    known = self._make(step, model, told, str(key))
                told.append(self._told(step, model, "made", known))
            model = self.places.get(step.name, model)
        return told

    def _key(self, step: Step, model: Path, before: list[Told]) -> str:
        """Digest of all that a step is made from; of paths, what lies there counts."""
        arguments = self.arguments[step.name]
        read = [
            [one.text.partition("=")[0], digest(one.path)]
            if one.path is not None and one.path.exists() and step.command != _CARD
            else [one.text]
            for one in arguments
        ]
        also = [digest(path) for path in implied(step, arguments, self.places)]
        told = [[one.name, one.result] for one in before] if step.command == _CARD else []
        made = [__version__, step.command, digest(model), read, also, told]
        return sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()

    def _make(self, step: Step, model: Path, before: list[Told], key: str) -> Done:
        began = time.perf_counter()
        self.work.done.pop(step.name, None)
        out = self.places.get(step.name)
        if step.command == _CARD:
            out = self._card(step)
            licence = next(
                (one.text[10:] for one in self.arguments[step.name] if one.text.startswith("--licence=")), ""
            )
            text = recipe_card(self.recipe, before, licence)
            write_text(out, text, force=self.force or self._is_ours(out), sources=[self.recipe.path])
            self.work.written[str(out)] = digest(out)
            result: dict[str, Any] = {"output": str(out)}
        else:
            result = _carried_out(step, [*self._line(step, model), *(["--force"] if out is not None else [])])
        outputs = {} if out is None else {str(out): digest(out)}
        self.work.done[step.name] = done = Done(key, outputs, result, time.perf_counter() - began)
        self.work.note()
        return done

    def _line(self, step: Step, model: Path) -> list[str]:
        out = self.places.get(step.name)
        return [
            str(model),
            *(one.text for one in self.arguments[step.name]),
            *([] if out is None else ["-o", str(out)]),
        ]

    def _told(self, step: Step, model: Path, state: State, done: Done | None) -> Told:
        out = self._card(step) if step.command == _CARD else self.places.get(step.name)
        size = (
            sum(file.stat().st_size for file in [out, *named_files(out)]) if out is not None and out.exists() else None
        )
        line = () if step.command == _CARD else ("bot-onnx", step.command, *self._line(step, model))
        result, seconds = ({}, 0.0) if done is None else (dict(done.result), done.seconds)
        return Told(step.name, step.command, line, state, out, size, seconds, result)

    def publish(self) -> None:
        """Give the last model its name."""
        last = [self.places[step.name] for step in self.recipe.steps if step.name in self.places][-1]
        wanted, output = digest(last), self.recipe.output
        if not output.is_file() or digest(output) != wanted:
            copy_model(last, output, force=self.force or self._is_ours(output))
        if self.work.written.get(str(output.absolute())) != wanted:
            self.work.written[str(output.absolute())] = wanted
            self.work.note()


def _carried_out(step: Step, arguments: list[str]) -> dict[str, Any]:
    """What a step's command prints as JSON.

    Raises:
        BotError, OSError: as the command does, with the step's name before the message.
    """
    printed = io.StringIO()
    command = command_of(step)
    try:
        with redirect_stdout(printed), command.make_context(step.command, [*arguments, "--json"]) as context:
            command.invoke(context)
    except click.exceptions.Exit as ended:
        if ended.exit_code:
            raise VerifyError(f"step '{step.name}': {_failed(json.loads(printed.getvalue()))}") from None
    except click.UsageError as error:
        raise SpecError(f"step '{step.name}': {error.format_message()}") from error
    except BotError as error:
        error.args = (f"step '{step.name}': {error}", *error.args[1:])
        raise
    told: dict[str, Any] = json.loads(printed.getvalue())
    return told


def _failed(report: Mapping[str, Any]) -> str:
    failed = [check for check in report.get("checks", ()) if check.get("status") == "fail"]
    return "; ".join(f"check '{check['name']}': {check['detail']}" for check in failed) or "a check failed"
