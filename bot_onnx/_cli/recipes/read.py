"""A recipe as it is written: YAML, TOML or JSON, checked word by word."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bot_onnx._installing import needing
from bot_onnx._onnxfile.addresses import as_address
from bot_onnx.errors import SpecError

COMMANDS: Final = ("resize", "recover", "quantize", "verify", "card")
MAKERS: Final = frozenset({"resize", "recover", "quantize"})  #: those that a model comes of
PLAIN: Final = str | int | float  #: what one value of an option is
_KEYS: Final = ("model", "output", "work", "steps")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a recipe.

    Attributes:
        name: unique: the command's, with a number behind it from the second one on.
        command: which one it is. options: by the words of the command's options.
    """

    name: str
    command: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a file says.

    Attributes:
        path: of the file; relative paths in it are seen from its folder.
        model: the source. output: where the last model goes. work: folder of all that lies between.
        steps: in the order in which they run.
    """

    path: Path
    model: Path
    output: Path
    work: Path
    steps: tuple[Step, ...]


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; the options of its steps are checked by :mod:`bot_onnx._cli.recipes.options`.

    Raises:
        SpecError: it is none, or says what a recipe does not. OSError: it cannot be read.
        MissingRuntimeError: it is YAML, and PyYAML is not installed.
    """
    told = _parsed(path)
    if not isinstance(told, dict):
        raise SpecError(f"{path}: a recipe is a mapping with the keys {', '.join(_KEYS)}")
    refuse_unknown(told, _KEYS, f"{path}: a recipe")
    for key in ("model", "output", "steps"):
        if key not in told:
            raise SpecError(f"{path} has no '{key}': 'bot-onnx run --example' prints a whole recipe")
    base = path.absolute().parent
    named = {key: _text(told[key], f"{path}: '{key}'") for key in ("model", "output", "work") if key in told}
    for key, name in named.items():
        if (address := as_address(name)) is not None:
            raise SpecError(f"{path}: '{key}' is {address}, and a recipe reads and writes files on this machine alone")
    places = {key: base / name for key, name in named.items()}
    steps = _steps(told["steps"], path)
    if not any(step.command in MAKERS for step in steps):
        raise SpecError(f"{path}: no step makes a model: give {', '.join(sorted(MAKERS))}")
    return Recipe(
        path=path,
        model=places["model"],
        output=places["output"],
        work=places.get("work", base / f"{path.stem}.work"),
        steps=steps,
    )


def refuse_unknown(told: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse a key that is none of those that are known, with the nearest of these.

    Raises:
        SpecError: there is one.
    """
    from bot_onnx._target.messages import suggested, suggestion

    every = tuple(known)
    for key in told:
        if key not in every:
            raise SpecError(
                f"{where} has no '{key}'{suggestion(str(key), every) or '; known: ' + ', '.join(every)}",
                alternatives=suggested(str(key), every),
            )


def _steps(told: Any, path: Path) -> tuple[Step, ...]:
    if not isinstance(told, list) or not told:
        raise SpecError(f"{path}: 'steps' is a list of commands with their options, such as - resize: {{layers: 2}}")
    counts: dict[str, int] = {}
    made = []
    for number, entry in enumerate(told, 1):
        where = f"{path}: step {number}"
        entry = {entry: None} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or len(entry) != 1:
            raise SpecError(f"{where} is to be one command with its options: - resize: {{layers: 2}}")
        refuse_unknown(entry, COMMANDS, f"{where}: a recipe")
        ((command, options),) = entry.items()
        if not isinstance(options, dict | None):
            raise SpecError(f"{where}: the options of '{command}' are a mapping: {{layers: 2}}")
        counts[command] = count = counts.get(command, 0) + 1
        made.append(Step(command if count == 1 else f"{command}-{count}", command, options or {}))
    return tuple(made)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise SpecError(f"{where} is a path, not {value!r}")
    return value


def _parsed(path: Path) -> Any:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"there is no recipe {path}: 'bot-onnx run --example' prints one to start from") from None
    try:
        match path.suffix.lower():
            case ".json":
                return json.loads(text, object_pairs_hook=_once)
            case ".toml":
                return tomllib.loads(text.decode())
            case ".yaml" | ".yml":
                return _yaml(text, path)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    raise SpecError(f"{path}: a recipe ends in .yaml, .toml or .json")


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A mapping whose keys stand there once each: of two, none is what was meant for certain."""
    made: dict[Any, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key!r} stands there twice")
        made[key] = value
    return made


def _yaml(text: bytes, path: Path) -> Any:
    with needing("PyYAML reads recipes in YAML (those in .toml and .json need nothing)", "cpu", "recipes"):
        import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            self.flatten_mapping(node)
            return _once([(self.construct_object(k, True), self.construct_object(v, True)) for k, v in node.value])

    Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError) as error:
        raise SpecError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
