"""How a command may end: every error becomes one message on stderr and an exit code.

With ``--json`` it becomes a value on stdout as well, unless a result stands there already. The codes (``docs/api.md``):
0 done; 1 refused; 2 wrong usage (click's); 3 a check failed; 4 a defect; 130 interrupted; 141 the reader of the output
went away; 143 terminated.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from bot_onnx._ended import told_to_end
from bot_onnx.errors import BotError, VerifyError

REFUSED, CHECK_FAILED, DEFECT, INTERRUPTED, PIPE_CLOSED = 1, 3, 4, 130, 141
DEBUG_VARIABLE = "BOT_ONNX_DEBUG"
_TOLD = "bot_onnx.told"  # in click's context: a JSON value stands on stdout


@contextmanager
def guarded(as_json: bool = False) -> Iterator[None]:
    """Run a command so that none of its errors becomes a traceback, unless ``BOT_ONNX_DEBUG=1`` asks for it.

    Args:
        as_json: also print errors as JSON on stdout.
    """
    try:
        with told_to_end():
            yield
        with named_stdout():  # what is still buffered meets a closed pipe or a full disk here, not at the very end
            pass
    except click.UsageError as error:
        _tell(as_json, "usage", error.format_message())
        raise
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BotError as error:
        code = CHECK_FAILED if isinstance(error, VerifyError) else REFUSED
        _tell(as_json, error.kind, str(error), error.node, error.dim, error.alternatives)
        _fail(f"error: {error}", code)
    except KeyboardInterrupt:
        _tell(as_json, "interrupted", "interrupted")
        _say("interrupted")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        _close_quietly()
        raise click.exceptions.Exit(PIPE_CLOSED) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
        _tell(as_json, "system", message)
        _fail(f"error: {message}")
    except MemoryError as error:
        message = f"not enough memory{f': {error}' if str(error) else ''}; close other programs or use --device cpu"
        _tell(as_json, "memory", message)
        _fail(f"error: {message}")
    except Exception as error:
        message = (
            f"unexpected {type(error).__name__}: {error}. This is a defect of bot-onnx: please report it with the "
            f"command and the model's name; {DEBUG_VARIABLE}=1 shows where it happened."
        )
        _tell(as_json, "defect", message)
        _fail(f"error: {message}", DEFECT)


def error_json(
    kind: str, message: str, node: str | None = None, dim: str | None = None, alternatives: Iterable[int | str] = ()
) -> dict[str, Any]:
    """A failure as a JSON value, the same for every command."""
    told = {"kind": kind, "message": message, "node": node, "dim": dim, "alternatives": [*alternatives]}
    return {"error": told}


def note_json() -> None:
    """Say that a JSON value stands on stdout: a second one would be none that a program could read."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[_TOLD] = True


def _tell(as_json: bool, *error: Any) -> None:
    """Print an error as JSON, if that is asked for and can be."""
    context = click.get_current_context(silent=True)
    if not as_json or (context is not None and context.meta.get(_TOLD)):
        return
    with suppress(OSError):
        click.echo(json.dumps(error_json(*error), indent=2))
        sys.stdout.flush()


@contextmanager
def guarded_help() -> Iterator[None]:
    """Around everything: help and versions are printed before a command begins."""
    try:
        yield
    except OSError as error:
        _close_quietly()
        _say(f"error: stdout: {error.strerror or error}")
        raise SystemExit(REFUSED) from None


@contextmanager
def standing(*outputs: Path | None) -> Iterator[None]:
    """Tell of a job that is done: whatever goes wrong with that, the files that it has written are there."""
    try:
        yield
        with named_stdout():
            pass
    except BaseException:
        names = " and ".join(str(output) for output in outputs if output is not None)
        if names:
            _say(f"{names}: written and whole all the same; what failed came after")
        raise


@contextmanager
def named_stdout() -> Iterator[None]:
    """Print in this block: what stdout does not take, at once or at the flush, is an error that names it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _close_quietly()
        raise OSError(error.errno, error.strerror, "stdout") from error


def _fail(message: str, code: int = REFUSED) -> None:
    if os.environ.get(DEBUG_VARIABLE) not in (None, "", "0"):
        traceback.print_exc()
    _say(message)
    raise click.exceptions.Exit(code) from None


def _say(message: str) -> None:
    """Print one line on stderr, whatever a model's names or another library's message put into it."""
    line = " ".join(message.split())
    with suppress(OSError):
        click.echo("".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line), err=True)


def _close_quietly() -> None:
    """Point stdout at the null device: the interpreter flushes it once more at its end."""
    with suppress(OSError, ValueError, AttributeError):
        number = sys.stdout.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)
