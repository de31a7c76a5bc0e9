"""What an argument that names a file is to its command: something that it reads, or something that it writes.

Every such argument has one of these types (a test goes over all of them), so that one place knows what a command reads,
and nothing that it writes replaces that: neither what it is told to write, nor what it writes beside it.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from bot_onnx.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # which older versions of click do not make generic

#: What is read beside a model, or a teacher, where no option names another.
_BESIDE: Final = ("tokenizer.json", "preprocessor_config.json")
#: What nothing reads in a model's folder: pages, tables and studies, which commands may write there.
_UNREAD: Final = frozenset({".html", ".csv", ".db"})


class Read:
    """Of an argument that names what the command reads."""

    def files(self, value: Any) -> list[Path]:
        """The files that a value of it stands for; they need not be there."""
        return [Path(value)]


class ReadPath(Read, click.Path):
    """A file that is read.

    Args:
        inside: the file that is meant where it is a folder; None: it is none.
        settings: of :class:`click.Path`.
    """

    def __init__(self, *, inside: str | None = None, **settings: Any) -> None:
        super().__init__(**{"path_type": Path, **settings})
        self._inside = inside

    def files(self, value: Any) -> list[Path]:
        """The file, or that in the folder."""
        path = Path(value)
        return [path if self._inside is None or not path.is_dir() else path / self._inside]


class ReadModel(ReadPath):
    """A model that is read, or a folder with one."""

    def files(self, value: Any) -> list[Path]:
        """Its data files as well, and what is read beside it; of a folder all that commands do not write there."""
        from bot_onnx._onnxfile.data_files import named_files

        path = Path(value)
        if path.is_dir():
            return [file for file in path.rglob("*") if file.suffix.lower() not in _UNREAD]
        places = {path.absolute(), path.resolve()}
        return [path, *named_files(path), *(place.with_name(name) for place in places for name in _BESIDE)]


class ReadCheckpoint(ReadPath):
    """A checkpoint that is read: a file, an index of several, or a folder with either."""

    def files(self, value: Any) -> list[Path]:
        """All of its files."""
        from bot_onnx._checkpoint.files import INDEX, checkpoint_files

        path = Path(value)
        found = [path / INDEX if path.is_dir() else path]
        with suppress(CheckpointError):  # what opens it says so
            found += checkpoint_files(path)
        return found


class ReadData(ReadPath):
    """Samples that are read: a file, a folder, or a pattern of files."""

    def files(self, value: Any) -> list[Path]:
        """The file, the samples in the folder, or all that the pattern stands for."""
        path = Path(value)
        if not path.exists():
            return [file for name in glob.glob(str(value), recursive=True) for file in self.files(name)]
        if not path.is_dir():
            return [path]
        from bot_onnx._recover.images import find_images
        from bot_onnx._recover.records import is_table
        from bot_onnx._recover.sounds import find_sounds

        return list(path.rglob("*")) if is_table(path) else [*find_images([path]), *find_sounds([path])]


class ReadSpec(Read, _ParamType):
    """A spec that is read, a config, a folder with one, or the name of a published one; the text stays as it is."""

    name = "spec"

    def files(self, value: Any) -> list[Path]:
        """The file, or the config in the folder."""
        path = Path(value)
        return [path / "config.json" if path.is_dir() else path]


class ReadScore(Read, _ParamType):
    """``FILE.py:FUNCTION``, or a word for a score that is built in; the text stays as it is."""

    name = "score"

    def files(self, value: Any) -> list[Path]:
        """The file of the function."""
        return [Path(value.rpartition(":")[0])] if ":" in value else []


class WrittenPath(click.Path):
    """A file, or a folder, that the command writes to."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"path_type": Path, **settings})


class Command(click.Command):
    """A command that writes over nothing that its arguments name to be read."""

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse that before anything is done; then run the command."""
        with _guarded(ctx):
            return super().invoke(ctx)


@contextmanager
def _guarded(ctx: click.Context) -> Iterator[None]:
    """Let nothing in the block write over what the arguments say is read.

    Raises:
        OutputError: an argument is to be written, and is read, or written as another one.
    """
    from bot_onnx._onnxfile.read_only import is_same, reading, refuse_source

    params = ctx.command.get_params(ctx)
    with reading(lambda: [file for param in params for file in _read(param, ctx)]):
        written = [(param, path) for param in params for path in _written(param, ctx)]
        for param, path in written:
            try:
                refuse_source(path)
            except OutputError as error:
                raise OutputError(f"{param.opts[0]}: {error}") from error
        for (first, path), (second, other) in combinations(written, 2):
            if not path.is_dir() and is_same(path, other):
                raise OutputError(f"{second.opts[0]} {other}: that is {first.opts[0]}'s; give it a file of its own")
        yield


def _values(param: click.Parameter, ctx: click.Context) -> list[Any]:
    value = ctx.params.get(param.name or "")
    return [one for one in (value if isinstance(value, tuple) else (value,)) if one is not None]


def _read(param: click.Parameter, ctx: click.Context) -> list[Path]:
    kind = param.type
    return [file for value in _values(param, ctx) for file in kind.files(value)] if isinstance(kind, Read) else []


def _written(param: click.Parameter, ctx: click.Context) -> list[Path]:
    return [Path(value) for value in _values(param, ctx)] if isinstance(param.type, WrittenPath) else []
