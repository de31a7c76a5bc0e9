"""Every argument that names a file says whether it is read or written, and what is read is never written over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import click
import onnx
import pytest
from click.testing import CliRunner, Result

from bot_onnx._cli import cli
from bot_onnx._cli.app import commands
from bot_onnx._cli.method_options import PREFIX
from bot_onnx._cli.paths import Command, Read, ReadData, ReadModel, ReadScore, WrittenPath
from tests.graphs import residual_mlp_model

#: Arguments that take any text, and name no file.
TEXTS = frozenset(
    "--file --connect --layers --dim --constant --shard-size --scheduler --field --mean --std --pixel-std --max-size "
    "--max-params --max-macs --max-latency --keep --input-shape --strip --explain --from --learn name".split()
)
#: What must be given with some.
WITH = {"--quantize-on": ("--quantize", "int8")}


def made(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command, or those of a group."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for inner, one in command.commands.items():
        yield from made(one, f"{name} {inner}")


def all_commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    return dict(entry for name in commands() for entry in made(cli.get_command(context, name), name))  # type: ignore[arg-type]


def params(command: click.Command) -> list[click.Parameter]:
    return command.get_params(click.Context(command))


COMMANDS = all_commands()
PAIRS = [
    pytest.param(name, read, written, id=f"{name} {read.opts[0]} {written.opts[0]}")
    for name, command in COMMANDS.items()
    for read, written in product(params(command), repeat=2)
    if isinstance(read.type, Read) and isinstance(written.type, WrittenPath)
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_that_names_a_file_says_what_becomes_of_it(name: str) -> None:
    command = COMMANDS[name]
    for param in params(command):
        if isinstance(param.type, click.Path):
            assert isinstance(param.type, Read | WrittenPath), f"{name} {param.opts[0]} is neither read nor written"
        elif isinstance(param.type, click.types.StringParamType) and not str(param.name).startswith(PREFIX):
            assert param.opts[0] in TEXTS, f"{name} {param.opts[0]}: a type of paths.py, or a text that names no file?"
        if isinstance(param.type, Read | WrittenPath):
            assert isinstance(command, Command), f"{name} does not look at what its arguments say"


def line_of(folder: Path, command: click.Command, given: dict[str, str]) -> Iterator[str]:
    """A line with all that must be given, and the options that are."""
    for param in params(command):
        flag, known = param.opts[0], given.get(str(param.name))
        if known is None and not param.required:
            continue
        if known is None and isinstance(param.type, click.Choice):
            known = str(param.type.choices[0])
        if known is None:
            known = str(folder / f"another-{param.name}")
            Path(known).write_text("of another")
        yield from (known,) if isinstance(param, click.Argument) else (*WITH.get(flag, ()), flag, known)
    if any(param.name == "force" for param in params(command)):
        yield "--force"


def run(name: str, folder: Path, given: dict[str, str]) -> Result:
    return CliRunner().invoke(cli, [*name.split(), *line_of(folder, COMMANDS[name], given)])


def as_given(param: click.Parameter, path: Path) -> str:
    return f"{path}:score" if isinstance(param.type, ReadScore) else str(path)


@pytest.mark.parametrize(("name", "read", "written"), PAIRS)
def test_no_command_writes_over_what_it_reads(
    name: str, read: click.Parameter, written: click.Parameter, tmp_path: Path
) -> None:
    file = tmp_path / "given"
    file.write_text("not to be lost")
    (tmp_path / "soft").symlink_to(file)
    os.link(file, tmp_path / "hard")
    for place in (file, tmp_path / "soft", tmp_path / "hard"):
        shown = run(name, tmp_path, {str(read.name): as_given(read, file), str(written.name): str(place)})
        refused = (2, "is a file") if not written.type.file_okay else (1, "is a source of this command")  # type: ignore[attr-defined]
        assert shown.exit_code == refused[0] and refused[1] in shown.output, shown.output
        assert file.read_text() == "not to be lost" and place.read_text() == "not to be lost"


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if isinstance(command, Command)])
def test_no_command_writes_two_files_to_one_place(name: str, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    kinds = [param for param in params(COMMANDS[name]) if isinstance(param.type, WrittenPath) and param.type.file_okay]
    for first, second in product(kinds, repeat=2):
        if first is second:
            continue
        given: dict[str, Any] = {first.name: tmp_path / "made", second.name: tmp_path / "inside" / ".." / "made"}
        shown = run(name, tmp_path, {key: str(path) for key, path in given.items()})
        assert shown.exit_code == 1 and "; give it a file of its own" in shown.output, shown.output
        assert not (tmp_path / "made").exists()


def test_files_of_data_are_all_that_a_pattern_or_a_folder_stands_for(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    for name in ("a.txt", "b.txt", "inside/one.PNG", "inside/two.wav", "inside/out.onnx", "inside/out.onnx.recover"):
        (tmp_path / name).write_text(name)
    texts, images = [tmp_path / "a.txt", tmp_path / "b.txt"], [tmp_path / "inside/one.PNG", tmp_path / "inside/two.wav"]
    assert sorted(ReadData().files(tmp_path / "*.txt")) == texts and ReadData().files(texts[0]) == texts[:1]
    for folder in (tmp_path, tmp_path / "inside", tmp_path / "in*"):
        assert ReadData().files(folder) == images
    for data, log in ((tmp_path / "*.txt", texts[1]), (tmp_path, images[0])):
        shown = run("recover", tmp_path, {"data": str(data), "log": str(log)})
        assert shown.exit_code == 1 and "is a source of this command" in shown.output


def test_files_of_a_model_are_all_that_is_read_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    model = folder / "model.onnx"
    onnx.save(residual_mlp_model(), model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (folder / "linked.onnx").symlink_to(model)
    for name in ("tokenizer.json", "config.json", "page.html", "sweep.db"):
        (folder / name).touch()
    of_file = {folder / name for name in ("model.onnx", "weights.bin", "tokenizer.json", "preprocessor_config.json")}
    assert set(ReadModel().files(model)) == of_file
    link = tmp_path / "link.onnx"
    link.symlink_to(model)
    assert {folder / "tokenizer.json", tmp_path / "tokenizer.json"} < set(ReadModel().files(link))
    inside = {"model.onnx", "linked.onnx", "weights.bin", "tokenizer.json", "config.json"}
    assert {file.name for file in ReadModel().files(folder)} == inside
